"""Reads every tensor that a model's graph stores."""

from __future__ import annotations

from onnx import ModelProto

from flain_core.network import Array

from ._model import OnnxModel
from ._stored import Stored, read


def stored_tensors(model: OnnxModel | ModelProto) -> dict[str, Array]:
    """Return the initializers of a model's main graph, by name, those in external files too.

    Args:
        model: A model. Sparse tensors, and those inside functions and If or Loop, are left out.

    Raises:
        WeightsError: A tensor cannot be read.

    >>> import numpy as np
    >>> from onnx import helper, numpy_helper
    >>> weight = numpy_helper.from_array(np.ones(2, np.float32), "weight")
    >>> stored_tensors(helper.make_model(helper.make_graph([], "example", [], [], [weight])))
    {'weight': array([1., 1.], dtype=float32)}
    """
    model = model if isinstance(model, OnnxModel) else OnnxModel(model)
    return {
        tensor.name: read(
            Stored(tensor.name, tensor, tuple(range(len(tensor.dims))), tensor.data_type, False),
            model,
        )
        for tensor in model.proto.graph.initializer
    }
