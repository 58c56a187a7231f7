"""The server runs FedAvg, and FLAIN after the last round."""

from pathlib import Path

import torch
from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from flain_flower import Purify

from .attack import triggered
from .mnist import auxiliary, read
from .task import accuracy, make_network

app = ServerApp()


@app.main()
def main(grid, context):
    config = context.run_config
    test = read(config["data"], "t10k")
    marked = triggered(test)

    def evaluate(_, arrays):
        network = make_network()
        network.load_state_dict(arrays.to_torch_state_dict())
        return MetricRecord({"ACC": accuracy(network, test), "ASR": accuracy(network, marked)})

    network = make_network(config["seed"])
    strategy = Purify.from_config(
        config,
        FedAvg(fraction_evaluate=0.0),
        model=network,
        data=tuple(auxiliary(config["data"], config["seed"])),
        folder=config["out"] or None,
    )
    result = strategy.start(
        grid,
        initial_arrays=ArrayRecord(network.state_dict()),
        num_rounds=config["rounds"],
        evaluate_fn=evaluate,
    )

    for server_round, metrics in result.evaluate_metrics_serverapp.items():
        when = f"round {server_round}" if server_round <= config["rounds"] else "purified"
        print(f"{when:9} ACC {metrics['ACC']:6.1%}   ASR {metrics['ASR']:6.1%}")
    if config["out"]:
        save(Path(config["out"]), strategy, result)


def save(folder, strategy, result):
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(strategy.trained_arrays.to_torch_state_dict(), folder / "trained.pt")
    torch.save(result.arrays.to_torch_state_dict(), folder / "purified.pt")
    if strategy.purification is not None:
        strategy.purification.to_json(folder / "report.json", overwrite=True)
