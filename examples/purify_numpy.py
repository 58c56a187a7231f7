"""Purifies a NumPy network: ``python examples/purify_numpy.py``.

The model comes with flain: an MNIST network from a federation of 20 clients, six of them malicious.
"""

import numpy as np

import flain
import flain_numpy
from flain_cli import example

initial, final, auxiliary, clean, triggered = example.files(".npz").paths

result = flain.purify(final, initial=initial, data=auxiliary)


def share(network: flain_numpy.Network, path: str) -> float:
    """The share of the samples that get the label that they carry."""
    samples = np.load(path)
    return float((network.predict(samples["x"]).argmax(axis=1) == samples["y"]).mean())


before, after = flain_numpy.load(final), result.model
print(result.layers[0])
# The triggered samples carry the attacker's target as their label.
print(f"ACC {share(before, clean):.1%} -> {share(after, clean):.1%}")
print(f"ASR {share(before, triggered):.1%} -> {share(after, triggered):.1%}")
