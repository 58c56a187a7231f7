"""Models run on test images: rates, how fast a backdoor is relearned, and what lies between."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from . import federation, metrics
from .data import Images
from .rows import SOURCE, Row
from .training import Plan, State, derived, train
from .triggers import trigger

Classes = npt.NDArray[np.uint8]
RELEARNING_CAP, RELEARNING_SHARE = 5, 0.3
PATH_POINTS = 11
_BATCH = 500


def triggered_test(row: Row) -> Images:
    """Test images that are not of the class they are to get, triggered, with their true classes."""
    return _triggered(row.data, row.seed, row.trigger, row.target, each=row.sources == "each")


@lru_cache(maxsize=2)
def _triggered(name: str, seed: int, mark: str, target: int, *, each: bool) -> Images:
    test = federation.divided(name, seed).test
    marked = test if each else test.take(np.flatnonzero(test.labels != target))
    stamp = trigger(mark, test.pixels.shape[-1], test.pixels.shape[1]).stamp
    return Images(stamp(marked.pixels), marked.labels)


def predicted(row: Row, module: nn.Module, images: Images) -> Classes:
    """Classes ``(n,)`` that the model gives, in evaluation mode."""
    module.eval()
    scale = federation.divided(row.data, row.seed).inputs
    with torch.inference_mode():
        parts = [
            module(torch.from_numpy(scale(images.pixels[at : at + _BATCH])).to(row.device)).argmax(
                1
            )
            for at in range(0, len(images), _BATCH)
        ]
    return torch.cat(parts).cpu().numpy().astype(np.uint8)


def rates(row: Row, clean: Classes, triggered: Classes) -> dict[str, float]:
    """ACC, ASR as the row's attack means it, both kinds of ASR, and RA, in [0, 1]."""
    marked = triggered_test(row).labels
    wanted = row.wanted(marked)
    one = metrics.attack_success(triggered, marked, wanted, SOURCE)
    every = metrics.attack_success(triggered, marked, wanted)
    attacked = marked == SOURCE if row.sources == "one" else np.ones(len(marked), dtype=bool)
    return {
        "acc": metrics.accuracy(clean, federation.divided(row.data, row.seed).test.labels),
        "asr": one if row.sources == "one" else every,
        "asr_one": one,
        "asr_all": every,
        "ra": metrics.accuracy(triggered[attacked], marked[attacked]),
    }


def relearned(row: Row, module: nn.Module) -> dict[str, Any]:
    """How fast attackers bring the backdoor back when training goes on.

    In a round, client 0 trains a copy on its poisoned images for an epoch, and the model moves 0.3
    of the way there, as if three of ten clients were like it and the others stood still. It ends
    when ASR is over 80 %, after five rounds at most; ``rounds`` is None if that was not enough.
    """
    copy = deepcopy(module)
    inputs = federation.tensors(row, federation.poisoned_holding(row, 0))
    found: list[float] = []
    for number in range(1, RELEARNING_CAP + 1):
        before = {name: value.clone() for name, value in copy.state_dict().items()}
        train(copy, *inputs, 1, derived(row.seed, number, 13), Plan())
        copy.load_state_dict(_between(before, copy.state_dict(), RELEARNING_SHARE))
        found.append(round(_success(row, copy), 4))
        if metrics.rounds_until(found):
            break
    return {"rounds": metrics.rounds_until(found), "asr": found}


def along_the_path(row: Row, before: nn.Module, after: nn.Module) -> list[float] | None:
    """ASR at 11 points of the straight line from the weights before to those after a defence.

    None where the defence changed the architecture, so that there is no line.
    """
    start, end, between = before.state_dict(), after.state_dict(), deepcopy(before)
    shapes = [{name: each.shape for name, each in state.items()} for state in (start, end)]
    if shapes[0] != shapes[1]:
        return None
    found = []
    for share in np.linspace(0, 1, PATH_POINTS):
        between.load_state_dict(_between(start, end, float(share)))
        found.append(round(_success(row, between), 4))
    return found


def compared(
    row: Row, before: Mapping[str, Classes], after: Mapping[str, Classes]
) -> dict[str, float]:
    """Rates after a defence, DER, and how many test images are newly wrong.

    Both mappings hold classes given to the ``clean`` and to the ``triggered`` test images.
    """
    was, now = (rates(row, each["clean"], each["triggered"]) for each in (before, after))
    true = federation.divided(row.data, row.seed).test.labels
    return {
        **now,
        "acc_before": was["acc"],
        "asr_before": was["asr"],
        "der": metrics.defence_effectiveness(was["acc"], now["acc"], was["asr"], now["asr"]),
        "newly_wrong": metrics.newly_wrong(before["clean"], after["clean"], true),
    }


def _between(start: State, end: State, share: float) -> State:
    """Weights that share of the way; counters stay as they are at the start."""
    return {
        name: torch.lerp(value, end[name], share) if value.is_floating_point() else value
        for name, value in start.items()
    }


def _success(row: Row, module: nn.Module) -> float:
    """ASR on up to 2,000 triggered test images."""
    marked = triggered_test(row)
    if row.sources == "one":
        marked = marked.take(np.flatnonzero(marked.labels == SOURCE))
    every = max(1, len(marked) // 2000)
    some = marked.take(np.arange(0, len(marked), every))
    found = predicted(row, module, some)
    return metrics.attack_success(found, some.labels, row.wanted(some.labels))
