"""A job for sites that forbid custom code, in POC mode.

python restricted_job.py WORKSPACE SERVER CLIENT, the last two with the prefixes that the server's
and each client's own list has beside NVIDIA FLARE's, and commas between them. It ends what it
started, and writes the job's status into WORKSPACE.
"""

import json
import os
import sys
import time
from pathlib import Path

import backdoored
import numpy as np
from hospital.network import Network
from hospital.trainer import Trainer
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
from nvflare.job_config.api import FedJob
from nvflare.recipe.session_mgr import SessionManager
from nvflare.tool.poc import poc_commands as poc

from flain_nvflare import Answering, Purify, TrustedClients

ADMIN = "admin@nvidia.com"
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


def restrict(site, allowed):
    """Give a site a list of its own, as its operator would write it."""
    path = site / "local" / "resources.json"
    default = path.with_suffix(".json.default")
    resources = json.loads(default.read_text())
    resources["class_allow_list"] = [*resources["class_allow_list"], *allowed]
    path.write_text(json.dumps(resources))


def main(workspace, server, client):
    place = workspace / "poc"
    os.environ["NVFLARE_POC_WORKSPACE"] = str(place)
    poc.prepare_poc_provision([], 2, str(place), None, False, "", None)
    (prod,) = (place / "example_project").glob("prod_*")
    for name, allowed in (("server", server), ("site-1", client), ("site-2", client)):
        restrict(prod / name, allowed.split(","))
    poc._start_poc(poc_workspace=str(place), gpu_ids=[], excluded=[ADMIN], services_list=[])
    try:
        time.sleep(3)
        kit = {"username": ADMIN, "startup_kit_location": str(prod / ADMIN), "timeout": 20}
        session = SessionManager(kit)
        job = session.submit_job(job_of(workspace))
        result = session.get_job_result(job, timeout=80)
        (workspace / "status.txt").write_text(f"{session.get_job_status(job)} {result}")
    finally:
        poc._stop_poc(poc_workspace=str(place), excluded=[ADMIN], services_list=[])


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *sys.argv[2:])
