"""A job without custom code: python listed_job.py WORKSPACE [PREFIX TO ALLOW]."""

import json
import sys
from pathlib import Path

import numpy as np
from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST
from nvflare.app_common.np.np_model_persistor import NPModelPersistor
from nvflare.app_common.np.np_trainer import NPTrainer
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.job_config.api import FedJob

import flain_numpy
from flain_nvflare import Purify


def main(workspace, *allowed):
    network = flain_numpy.Network([flain_numpy.Dense("scores", np.eye(3))])
    flain_numpy.save(network, workspace / "network.npz")
    x = np.tile([[1.0, 0.1, 0.0], [0.1, 1.0, 0.0]], (100, 1))
    np.savez(workspace / "clean.npz", x=x, y=np.tile([0, 1], 100))

    job = FedJob("listed", min_clients=1)
    job.set_app_packages(["flain_nvflare"])
    persistor = job.to_server(NPModelPersistor(model=np.eye(3).tolist()), id="persistor")
    job.to_server(FedAvg(num_clients=1, num_rounds=1, persistor_id=persistor))
    data, model = str(workspace / "clean.npz"), str(workspace / "network.npz")
    job.to_server(Purify(data=data, model=model))
    job.to_clients(NPTrainer(sleep_time=0), tasks=["train"])

    local = workspace / "job" / "local"
    local.mkdir(parents=True)
    policy = {"format_version": 2, "class_allow_list": [*DEFAULT_CLASS_ALLOW_LIST, *allowed]}
    (local / "resources.json.default").write_text(json.dumps(policy))
    sys.exit(job.simulator_run(str(workspace / "job"), n_clients=1, threads=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
