"""What the reader of an outcome should know, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .examination import Examination
from .examiner import Examiner, Known
from .layer_purification import Purified
from .network import Network
from .outcome import LayerOutcome
from .score import Tally
from .settings import Settings, exactly

__all__ = ["Remark", "remarks_on"]

_TOO_FEW_SAMPLES = 20
_DOUBTFUL_ACCURACY = 0.5
_NOTABLE_LOSS = 0.01


@dataclass(frozen=True)
class Remark:
    """A sentence.

    Attributes:
        text: The sentence.
        serious: Whether it is also raised as a warning.
    """

    text: str
    serious: bool = False


def remarks_on(
    purified: Purified, initial: Network, examiner: Examiner, settings: Settings
) -> tuple[Remark, ...]:
    """Everything there is to say.

    Args:
        purified: What was done.
        initial: The model that training started from, run only if the trained one does badly.
        examiner: Examined the models.
        settings: How the search decided.
    """
    on_layers = (remark for outcome in purified.outcomes for remark in _on_layer(outcome))
    return (
        *_on_samples(examiner.known, settings, purified.before.clean),
        *_on_initial(initial, examiner, purified.before.clean),
        *on_layers,
        *_on_result(purified, settings),
    )


def _on_samples(known: Known, settings: Settings, before: Tally) -> Iterator[Remark]:
    if known.one_hot:
        yield Remark("the labels were one-hot and were read as class indices")
    if not known.classify:
        return
    allowed = exactly(settings.tolerance) * before.count
    yield Remark(
        f"one of the {before.count} clean samples is worth {1 / before.count:.4%} of accuracy; the "
        f"tolerance is worth {float(allowed):.3g} of them"
    )
    if before.count < _TOO_FEW_SAMPLES:
        yield Remark(
            f"{before.count} clean samples are too few to steer the search; take a few hundred",
            serious=True,
        )
        return
    if known.classes is None:
        return
    chance = 1 / known.classes
    if before.total <= before.count * chance + (before.count * chance * (1 - chance)) ** 0.5:
        yield Remark(
            f"the model classifies {before.total} of the {before.count} clean samples right, no "
            "better than chance; the labels probably do not match the model's classes, or the "
            "inputs are scaled otherwise than in training",
            serious=True,
        )


def _on_initial(initial: Network, examiner: Examiner, before: Tally) -> Iterator[Remark]:
    # Holders elsewhere know only what becomes of the trained model.
    if not isinstance(examiner, Examination) or not examiner.known.classify:
        return
    if before.mean > _DOUBTFUL_ACCURACY:
        return
    start = examiner.clean_tally(initial)
    if start.mean > before.mean:
        yield Remark(
            f"the initial model classifies {start.mean:.1%} of the clean samples right, the "
            f"trained one {before.mean:.1%}; were the two swapped?",
            serious=True,
        )


def _on_result(purified: Purified, settings: Settings) -> Iterator[Remark]:
    if not any(outcome.flipped.any() for outcome in purified.outcomes):
        yield Remark(
            "no neuron was flipped in any layer: the model is as it was, with a backdoor if it had "
            "one; try another layer, more samples, or a larger tolerance",
            serious=True,
        )
    lost = purified.before.clean.mean - purified.after.clean.mean
    if lost > settings.tolerance + _NOTABLE_LOSS:
        yield Remark(
            f"the purified model lost {lost:.2%} of the clean score, far beyond the tolerance of "
            f"{settings.tolerance:.2%}: crossing={settings.crossing!r} and "
            f"match_norm={settings.match_norm} are not held to it. Consider crossing='revert' and "
            "match_norm=False, or leave out the layer that lost it",
            serious=True,
        )
    first = next((outcome for outcome in purified.outcomes if outcome.steps), None)
    if first and settings.crossing == "keep" and len(first.steps) == 1:
        yield Remark(
            f"the search of {first.name!r} ended at its very first candidate, as crossing='keep' "
            f"takes the first one that loses {settings.tolerance:.2%} or more; a backdoor may well "
            "be left",
            serious=True,
        )


def _on_layer(outcome: LayerOutcome) -> Iterator[Remark]:
    name, width = outcome.name, outcome.flipped.size
    negative = int((outcome.activation < 0).sum())
    if negative:
        yield Remark(
            f"{negative} of the {width} input neurons of {name!r} have a negative mean activation "
            "and were no candidates, as in the published code; the layer does not follow a ReLU: "
            'consider Settings(statistic="mean_abs")',
            serious=True,
        )
    if outcome.stop_reason == "exhausted":
        yield Remark(
            f"no candidate of {name!r} crossed the tolerance, so the last one was taken, with "
            f"{int(outcome.flipped.sum())} of {width} neurons flipped; the samples may be too few "
            "or too easy to steer the search, or the thresholds may end too early",
            serious=True,
        )
    if outcome.method == "whole network":
        yield Remark(f"{name!r}: every candidate was run in full, as {outcome.why_method}")
    if outcome.grouped > 1:
        yield Remark(
            f"{name!r}: a candidate stands for up to {outcome.grouped} distinct activations"
        )
    if not outcome.flipped.any():
        yield Remark(f"{name!r}: nothing was flipped; the layer is as it was")
