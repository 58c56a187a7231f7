"""One batch, run once up to a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from flain_core.errors import LayerError, ModelError
from flain_core.network import Array

from ._batch import TorchBatch
from ._contribution import LayerInput, copied_input
from ._escapes import Escapes
from ._kinds import WeightLayer
from ._orientation import wide
from ._replay import Replay
from ._rows import row_by_row
from ._run import run
from ._scores import as_array, on_cpu
from ._tape import Tape

__all__ = ["TorchCut", "cut_at"]


@dataclass(eq=False)
class _Observation:
    """What was seen at a layer during one run: copies, as the model may overwrite them."""

    inputs: list[LayerInput] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    replay: Replay | None = None


class TorchCut:
    """Implements :class:`flain_core.network.Cut` with tensors on the module's device.

    ``output`` is float32 or float64, whatever the layer computes in. The tail is replayed from a
    recording; where the model's Python code looks at values, the whole module runs with the layer's
    output replaced.
    """

    def __init__(
        self,
        name: str,
        layer: WeightLayer,
        module: nn.Module,
        batch: TorchBatch,
        seen: _Observation,
    ) -> None:
        self._name, self._layer, self._module, self._batch = name, layer, module, batch
        self._seen = seen
        self._by_sample = [entered.by_sample(batch.size) for entered in seen.inputs]

    @property
    def calls(self) -> int:
        """How often the layer ran on the batch."""
        return len(self._by_sample)

    @cached_property
    def inputs(self) -> Array:
        """``(n, in, *positions)``, read only."""
        first = self._by_sample[0]
        if self.calls > 1:
            first = torch.cat([x.flatten(2) for x in map(_with_positions, self._by_sample)], dim=2)
        array: Array = first.cpu().numpy()
        array.flags.writeable = False
        return array

    @cached_property
    def output(self) -> Tensor:
        """The pre-activation in the layer's own layout."""
        seen = self._only_output()
        return seen.to(wide(seen.dtype))

    def linear(self, weight: Array, neurons: Array) -> Tensor:
        """What ``neurons`` contribute to the pre-activation under ``weight``.

        Gathering is fastest if ``weight`` lies in memory column by column (``order="F"``).
        """
        return self._seen.inputs[0].linear(weight, neurons, self.output)

    def tail(self, output: Tensor) -> Array:
        """The scores ``(n, ...)`` if the pre-activation were ``output``, of any float type."""
        seen = self._only_output()
        if self._seen.replay is not None:
            return as_array(self._seen.replay(output))

        def replaced(*_: object) -> Tensor:
            return output.to(seen.dtype, copy=True)

        # First in line: hooks of the model's owner must see the replacement as they see the output.
        hook = self._layer.register_forward_hook(replaced, prepend=True)
        try:
            return as_array(run(self._module, self._batch))
        finally:
            hook.remove()

    @property
    def tail_by_sample(self) -> Callable[[Array], Array] | None:
        """The scores of any samples; None where the tail is not known to treat each by itself.

        Also None on other devices than the CPU, whose tensors would have to leave them for it.
        """
        replay, output = self._seen.replay, self._only_output()
        if replay is None or output.device.type != "cpu" or output.dim() != 2:
            return None
        if not row_by_row(replay.steps):
            return None
        return lambda rows: on_cpu(replay(torch.from_numpy(rows))).numpy()

    def _only_output(self) -> Tensor:
        if self.calls != 1:
            raise LayerError(
                f"layer {self._name!r} ran {self.calls} times on one batch; "
                "evaluate the whole network instead of a cut"
            )
        return self._seen.outputs[0]


def cut_at(name: str, layer: WeightLayer, module: nn.Module, batch: TorchBatch) -> TorchCut:
    """Run ``module`` once and keep what a cut at ``layer``, called ``name``, needs."""
    try:
        seen = _recorded(layer, module, batch)
    except ModelError:
        # A recording can fail where the model works, for example on higher-order operators.
        with _observed(layer, None) as seen:
            run(module, batch)
    if not seen.inputs:
        raise LayerError(
            f"layer {name!r} was not called on the batch, so its inputs cannot be observed: "
            "the model does not use it, or uses its weight directly"
        )
    return TorchCut(name, layer, module, batch, seen)


def _recorded(layer: WeightLayer, module: nn.Module, batch: TorchBatch) -> _Observation:
    tape = Tape(constant=module.parameters())

    def leaves(tensor: Tensor) -> None:
        if tape.depends(tensor):
            tape.stop()

    with _observed(layer, tape) as seen, tape, Escapes(leaves):
        scores = run(module, batch)
    seen.replay = tape.replay(scores)
    return seen


@contextmanager
def _observed(layer: WeightLayer, tape: Tape | None) -> Iterator[_Observation]:
    seen = _Observation()

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.inputs.append(copied_input(layer, args[0] if args else kwargs["input"]))

    def after(_: nn.Module, __: object, output: Tensor) -> None:
        # Of a layer that runs several times only the inputs are of use.
        if len(seen.inputs) == 1:
            seen.outputs.append(output.detach().clone())
            if tape is not None:
                tape.start(output)
        elif tape is not None:
            tape.stop()

    hooks = [
        layer.register_forward_pre_hook(before, with_kwargs=True),
        layer.register_forward_hook(after, prepend=True),
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _with_positions(x: Tensor) -> Tensor:
    return x.unsqueeze(2) if x.dim() == 2 else x
