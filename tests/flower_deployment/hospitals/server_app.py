"""Trains a round, and has every node asked about its clean samples."""

import json
import time
from pathlib import Path

import backdoored
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

import flain_numpy
from flain_flower import Purify, TrustedNodes

app = ServerApp()


@app.main()
def main(grid, context):
    config = context.run_config
    while len(list(grid.get_node_ids())) < 3:
        time.sleep(0.5)
    model, _ = backdoored.networks()
    arrays = {name: Array(each) for name, each in flain_numpy.arrays_of(model).items()}
    strategy = Purify.from_config(
        config,
        FedAvg(fraction_evaluate=0.0),
        model=model,
        data=TrustedNodes(grid, "all", timeout=config["timeout"]),
    )
    strategy.start(grid, ArrayRecord(arrays), num_rounds=1)
    done = strategy.purification
    told = {
        "folder": str(strategy.folder),
        "metrics": dict(strategy.metrics or {}),
        "asked": done and done.to_dict()["asked"],
    }
    (Path(config["notes"]) / "server.json").write_text(json.dumps(told))
