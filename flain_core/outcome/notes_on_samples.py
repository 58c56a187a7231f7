"""Notes on the auxiliary samples: whether they can steer a search and bear out what is said."""

from __future__ import annotations

from collections.abc import Iterator

from flain_core.errors import FlainWarning, Note
from flain_core.outputs import Reading
from flain_core.sample_source import SampleFacts
from flain_core.settings import Settings
from flain_core.tallies import Tally

_TOO_FEW_SAMPLES = 75
_GREAT_TOLERANCE = 0.05
_OVERSURE = 1.5  # beside how often a model is right


def notes_on_samples(
    facts: SampleFacts,
    settings: Settings,
    before: Tally,
    held_back: int,
    reading: Reading | None,
) -> Iterator[Note]:
    """Yield what is to be said of the auxiliary samples.

    Args:
        facts: What is known of them.
        settings: How the search decided.
        before: What the trained model scores on those that searched.
        held_back: How many more were held back.
        reading: How the model's scores are read; None with a score of the caller's.
    """
    if facts.one_hot:
        yield "the labels were one-hot and were read as class indices"
    if facts.pixels:
        yield (
            "the samples hold whole numbers from 0 to 255, as pixels do before they are scaled; "
            "were those of training like that?"
        )
    if not facts.classify:
        return
    by_accuracy = reading is not None and reading.is_unsure(before.mean)
    yield from _on_tolerance(settings, before, by_accuracy=by_accuracy)
    yield from _on_favoured(before, reading)
    classes = reading.classes if reading else 0
    if before.count < _TOO_FEW_SAMPLES:
        yield FlainWarning(
            f"{before.count} clean {'sample is' if before.count == 1 else 'samples are'} too few "
            "to steer the search"
            + (f", as {held_back} more are held back" if held_back else "")
            + ": the model may lose more than is seen here; take a few hundred"
        )
    elif facts.no_better_than_chance(before, classes):
        yield FlainWarning(
            f"the model classifies {before.total} of the {before.count} clean samples right, no "
            "better than chance; the labels probably do not match the model's classes (they are "
            "places in its scores, from 0), or the inputs are scaled or laid out otherwise than in "
            "training"
        )
    elif reading and reading.favoured(before.mean, before.count) is None:
        yield from _on_certainty(before, reading, settings)
    yield from _on_classes(facts, before.count + held_back, classes)


def _on_tolerance(settings: Settings, before: Tally, *, by_accuracy: bool) -> Iterator[Note]:
    if settings.measure == "score" or (settings.measure == "auto" and by_accuracy):
        allowed = settings.allowed_of_score(before.count) * before.count
        yield (
            f"one of the {before.count} clean samples is worth {1 / before.count:.4%} of accuracy; "
            f"the tolerance is worth {float(allowed):.3g} of them"
        )
    tolerance = settings.tolerance or 0.0
    if tolerance > _GREAT_TOLERANCE and settings.promise is None:
        lost = "accuracy" if settings.measure == "score" else "probability of the true class"
        yield FlainWarning(
            f"a tolerance of {tolerance:g} lets the purified model lose {tolerance:.0%} of the "
            f"{lost}, for good; it is a fraction, so 0.2 % is tolerance=0.002"
        )


def _on_favoured(before: Tally, reading: Reading | None) -> Iterator[Note]:
    favoured = reading.favoured(before.mean, before.count) if reading else None
    if favoured is None or reading is None:
        return
    yield FlainWarning(
        f"the model assigns class {favoured} to too many clean samples, by "
        f"{reading.excess[favoured]:.0%} of them all, and is right about {before.mean:.0%}. Are "
        "they scaled and laid out as in training, labelled in the order of the model's classes, "
        f"and free of a trigger that leads to class {favoured}? If so, the model itself favours "
        "that class: train it "
        'further, or say measure="score" to go by its accuracy'
    )


def _on_certainty(before: Tally, reading: Reading, settings: Settings) -> Iterator[Note]:
    """Warn of a model that is right much more or much less often than it is sure."""
    if reading.decided and settings.measure != "score":
        return
    if reading.is_unsure(before.mean):
        told = (
            f"the model is right about {before.mean:.0%} of the clean samples, but gives what it "
            f"says a probability of only {reading.confidence:.0%} on average"
        )
        if settings.measure == "auto":
            told += ", so its accuracy steered the search"
        if reading.doubtful:
            yield told
            return
        told += ": were they scaled as in training?"
        if settings.measure == "probability":
            told += " By the probability the search may cost much accuracy: leave measure out"
        yield told if settings.measure == "score" else FlainWarning(told)
    elif reading.confidence > _OVERSURE * before.mean:
        yield FlainWarning(
            f"the model gives what it says a probability of {reading.confidence:.0%} on average, "
            f"but is right about only {before.mean:.0%} of the clean samples: are they labelled "
            "rightly, and laid out like those of training? If not, the purified model may lose "
            "much on others without a sign of it here; if so, it knows those of training by heart"
        )


def _on_classes(facts: SampleFacts, samples: int, classes: int) -> Iterator[Note]:
    """Warn where more classes are missing than a random draw would leave out."""
    if facts.classes is None or not classes:
        return
    if facts.classes == 1:
        yield FlainWarning(
            "all clean samples are of one class, and do not show what the other classes lose; take "
            "samples of every class"
        )
        return
    missing = classes - facts.classes
    by_chance = classes * (1 - 1 / classes) ** samples
    if missing > by_chance + 3 * by_chance**0.5 + 0.5:
        yield FlainWarning(
            f"the clean samples are of {facts.classes} of the model's {classes} classes, so the "
            f"search does not see what {'the other loses' if missing == 1 else 'the others lose'}, "
            "whatever is said here of accuracy and promise; take samples of every class"
        )
