"""A federation on MNIST with some malicious clients, and a server that purifies the trained model.

FLAIN_DATA names the folder with MNIST/raw. Run it in NVIDIA FLARE's simulator:

    FLAIN_DATA=data python job.py --workspace flain-job

With --export --export-dir FOLDER it writes the job into a folder instead, to be submitted.
"""

import argparse
import json
import os
from pathlib import Path

import mnist
import numpy as np
from model import Network
from nvflare.app_opt.pt.recipes import FedAvgRecipe
from nvflare.recipe import SimEnv
from nvflare.recipe.utils import add_final_global_evaluation

from flain_nvflare import Purify, add_purification

HERE = Path(__file__).parent


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workspace", type=Path, required=True, help="Folder to write into.")
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--malicious", type=int, default=2)
    parser.add_argument("--samples", type=int, default=1200, help="Per client.")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (os.environ.get("FLAIN_DATA") and mnist.folder().is_dir()):
        parser.error("set FLAIN_DATA to a folder with MNIST/raw and its four files in it")
    # Absolute, as the clients run in folders of their own.
    os.environ["FLAIN_DATA"] = str(Path(os.environ["FLAIN_DATA"]).resolve())

    workspace = options.workspace.resolve()
    workspace.mkdir(parents=True, exist_ok=True)
    for name, (x, y) in (
        ("auxiliary", mnist.auxiliary(options.seed)),
        ("triggered", mnist.triggered()),
    ):
        np.savez(workspace / f"{name}.npz", x=x.numpy(), y=y.numpy())

    os.chdir(HERE)  # where the recipe looks for client.py
    recipe = FedAvgRecipe(
        name="mnist",
        model=Network(),
        min_clients=options.clients,
        num_rounds=options.rounds,
        train_script="client.py",
        train_args=f"--samples {options.samples} --malicious {options.malicious} "
        f"--epochs {options.epochs} --seed {options.seed}",
    )
    purify = Purify(
        data=str(workspace / "auxiliary.npz"),
        probes={"ASR": str(workspace / "triggered.npz")},
    )
    add_purification(recipe, purify)
    add_final_global_evaluation(recipe, participating_clients=[f"site-{options.clients}"])
    # With --export the job goes into a folder, and the script ends here.
    run = recipe.execute(SimEnv(num_clients=options.clients, workspace_root=str(workspace)))

    server = Path(run.get_result()) / "server" / "simulate_job"
    report = json.loads((server / "purification.json").read_text())
    evaluation = json.loads((server / "cross_site_val" / "cross_val_results.json").read_text())
    for when in ("before", "after"):
        measured = report[when]
        clean, success = measured["clean"], measured["probes"]["ASR"]
        print(f"{when}: ACC {clean:.1%} on the server's samples, ASR {success:.1%}")
    print("an honest client's evaluation of the purified model:", evaluation)
    print("purified:  ", server / "app_server" / "FL_global_model.pt")
    print("unpurified:", server / "app_server" / "unpurified_FL_global_model.pt")


if __name__ == "__main__":
    main()
