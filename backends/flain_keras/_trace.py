"""A function of one tensor, traced by the engine so that only what depends on it runs again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import keras

__all__ = ["Function", "traced"]

Function: TypeAlias = Callable[[Any], Any]


def traced(function: Function, example: Any) -> Function | None:
    """Trace ``function`` for tensors of the shape and type of ``example``.

    Returns:
        A function that gives the same; None if the engine cannot trace this one, because it looks
        at values, or cannot trace at all.
    """
    trace = {"tensorflow": _by_tensorflow, "jax": _by_jax, "torch": _by_torch}.get(
        keras.backend.backend()
    )
    try:
        return trace(function, example) if trace else None
    # The model's own code runs here, on tensors without values, and fails in its own ways.
    except Exception:
        return None


def _by_tensorflow(function: Function, example: Any) -> Function:
    import tensorflow as tf

    spec = tf.TensorSpec(example.shape, example.dtype)
    graph = tf.function(function, autograph=False, input_signature=[spec])
    concrete: Function = graph.get_concrete_function()
    return concrete


def _by_jax(function: Function, example: Any) -> Function:
    import jax

    compiled: Function = jax.jit(function)
    compiled(example)
    return compiled


def _by_torch(function: Function, example: Any) -> Function:
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.overrides import TorchFunctionMode

    ways_out = (torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__)

    class Escapes(TorchFunctionMode):
        """Notices values that leave torch; the other engines do so by themselves."""

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func in ways_out:
                raise RuntimeError("the model looks at values, which no trace can follow")
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Escapes():
        graph = make_fx(function)(example)

    def run(tensor: Any) -> Any:
        with torch.no_grad():
            return graph(tensor)

    return run
