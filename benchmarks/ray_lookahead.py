"""Measures how many candidates it pays to ask a Ray cluster about at once.

``python benchmarks/ray_lookahead.py [--rounds N]`` purifies the embedded example with two actors,
on the Ray cluster that RAY_ADDRESS names, or on one on this machine.
"""

from __future__ import annotations

import argparse
import statistics

import ray

import flain_core as flain
import flain_numpy
import flain_ray
from flain_cli import example

NUMBERS = (1, 4, 16, 64)


def main() -> None:
    """Print a line for each number, with the median of all rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    initial, final, data, *_ = example.files().paths
    model, start = flain_numpy.load(final), flain_numpy.load(initial)
    ray.init()
    seconds: dict[int, list[float]] = {number: [] for number in NUMBERS}
    # Alternate the numbers in each round, so that a busy moment affects all of them.
    for _ in range(rounds):
        for number in NUMBERS:
            with flain_ray.Shards(data, actors=2, lookahead=number) as shards:
                result = flain.purify(model, initial=start, data=shards)
            seconds[number].append(result.layers[0].seconds)
    candidates = len(result.layers[0].steps)
    print(f"{candidates} candidates, {rounds} rounds")  # noqa: T201
    for number, taken in seconds.items():
        print(f"lookahead {number:3}: search {statistics.median(taken):.2f} s")  # noqa: T201


if __name__ == "__main__":
    main()
