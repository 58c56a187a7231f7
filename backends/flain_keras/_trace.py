"""Functions of tensors, traced by the engine so that only what depends on the first runs again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
from keras import ops

Function: TypeAlias = Callable[..., Any]


@dataclass(eq=False)
class Traced:
    """A function of a tensor and of others, traced.

    Attributes:
        needed: The positions of those among the other tensors that the result depends on.
        function: A function of the tensor and the needed ones.
        together: The same for several such tensors, stacked; None where an engine gains nothing
            from that or cannot do it. It is traced when it is first called.
        compared: Whether that was held against one tensor at a time.
    """

    needed: tuple[int, ...]
    function: Function
    together: Function | None = None
    compared: bool = False


def traced(function: Function, tensor: Any, others: Sequence[Any]) -> Traced | None:
    """Trace ``function(tensor, *others)`` for tensors of these shapes and types.

    Return None if the engine cannot trace this one, because it looks at values, or cannot trace at
    all.
    """
    trace = {"tensorflow": _by_tensorflow, "jax": _by_jax, "torch": _by_torch}.get(
        keras.backend.backend()
    )
    try:
        return trace(function, tensor, others) if trace else None
    # The model's own code runs here, on tensors without values, and fails in its own ways.
    except Exception:
        return None


def compiled(function: Function) -> Function | None:
    """Compile a function on first use; None where the engine gains nothing from that."""
    match keras.backend.backend():
        case "tensorflow":
            import tensorflow as tf

            graph: Function = tf.function(function, autograph=False)
            return graph
        case "jax":
            import jax

            jitted: Function = jax.jit(function)
            return jitted
    return None


def _by_tensorflow(function: Function, tensor: Any, others: Sequence[Any]) -> Traced:
    import tensorflow as tf

    def graph_of(function: Function, *specs: Any) -> Any:
        return tf.function(function, autograph=False, input_signature=specs)

    def spec(one: Any) -> Any:
        return tf.TensorSpec(one.shape, one.dtype)

    whole = graph_of(function, spec(tensor), *map(spec, others)).get_concrete_function()
    reached, ahead = set(), [output.op for output in whole.outputs]
    while ahead:
        operation = ahead.pop()
        if operation not in reached:
            reached.add(operation)
            ahead += [one.op for one in operation.inputs] + list(operation.control_inputs)
    arguments = whole.inputs[1 : len(others) + 1]
    needed = tuple(i for i, argument in enumerate(arguments) if argument.op in reached)

    narrow = _narrow(function, others, needed)
    specs = [spec(others[i]) for i in needed]

    def together(stacked: Any, *few: Any) -> Any:
        return tf.vectorized_map(lambda one: narrow(one, *few), stacked)

    stacked = tf.TensorSpec([None, *tensor.shape], tensor.dtype)
    one_at_a_time = graph_of(narrow, spec(tensor), *specs).get_concrete_function()
    return Traced(needed, one_at_a_time, graph_of(together, stacked, *specs))


def _by_jax(function: Function, tensor: Any, others: Sequence[Any]) -> Traced:
    import jax

    jaxpr = jax.make_jaxpr(function)(tensor, *others).jaxpr
    reached = set(map(id, jaxpr.outvars))
    for equation in reversed(jaxpr.eqns):
        if equation.effects or not reached.isdisjoint(map(id, equation.outvars)):
            reached.update(map(id, equation.invars))
    needed = tuple(i for i, variable in enumerate(jaxpr.invars[1:]) if id(variable) in reached)

    narrow = _narrow(function, others, needed)
    several = jax.vmap(narrow, in_axes=(0, *[None] * len(needed)))
    return Traced(needed, jax.jit(narrow), jax.jit(several))


def _by_torch(function: Function, tensor: Any, others: Sequence[Any]) -> Traced:
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
        whole = make_fx(function)(tensor, *others)
    whole.graph.eliminate_dead_code()
    arguments = [node for node in whole.graph.nodes if node.op == "placeholder"][1:]
    needed = tuple(i for i, argument in enumerate(arguments) if argument.users)
    whole.recompile()

    def run(tensor: Any, *few: Any) -> Any:
        every: list[Any] = [None] * len(others)
        for position, one in zip(needed, few, strict=True):
            every[position] = one
        with torch.no_grad():
            return whole(tensor, *every)

    return Traced(needed, run)


def _narrow(function: Function, others: Sequence[Any], needed: Sequence[int]) -> Function:
    """Take away the tensors that a function does not depend on."""
    shapes = [(one.shape, one.dtype) for one in others]

    def narrow(tensor: Any, *few: Any) -> Any:
        given = dict(zip(needed, few, strict=True))
        every = [
            given[i] if i in given else ops.zeros(shape, dtype)
            for i, (shape, dtype) in enumerate(shapes)
        ]
        return function(tensor, *every)

    return narrow
