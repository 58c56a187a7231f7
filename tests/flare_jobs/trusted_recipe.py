"""A recipe whose clean samples are at site 2, while site 1 is malicious: python FILE WORKSPACE."""

import os
import sys
from pathlib import Path

import backdoored
import numpy as np
from nvflare.app_common.np.recipes import NumpyFedAvgRecipe
from nvflare.recipe import SimEnv

import flain_numpy
from flain_nvflare import Answering, Purify, TrustedClients, add_purification


def main(workspace):
    network, _ = backdoored.networks()
    model = str(workspace / "network.npz")
    flain_numpy.save(network, model)
    x, y = backdoored.samples(300, seed=11)
    np.savez(workspace / "clean.npz", x=x, y=y)
    flat = np.concatenate([array.ravel() for array in flain_numpy.arrays_of(network).values()])
    os.chdir(Path(__file__).parent)
    recipe = NumpyFedAvgRecipe(
        name="numpy",
        model=flat.tolist(),
        min_clients=2,
        num_rounds=3,
        train_script="numpy_client.py",
    )
    add_purification(recipe, Purify(data=TrustedClients(["site-2"]), model=model))
    answering = Answering(data=str(workspace / "clean.npz"), model=model)
    recipe._job.to_clients(answering, tasks=["flain_question"])
    recipe.run(SimEnv(num_clients=2, workspace_root=str(workspace)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
