"""A job in POC mode of whose three trusted sites one goes down while it is asked.

python killed_job.py WORKSPACE SERVER CLIENT, as restricted_job.py. Site 3 notes its process in
WORKSPACE and then does not answer the second question; this kills that process and those that
started it by their ids, so that none is left to report the others.
"""

import sys
import time
from pathlib import Path

import backdoored
import numpy as np
import psutil
from hospital.hanging import Hanging
from hospital.network import Network
from hospital.trainer import Trainer
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
from nvflare.job_config.api import FedJob
from poc_mode import sites

from flain_nvflare import Answering, Purify, TrustedClients

MODEL = "hospital.network:Network"
SITES = (1, 2, 3)


def job_of(workspace):
    job = FedJob("killed", min_clients=2)
    job.set_app_packages(["hospital", "flain_nvflare"])
    persistor = job.to_server(PTFileModelPersistor(model=Network()), id="persistor")
    job.to_server(FedAvg(num_clients=3, num_rounds=1, persistor_id=persistor))
    trusted = TrustedClients([f"site-{number}" for number in SITES], timeout=8)
    job.to_server(Purify(data=trusted))
    for number in SITES:
        x, y = backdoored.samples(200, seed=10 + number)
        data = str(workspace / f"clean-{number}.npz")
        np.savez(data, x=x, y=y)
        if number == 3:
            answering = Hanging(data=data, model=MODEL, note=str(workspace / "pid"))
        else:
            answering = Answering(data=data, model=MODEL)
        job.to(Trainer(), f"site-{number}", tasks=["train"])
        job.to(answering, f"site-{number}", tasks=["flain_question"])
    return job


def take_down(site, process):
    above = [each for each in process.parents() if f"/{site}" in " ".join(each.cmdline())]
    # From above, so that nobody sees another end.
    for each in [*reversed(above), process]:
        each.kill()


def main(workspace, server, client):
    with sites(workspace, len(SITES), server, client) as session:
        session.submit_job(job_of(workspace))
        (note,) = waited(workspace, "pid")
        take_down("site-3", psutil.Process(int(note.read_text())))
        # NVIDIA FLARE goes on waiting for the site to end the job; the purification does not.
        (report,) = waited(workspace, "poc/*/prod_00/server/*/purification.json")
        # The server clears the folder of a job that is stopped.
        (workspace / "purification.json").write_bytes(report.read_bytes())


def waited(workspace, pattern, seconds=240):
    until = time.monotonic() + seconds
    while not (found := list(workspace.glob(pattern))) and time.monotonic() < until:
        time.sleep(0.2)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *sys.argv[2:])
