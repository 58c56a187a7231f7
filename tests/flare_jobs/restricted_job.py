"""A job for sites that forbid custom code, in POC mode.

python restricted_job.py WORKSPACE SERVER CLIENT, the last two with the prefixes that the server's
and each client's own list has beside NVIDIA FLARE's, and commas between them. It ends what it
started, and writes the job's status into WORKSPACE.
"""

import sys
from pathlib import Path

import backdoored
import numpy as np
from hospital.network import Network
from hospital.trainer import Trainer
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
from nvflare.job_config.api import FedJob
from poc_mode import sites

from flain_nvflare import Answering, Purify, TrustedClients

MODEL = "hospital.network:Network"


def job_of(workspace):
    x, y = backdoored.samples(300, seed=11)
    np.savez(workspace / "clean.npz", x=x, y=y)
    job = FedJob("restricted", min_clients=2)
    job.set_app_packages(["hospital", "flain_nvflare"])
    persistor = job.to_server(PTFileModelPersistor(model=Network()), id="persistor")
    job.to_server(FedAvg(num_clients=2, num_rounds=1, persistor_id=persistor))
    job.to_server(Purify(data=TrustedClients(["site-2"], timeout=60)))
    job.to_clients(Trainer(), tasks=["train"])
    data = str(workspace / "clean.npz")
    job.to_clients(Answering(data=data, model=MODEL), tasks=["flain_question"])
    return job


def main(workspace, server, client):
    with sites(workspace, 2, server, client) as session:
        job = session.submit_job(job_of(workspace))
        result = session.get_job_result(job, timeout=300)
        (workspace / "status.txt").write_text(f"{session.get_job_status(job)} {result}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *sys.argv[2:])
