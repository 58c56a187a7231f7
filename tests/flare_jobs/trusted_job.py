"""A job with clean samples at trusted clients: python trusted_job.py WORKSPACE.

Site 1 is not trusted. Sites 2 and 3 have half of the example's auxiliary samples each, and nobody
else has any; site 4 is trusted and lies.
"""

import sys
from pathlib import Path

import numpy as np
from nvflare.app_common.np.np_model_persistor import NPModelPersistor
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.job_config.api import FedJob
from trusted_clients import Lying, Trained

import flain_numpy
from flain_cli import example
from flain_nvflare import Answering, Purify, TrustedClients

SITES, TRUSTED = range(1, 5), range(2, 5)


def main(workspace):
    initial, final, auxiliary, *_ = example.files().paths
    for path in (initial, final):
        arrays = flain_numpy.arrays_of(flain_numpy.load(path)).values()
        vector = np.concatenate([array.ravel() for array in arrays])
        np.save(workspace / f"{path.stem}.npy", vector)
    with np.load(auxiliary) as samples:
        for site in TRUSTED:
            x, y = samples["x"][site % 2 :: 2], samples["y"][site % 2 :: 2]
            np.savez(workspace / f"clean-{site}.npz", x=x, y=y)

    job = FedJob("trusted", min_clients=len(SITES))
    start = NPModelPersistor(source_ckpt_file_full_name=str(workspace / "initial.npy"))
    persistor = job.to_server(start, id="persistor")
    job.to_server(FedAvg(num_clients=len(SITES), num_rounds=1, persistor_id=persistor))
    trusted = TrustedClients([f"site-{site}" for site in TRUSTED], timeout=60)
    job.to_server(Purify(data=trusted, model=str(initial)))
    for site in SITES:
        name = f"site-{site}"
        job.to(Trained(str(workspace / "final.npy")), name, tasks=["train"])
        if site in TRUSTED:
            kind = Lying if site == max(TRUSTED) else Answering
            answering = kind(data=str(workspace / f"clean-{site}.npz"), model=str(initial))
            job.to(answering, name, tasks=["flain_question"])
    job.simulator_run(str(workspace / "job"), threads=len(SITES))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
