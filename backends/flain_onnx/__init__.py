"""ONNX models for flain: open, load and save files and ModelProtos, run by onnxruntime.

>>> import numpy as np
>>> from onnx import TensorProto, helper, numpy_helper
>>> from flain_onnx import open_network
>>> weight = numpy_helper.from_array(np.ones((2, 3), np.float32), "fc1.weight")
>>> graph = helper.make_graph(
...     [helper.make_node("Gemm", ["x", "fc1.weight"], ["scores"], transB=1)], "example",
...     [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
...     [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2])], [weight])
>>> open_network(helper.make_model(graph)).layers()
{'fc1': Layer('fc1', dense, 2×3, 3 input neurons)}
"""

from __future__ import annotations

from flain_core.extras import needs

with needs("flain_onnx", "onnx", "onnx", "onnxruntime"):
    # Before protobuf, which comes with it, so that the error names what people know.
    import onnx as _  # noqa: F401

    from ._files import files_of, load, mark_of, save
    from ._model import OnnxModel
    from ._network import OnnxNetwork, open_network
    from ._tensors import stored_tensors

__all__ = [
    "OnnxModel",
    "OnnxNetwork",
    "files_of",
    "load",
    "mark_of",
    "open_network",
    "save",
    "stored_tensors",
]
