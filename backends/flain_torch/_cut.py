"""One batch, run once up to a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from flain_core.backend_kit import stacked_calls
from flain_core.errors import LayerError, ModelError
from flain_core.network import Array

from ._batch import TorchBatch
from ._contribution import LayerInput, copied_input
from ._layers import WeightLayer, wide
from ._replay import Replay
from ._rows import row_by_row
from ._run import on_cpu, run, scores_array
from ._tape import Escapes, Tape


@dataclass(eq=False)
class _Observation:
    """The inputs and outputs of a layer in one run: copies, as the model may overwrite them."""

    name: str
    layer: WeightLayer
    inputs: list[LayerInput] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    replay: Replay | None = None


class TorchCut:
    """Implements :class:`flain_core.network.Cut` with tensors on the module's device.

    ``output`` is float32 or float64, whatever the layer computes in. The tail is replayed from a
    recording; where the model's Python code looks at values, the whole module runs with the layer's
    output replaced.
    """

    def __init__(self, module: nn.Module, batch: TorchBatch, seen: _Observation) -> None:
        self._module, self._batch, self._seen = module, batch, seen
        self._by_sample = [entered.by_sample(batch.size) for entered in seen.inputs]
        self.calls = len(self._by_sample)
        """The number of times that the layer ran on the batch."""

    @cached_property
    def inputs(self) -> Array:
        """``(n, in, *positions)``, read only."""
        return stacked_calls([x.cpu().numpy() for x in self._by_sample])

    @cached_property
    def output(self) -> Tensor:
        """The pre-activation in the layer's own layout."""
        return self._only_output.to(wide(self._only_output.dtype))

    def linear(self, weight: Array, neurons: Array) -> Tensor:
        """Return what ``neurons`` contribute to the pre-activation under ``weight``.

        Gathering is fastest if ``weight`` lies in memory column by column (``order="F"``).
        """
        return self._seen.inputs[0].linear(weight, neurons, self.output)

    def tail(self, output: Tensor) -> Array:
        """Return the scores ``(n, ...)`` if the pre-activation were ``output``, any float type."""
        seen = self._only_output
        if self._seen.replay is not None:
            return scores_array(self._seen.replay(output))

        def replaced(*_: object) -> Tensor:
            return output.to(seen.dtype, copy=True)

        # First in line: hooks of the model's owner must see the replacement as they see the output.
        hook = self._seen.layer.register_forward_hook(replaced, prepend=True)
        try:
            return scores_array(run(self._module, self._batch))
        finally:
            hook.remove()

    @property
    def tail_by_sample(self) -> Callable[[Array], Array] | None:
        """The scores of any samples; None where the tail is not known to treat each by itself.

        Also None on other devices than the CPU, whose tensors would have to leave them for it.
        """
        replay, output = self._seen.replay, self._only_output
        is_matrix = output.device.type == "cpu" and output.dim() == 2
        if replay is None or not is_matrix or not row_by_row(replay.steps):
            return None
        return lambda rows: on_cpu(replay(torch.from_numpy(rows))).numpy()

    @property
    def _only_output(self) -> Tensor:
        if self.calls != 1:
            raise LayerError(
                f"layer {self._seen.name!r} ran {self.calls} times on one batch; evaluate the "
                "whole network instead of a cut"
            )
        return self._seen.outputs[0]


def cut_at(name: str, layer: WeightLayer, module: nn.Module, batch: TorchBatch) -> TorchCut:
    """Run ``module`` once and keep what a cut at ``layer``, called ``name``, needs."""
    seen = _Observation(name, layer)
    try:
        _record(seen, module, batch)
    except ModelError:
        # A recording can fail where the model works, for example on higher-order operators.
        seen = _Observation(name, layer)
        with _observing(seen, None):
            run(module, batch)
    if not seen.inputs:
        raise LayerError(
            f"layer {name!r} was not called on the batch, so its inputs cannot be observed: "
            "the model does not use it, or uses its weight directly"
        )
    return TorchCut(module, batch, seen)


def _record(seen: _Observation, module: nn.Module, batch: TorchBatch) -> None:
    tape = Tape(constant=module.parameters())
    with _observing(seen, tape), tape, Escapes(tape):
        scores = run(module, batch)
    seen.replay = tape.replay(scores)


@contextmanager
def _observing(seen: _Observation, tape: Tape | None) -> Iterator[None]:
    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.inputs.append(copied_input(seen.layer, args[0] if args else kwargs["input"]))

    def after(_: nn.Module, __: object, output: Tensor) -> None:
        # If the layer runs several times, only its inputs are of use.
        if len(seen.inputs) == 1:
            seen.outputs.append(output.detach().clone())
            if tape is not None:
                tape.start(output)
        elif tape is not None:
            tape.stop()

    hooks = [
        seen.layer.register_forward_pre_hook(before, with_kwargs=True),
        seen.layer.register_forward_hook(after, prepend=True),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
