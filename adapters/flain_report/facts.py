"""Facts that follow from an outcome, for the plots, tables and sentences of a report."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from flain_core.errors import LayerError, nearest
from flain_core.network import Array
from flain_core.outcome.layer import LayerOutcome, Step
from flain_core.outcome.measurement import ClassOutcome
from flain_core.outcome.outcome import Outcome

_MOST_CLASSES = 40


@dataclass(frozen=True)
class Baseline:
    """What the model scored before the search of a layer.

    Attributes:
        clean: The clean score.
        probes: The score on each probe.
        lost: What had been lost since the trained model.
    """

    clean: float
    probes: dict[str, float] = field(default_factory=dict)
    lost: float = 0.0


def layer_of(result: Outcome, name: str | None) -> LayerOutcome:
    """Return the outcome of a layer that was searched; of the first one for None.

    Raises:
        LayerError: No layer of that name was searched.
    """
    searched = {each.name: each for each in result.layers if each.steps}
    if name is None and searched:
        return next(iter(searched.values()))
    if isinstance(name, str) and name in searched:
        return searched[name]
    known = ", ".join(map(repr, searched)) or "none"
    raise LayerError(
        f"expected a layer that was searched ({known}); got {name!r}."
        f"{nearest(name if isinstance(name, str) else '', searched)}"
    )


def what_steps_are(outcome: LayerOutcome) -> str:
    """Return what a search goes through: ``"strength"`` in directions, else ``"threshold"``."""
    return "strength" if outcome.flip == "directions" else "threshold"


def chosen_step(outcome: LayerOutcome) -> int | None:
    """Return the index of the chosen step; None if none was chosen."""
    if outcome.threshold is None:
        return None
    return next(
        (i for i, step in enumerate(outcome.steps) if step.threshold == outcome.threshold), None
    )


def baseline(result: Outcome, outcome: LayerOutcome) -> Baseline:
    """Return what the model scored before a layer was searched."""
    before = Baseline(result.before.clean, dict(result.before.probes))
    for each in result.layers:
        if each.name == outcome.name:
            return before
        chosen = chosen_step(each)
        if chosen is not None:
            step = each.steps[chosen]
            before = Baseline(step.clean, dict(step.probes), lost_at(result, step))
    return before


def lost_at(result: Outcome, step: Step) -> float:
    """Return what the search compared with the tolerance.

    What a step had lost of the probability of the true class and one standard error, or of the
    score.
    """
    if step.loss is None:
        return result.before.clean - step.clean
    return step.loss + (step.loss_error or 0.0)


def allowed_losses(result: Outcome, outcome: LayerOutcome) -> list[float]:
    """Return how much of what is measured may be lost before the search, and at each step.

    Empty where that is not known.
    """
    settings, probability = result.settings, result.before.probability
    if settings.measure == "score" or (settings.measure == "auto" and probability is None):
        allowed = settings.allowed(None)
        if samples := result.before.samples.get("clean"):
            allowed = float(settings.allowed_of_score(samples))
        return [allowed] * (len(outcome.steps) + 1)
    if settings.tolerance is None and probability is None:
        return []
    missing = None if probability is None else 1 - probability
    first = layer_of(result, None)
    if outcome is first:
        before = None if outcome.steps[0].class_share is None else 0.0
        shares = [before, *(step.class_share for step in outcome.steps)]
    else:
        shares = [first.limiting_share] * (len(outcome.steps) + 1)
    return [settings.allowed(missing, share) for share in shares]


def classes_shown(result: Outcome) -> list[ClassOutcome]:
    """Return the classes that a plot has room for: all of them, or those that lost most."""
    classes = result.by_class
    lost = [(each.right_before - each.right_after) / each.samples for each in classes]
    most = sorted(range(len(lost)), key=lambda place: -lost[place])[:_MOST_CLASSES]
    return [classes[place] for place in sorted(most)]


def share_of_each(result: Outcome, outcome: LayerOutcome) -> Array | None:
    """Return ``(in,)`` how much of each input's update was flipped, from 0 to 1, if it is known."""
    if outcome.norms is None:
        return None
    whole = factor_of(result, outcome) * outcome.norms.update
    shares = np.divide(outcome.norms.change, whole, out=np.zeros_like(whole), where=whole > 0)
    clipped: Array = np.clip(shares, 0, 1)
    return clipped


def factor_of(result: Outcome, outcome: LayerOutcome) -> float:
    """Return by what a flipped update of a layer was multiplied before it was taken away."""
    return result.settings.factor_of("neurons" if outcome.flip == "none" else outcome.flip)


def mosaic_columns(outcome: LayerOutcome) -> int:
    """Return how many tiles lie side by side in a picture of a layer's inputs."""
    grid = outcome.grid
    if grid is None:
        return 1
    square = (1.4 * grid.channels * (grid.rows + 1) / (grid.columns + 1)) ** 0.5
    # With a power of two the numbers of channels are easy to read.
    return min(grid.channels, 1 << max(round(float(np.log2(square))), 0))
