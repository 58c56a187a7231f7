"""Layers that answer differently while the model runs, and a record of what passes one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras

from ._replay import Recording
from ._run import Runner
from ._trace import Traced


@contextmanager
def answering(calls: Mapping[Any, Callable[..., Any]]) -> Iterator[None]:
    """Let some layers call these functions, not their own ``call``, inside a ``with`` block.

    Keras looks ``call`` up on the layer, so an attribute of the one object is enough. Nested blocks
    must end in the opposite order, as ``with`` makes sure.
    """
    before = {layer: vars(layer).get("call") for layer in calls}
    try:
        for layer, call in calls.items():
            vars(layer)["call"] = call
        yield
    finally:
        for layer, call in before.items():
            if call is None:
                vars(layer).pop("call", None)
            else:
                vars(layer)["call"] = call


@contextmanager
def _without_activation(layer: Any) -> Iterator[None]:
    """Leave a layer's activation out of its ``call`` inside a ``with`` block."""
    activation = layer.activation
    # An activation that is itself a layer is kept elsewhere on some engines: the instance's own
    # dictionary comes first on all of them.
    held = "activation" in vars(layer)
    vars(layer)["activation"] = None
    try:
        yield
    finally:
        if held:
            vars(layer)["activation"] = activation
        else:
            del vars(layer)["activation"]


@dataclass(eq=False)
class Observation:
    """A record of what passed a layer during one run.

    Attributes:
        recording: The calls of other layers before it.
        inputs: The tensors that entered it, call by call.
        output: Its first pre-activation; None if it was not called.
        dtype: The number type of that pre-activation.
        scores: The scores at the end of the run.
    """

    recording: Recording
    inputs: list[Any] = field(default_factory=list)
    output: Any = None
    dtype: str = ""
    scores: Any = None

    def beside(self, x: Any, traced: Traced) -> list[Any]:
        """List what a traced tail reads besides the pre-activation."""
        every = [*keras.tree.flatten(x), *self.recording.tensors]
        return [every[i] for i in traced.needed]


def observe(
    runner: Runner, layer: Any, x: Any, size: int, keep: Callable[[Any], Any]
) -> Observation:
    """Run the model once on n = ``size`` samples and note what passes a layer.

    ``keep`` makes of a tensor what the observation holds.
    """
    call, activation = layer.call, layer.activation
    seen = Observation(Recording(runner.model, layer))

    def observed(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        seen.inputs.append(keep(inputs))
        with _without_activation(layer):
            output = call(inputs, *args, **kwargs)
        # If the layer runs several times, only its inputs are of use.
        if seen.output is None:
            seen.output, seen.dtype = keep(output), keras.backend.standardize_dtype(output.dtype)
        return output if activation is None else activation(output)

    with answering(seen.recording.recording(observed)):
        seen.scores = keep(runner.run(x, size))
    return seen
