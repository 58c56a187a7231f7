"""Purifies an ONNX file: ``python examples/purify_onnx.py [PURIFIED.onnx]``.

The model comes with flain: an MNIST network from a federation of 20 clients, six of them malicious,
exported by ``torch.onnx.export(..., optimize=False)``.
"""

import sys

import numpy as np
import onnxruntime

import flain
from flain_cli import example

initial, final, auxiliary, clean, triggered = example.files(".onnx").paths

result = flain.purify(final, initial=initial, data=auxiliary)
if len(sys.argv) > 1:
    result.save(sys.argv[1])


def share(model: bytes, path: str) -> float:
    """The share of the samples that get the label that they carry."""
    samples = np.load(path)
    (scores,) = onnxruntime.InferenceSession(model).run(None, {"x": samples["x"]})
    return float((scores.argmax(axis=1) == samples["y"]).mean())


before, after = final.read_bytes(), result.model.proto.SerializeToString()
print(result.layers[0])
# The triggered samples carry the attacker's target as their label.
print(f"ACC {share(before, clean):.1%} -> {share(after, clean):.1%}")
print(f"ASR {share(before, triggered):.1%} -> {share(after, triggered):.1%}")
