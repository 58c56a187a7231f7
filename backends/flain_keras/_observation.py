"""What passes a layer while the model runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras

from ._patches import answering, without_activation
from ._replay import Recording
from ._run import Runner
from ._trace import Traced

__all__ = ["Observation", "observe"]


@dataclass(eq=False)
class Observation:
    """What was seen at a layer during one run.

    Attributes:
        recording: What ran before it.
        inputs: What entered it, call by call.
        output: Its first pre-activation; None if it was not called.
        dtype: The number type that it came in.
        scores: What the run ended with.
    """

    recording: Recording
    inputs: list[Any] = field(default_factory=list)
    output: Any = None
    dtype: str = ""
    scores: Any = None

    def beside(self, x: Any, traced: Traced) -> list[Any]:
        """What a traced tail reads besides the pre-activation."""
        every = [*keras.tree.flatten(x), *self.recording.tensors]
        return [every[i] for i in traced.needed]


def observe(
    runner: Runner, layer: Any, x: Any, size: int, keep: Callable[[Any], Any]
) -> Observation:
    """Run the model once on n = ``size`` samples and note what passes a layer.

    Args:
        runner: Runs the model.
        layer: The layer.
        x: The batch, tensors of the engine.
        size: How many samples it has.
        keep: Makes of a tensor what the observation holds.
    """
    call, activation = layer.call, layer.activation
    seen = Observation(Recording(runner.model, layer))

    def observed(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        seen.inputs.append(keep(inputs))
        with without_activation(layer):
            output = call(inputs, *args, **kwargs)
        # Of a layer that runs several times only the inputs are of use.
        if seen.output is None:
            seen.output, seen.dtype = keep(output), keras.backend.standardize_dtype(output.dtype)
        return output if activation is None else activation(output)

    with answering(seen.recording.recording(observed)):
        seen.scores = keep(runner.run(x, size))
    return seen
