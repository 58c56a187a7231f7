"""A NumPy job with a malicious client: python numpy_job.py WORKSPACE [DATA]."""

import os
import sys
from pathlib import Path

import backdoored
import numpy as np
from nvflare.app_common.np.recipes import NumpyFedAvgRecipe
from nvflare.recipe import SimEnv

import flain_numpy
from flain_nvflare import Purify, add_purification


def main(workspace, data="clean.npz"):
    network, _ = backdoored.networks()
    flain_numpy.save(network, workspace / "network.npz")
    for name, (x, y) in (
        ("clean", backdoored.samples(300, seed=11)),
        ("triggered", backdoored.triggered(200, seed=12)),
    ):
        np.savez(workspace / f"{name}.npz", x=x, y=y)
    flat = np.concatenate([array.ravel() for array in flain_numpy.arrays_of(network).values()])
    os.chdir(Path(__file__).parent)
    recipe = NumpyFedAvgRecipe(
        name="numpy",
        model=flat.tolist(),
        min_clients=2,
        num_rounds=3,
        train_script="numpy_client.py",
    )
    purify = Purify(
        data=str(workspace / data),
        model=str(workspace / "network.npz"),
        probes={"ASR": str(workspace / "triggered.npz")},
    )
    add_purification(recipe, purify)
    recipe.run(SimEnv(num_clients=2, workspace_root=str(workspace)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
