"""Defences after training, by name: flain, flain's options, and the rivals."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

import flain
from flain_core.outcome.layer import LayerOutcome
from flain_core.outcome.verdict import flipped_for_a_class

Array = npt.NDArray[Any]
Made = nn.Module | tuple[nn.Module, Mapping[str, Any]]
# (model, initial, x, y, seed=...): a purified copy, with what there is to tell about it.
Defence = Callable[..., Made]


@dataclass(frozen=True, eq=False)
class Defended:
    """What a defence made of a model.

    Attributes:
        module: The purified copy; None where the defence refused the model.
        seconds: Wall time.
        cpu_seconds: Time on processors, which other work on the machine does not lengthen.
        info: What the defence tells about it, ready for JSON; ``refused`` says why it refused.
    """

    module: nn.Module | None
    seconds: float
    cpu_seconds: float
    info: Mapping[str, Any] = field(default_factory=dict)


def defended(
    name: str, model: nn.Module, initial: nn.Module, x: Array, y: Array, seed: int
) -> Defended:
    """Runs a defence on copies of both models.

    Raises:
        KeyError: No such defence.
    """
    defence = DEFENCES[name]
    torch.manual_seed(seed)
    np.random.seed(seed)
    started, cpu = time.perf_counter(), time.process_time()
    module: nn.Module | None = None
    info: Mapping[str, Any] = {}
    try:
        made = defence(deepcopy(model), deepcopy(initial), x, y, seed=seed)
    except _REFUSALS as refusal:
        info = {"refused": f"{type(refusal).__name__}: {refusal}"}
    else:
        module, info = made if isinstance(made, tuple) else (made, {})
        module.eval()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Defended(module, seconds, cpu, info)


def none(model: nn.Module, initial: nn.Module, x: Array, y: Array, *, seed: int) -> nn.Module:
    """The model as it is."""
    return model


def _for_a_class(layers: Sequence[LayerOutcome]) -> dict[str, float | int] | None:
    """The class for which most of a layer's update was flipped, and how much of that was."""
    most = flipped_for_a_class(layers)
    if most.class_share is None or most.most_flipped_class is None:
        return None
    return {"class": most.most_flipped_class, "share": round(most.class_share, 4)}


def with_flain(settings: flain.Settings | None = None) -> Defence:
    """Flain with some settings; None leaves its defaults."""

    def run(
        model: nn.Module, initial: nn.Module, x: Array, y: Array, *, seed: int
    ) -> tuple[nn.Module, dict[str, Any]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", flain.FlainWarning)
            result = flain.purify(model, initial=initial, data=(x, y), settings=settings, seed=seed)
        info = {
            "flipped": {layer.name: int(layer.flipped.sum()) for layer in result.layers},
            "notes": list(result.notes),
            "warnings": [str(each.message) for each in caught],
            "promise": result.promise and asdict(result.promise),
            "verdict": result.verdict,
            "share": {layer.name: round(layer.share, 4) for layer in result.layers},
            "class_share": _for_a_class(result.layers),
            "stop": {layer.name: layer.stop_reason for layer in result.layers},
            "version": flain.__version__,
        }
        return result.model, info

    return run


# The rule of the releases up to 0.1: stop at the first net loss of 0.2 points of accuracy.
_NET_ACCURACY = flain.Settings(
    measure="score",
    flip="neurons",
    thresholds=None,
    tolerance=0.002,
    crossing="revert",
    statistic="mean",
    factor=2.0,
    match_norm=False,
)

_REFUSALS: tuple[type[Exception], ...] = (flain.FlainError,)
DEFENCES: dict[str, Defence] = {}
if find_spec(f"{__package__}.rivals"):
    from .rivals import RIVALS, NotApplicable  # type: ignore[import-not-found,unused-ignore]

    DEFENCES.update(RIVALS)
    _REFUSALS = (*_REFUSALS, NotApplicable)
DEFENCES |= {
    "none": none,
    "flain": with_flain(),
    "flain-published-default": with_flain(_NET_ACCURACY),
}
