"""Purifies on workers that have no flain: python driver.py, or driver.py ships to send it along."""

import os
import sys
from pathlib import Path

import backdoored
import numpy as np
import ray

import flain_core as flain
import flain_numpy  # noqa: F401
import flain_ray

HERE = Path(__file__).parent


def leads_to_flain(path):
    return any((Path(path) / name).is_dir() for name in ("flain_core", "flain_ray", "flain_numpy"))


def start(**options):
    """A cluster of which neither the environment nor the path leads to flain."""
    os.environ["PYTHONPATH"] = str(HERE)
    kept, sys.path[:] = list(sys.path), [path for path in sys.path if not leads_to_flain(path)]
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, **options)
    sys.path[:] = kept


def main(*words):
    start(**({"runtime_env": flain_ray.runtime_env()} if words else {}))
    initial, final = backdoored.networks()
    clean = backdoored.samples(200, seed=11)
    try:
        with flain_ray.Shards(clean, actors=2) as shards:
            result = flain.purify(final, initial=initial, data=shards)
            told = f"flipped {np.flatnonzero(result.layers[0].flipped).tolist()}"
    except flain.FlainError as error:
        told = f"{type(error).__name__}: {error}"
    sys.stdout.write(f"\n{told}\n")
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
