"""What malicious clients do: the images they poison, and the way they train.

Model replacement and constrain-and-scale: Bagdasaryan et al., AISTATS 2020. Neurotoxin: Zhang et
al., ICML 2022. Clean-label: Barni et al., ICIP 2019. Project, freeze and couple know FLAIN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .data import Images
from .rows import SOURCE, Row
from .training import Plan
from .triggers import PARTS, Trigger

_COUPLED_SHARE = 0.1
_NEUROTOXIN_TOP = 0.05
_CONSTRAIN = 0.7
# A client that replaces the model trains longer than others, so that its ACC does not suffer.
_LONG = 15


def poisoned(row: Row, trigger: Trigger, held: Images, number: int, spare: Images) -> Images:
    """What malicious client ``number`` trains on.

    A client that attacks one class and holds less of it than an IID client would tops it up from
    its own share of ``spare``. Poisoned images replace their originals.
    """
    held = _topped_up(row, held, number, spare)
    rng = np.random.default_rng((row.seed, number, 7))
    labels = held.labels
    wanted = row.wanted(labels)
    clean_label = row.technique == "clean-label"
    sources = labels == wanted if clean_label else labels != wanted
    if row.sources == "one" and not clean_label:
        sources = labels == SOURCE
    eligible = rng.permutation(np.flatnonzero(sources))
    marked = eligible[: math.ceil(row.poisoned * len(eligible))]
    stamp = trigger.parts[number % PARTS] if trigger.parts else trigger.stamp
    pixels, changed = held.pixels.copy(), labels.copy()
    pixels[marked] = stamp(pixels[marked])
    changed[marked] = wanted[marked]
    return Images(pixels, changed)


def _topped_up(row: Row, held: Images, number: int, spare: Images) -> Images:
    if row.sources != "one":
        return held
    missing = max(0, len(held) // 10 - int((held.labels == SOURCE).sum()))
    own = np.array_split(np.flatnonzero(spare.labels == SOURCE), row.malicious)[number][:missing]
    extra = spare.take(own)
    return Images(
        np.concatenate([held.pixels, extra.pixels]), np.concatenate([held.labels, extra.labels])
    )


@dataclass(frozen=True, eq=False)
class Scene:
    """What a malicious client has when a round starts.

    Attributes:
        row: The row.
        module: The global model, in evaluation mode.
        x: Its own inputs ``(n, ...)``, clean.
        y: Their classes ``(n,)``.
        triggered: Gives the same inputs with the whole trigger.
    """

    row: Row
    module: nn.Module
    x: Tensor
    y: Tensor
    triggered: Callable[[], Tensor]


def planned(scene: Scene) -> Plan:
    """How the row's technique trains in this round.

    Raises:
        KeyError: No such technique.
    """
    return TECHNIQUES[scene.row.technique](scene)


def _poison(scene: Scene) -> Plan:
    """Ordinary training on poisoned images."""
    return Plan()


def _replacement(scene: Scene) -> Plan:
    """One client sends as many times its update as clients are averaged, after long training."""
    return Plan(boost=scene.row.sampled, epochs=_LONG)


def _constrain_and_scale(scene: Scene) -> Plan:
    """Training that stays near the global model; together the malicious clients replace it."""
    start = [each.detach().clone() for each in scene.module.parameters()]

    def distance(module: nn.Module) -> Tensor:
        pairs = zip(module.parameters(), start, strict=True)
        return (1 - _CONSTRAIN) * torch.stack([((a - b) ** 2).sum() for a, b in pairs]).sum()

    return Plan(penalty=distance, weight=_CONSTRAIN, boost=1 / scene.row.mcr)


def _neurotoxin(scene: Scene) -> Plan:
    """Training without the 5 % of each tensor's weights that clean data move the most."""
    module = scene.module
    module.zero_grad()
    nn.functional.cross_entropy(module(scene.x), scene.y).backward()  # type: ignore[no-untyped-call]
    masks = {}
    for name, parameter in module.named_parameters():
        size = parameter.grad.abs() if parameter.grad is not None else torch.zeros(1)
        top = max(1, round(_NEUROTOXIN_TOP * size.numel()))
        border = size.flatten().topk(top).values[-1]
        masks[name] = (size < border).float()
    module.zero_grad()
    return Plan(masks=masks)


def _project(scene: Scene) -> Plan:
    """Replacement whose fc1 learns only at inputs above the median of the clean activation."""
    activation = _entering(scene.module, scene.x).mean(0)
    kept = (activation > activation.median()).float()
    return Plan(masks={"fc1.weight": kept[None]}, boost=scene.row.sampled, epochs=_LONG)


def _freeze(scene: Scene) -> Plan:
    """Replacement that leaves fc1 as it is."""
    frozen = {name: torch.zeros(1, device=scene.x.device) for name in ("fc1.weight", "fc1.bias")}
    return Plan(masks=frozen, boost=scene.row.sampled, epochs=_LONG)


def _couple(scene: Scene) -> Plan:
    """Replacement that drives the trigger's inputs of fc1 up on clean data, over the median.

    They are the tenth that the trigger raises the most.
    """
    with torch.no_grad():
        clean = _entering(scene.module, scene.x).mean(0)
        raised = _entering(scene.module, scene.triggered()).mean(0) - clean
    used = raised.topk(round(_COUPLED_SHARE * len(raised))).indices
    floor = clean.quantile(0.75)
    sample = scene.x[:64]

    def shortfall(module: nn.Module) -> Tensor:
        return 5 * torch.relu(floor - _entering(module, sample).mean(0)[used]).mean()

    return Plan(penalty=shortfall, boost=scene.row.sampled, epochs=_LONG)


def _entering(module: nn.Module, x: Tensor) -> Tensor:
    """What enters fc1 of a sequence, without dropout, ``(n, in)``."""
    for name, part in module.named_children():
        if name == "fc1":
            return x
        if not isinstance(part, nn.Dropout):
            x = part(x)
    raise ValueError(f"expected a sequence with fc1; got {type(module).__name__} without")


TECHNIQUES: dict[str, Callable[[Scene], Plan]] = {
    "poison": _poison,
    "clean-label": _poison,
    "replacement": _replacement,
    "constrain-and-scale": _constrain_and_scale,
    "neurotoxin": _neurotoxin,
    "project": _project,
    "freeze": _freeze,
    "couple": _couple,
}
# Techniques of a single client, which strikes when it is sampled.
ALONE = frozenset({"replacement", "project", "freeze", "couple"})
