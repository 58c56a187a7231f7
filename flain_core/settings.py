"""Settings of the search, validated when they are built."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from .activation import STATISTICS, Statistic
from .errors import SettingsError, nearest
from .flipping import MOST_FACTOR
from .network import Array

if TYPE_CHECKING:
    from fractions import Fraction

ENOUGH_OF_A_CLASS = 0.35
"""A backdoor is usually mostly gone once this share of what an update says for it is flipped."""

_MOST_THRESHOLDS = 10_000_000

Crossing = Literal["revert", "keep"]
Flip = Literal["auto", "directions", "neurons"]
Measure = Literal["auto", "probability", "score"]
DataSet = Literal["mnist", "emnist", "fmnist", "cifar10"]


@lru_cache(maxsize=64)
def as_fraction(number: float) -> Fraction:
    """Return the decimal that a float is written as: 0.1 is one tenth, not a binary fraction.

    >>> as_fraction(0.001) * 1000 == 1
    True
    """
    from fractions import Fraction

    return Fraction(repr(float(number)))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Evenly spaced thresholds ``start + i * step <= stop``, in units of the activation.

    Computed from the index, so no rounding error accumulates.

    Raises:
        SettingsError: A value is not finite, ``start`` is negative or beyond ``stop``, ``step`` is
            not positive, or there would be more than ten million thresholds.

    Example:
        >>> Grid(start=0.1, step=0.1, stop=0.3).thresholds()
        array([0.1, 0.2, 0.3])
    """

    start: float
    step: float
    stop: float

    def __post_init__(self) -> None:
        for name in ("start", "step", "stop"):
            # Plain floats, so that a report can hold them.
            object.__setattr__(self, name, number(getattr(self, name), f"a Grid's {name}"))
        if not all(map(math.isfinite, self._values)):
            raise SettingsError(f"expected a grid of finite numbers; got {self}")
        if not 0 <= self.start <= self.stop or self.step <= 0:
            raise SettingsError(f"expected 0 <= start <= stop and step > 0; got {self}")
        if self._count > _MOST_THRESHOLDS:
            raise SettingsError(
                f"expected at most {_MOST_THRESHOLDS:,} thresholds; {self} has more"
            )

    @property
    def _values(self) -> tuple[float, float, float]:
        return self.start, self.step, self.stop

    @property
    def _count(self) -> int:
        start, step, stop = map(as_fraction, self._values)
        return int((stop - start) // step) + 1

    def __len__(self) -> int:
        return self._count

    def thresholds(self) -> Array:
        """Return the values: ``(n,)`` float64, ascending."""
        ascending: Array = self.start + np.arange(len(self), dtype=np.float64) * self.step
        return ascending


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the search. The defaults are the same for every model and data set.

    Attributes:
        measure: What the tolerance limits. ``"probability"``: by how much the probability that the
            model gives to a clean sample's true class falls, averaged over the samples, plus one
            standard error of that average. ``"score"``: by how much the accuracy falls, or the mean
            of the caller's score. ``"auto"`` takes the probability; and the score where the caller
            gave one, or where the model is so much less sure than it is right that its
            probabilities say little of what it loses.
        tolerance: Allowed loss of what is measured, a fraction from 0 to 1; with several layers
            they share it. None allows 0.002 of the score (0.01 is one point of accuracy), and at
            least one of 34 samples or more where ``"auto"`` falls back to that; or, of the
            probability, half the cube of 1 minus the trained model's mean probability, but at least
            0.003 and at most 0.03: 0.004 for a mean of 0.8, and 0.03 for 0.6 or less. A
            candidate that flips less than 0.35 of what the update says for the class that is
            flipped most strongly may lose up to four times as much, but no more than 0.03. That
            part removes most of a backdoor, and more of it removes little. Later layers get the
            limit that the first one had in the end.
        flip: ``"directions"`` flips the weight update in proportion to how little clean data varies
            in each direction of the layer's input space, and so spares what clean data uses. For a
            classifier, in layers of at most 1,024 outputs and of no fewer than classes, what the
            update says for one class is flipped most strongly: for the class for which clean data
            uses less of the update than is usual for one that is as hard to learn, and which the
            update favours at inputs that clean data hardly activates.
            ``"neurons"`` flips the updates of whole input neurons of low activation (the paper's).
            ``"auto"`` takes directions in dense layers, unless a setting below concerns neurons.
            For samples that lie elsewhere it takes neurons.
        promise: Largest share of new samples that may become newly wrong, right before and wrong
            after, greater than 0 and less than 1: nothing is flipped beyond what can be promised.
            None reports what can be promised of the result.
        confidence: Probability that the promise is kept, greater than 0 and less than 1.
        held_back: Share of the samples that neither steer nor fit anything, so that they can bear
            out a promise, from 0 to 0.9. None stands for 0.2 of at least 200 samples, for as many
            as a promise that was asked for needs, up to 0.6, and else for 0, as with the score or
            where samples lie elsewhere. All others show how clean data activates the layer, and
            decide when to stop.
        crossing: ``"revert"`` stops at the first candidate that loses more than the tolerance and
            returns the one before it. ``"keep"`` stops at the first that loses the tolerance or
            more and returns that one, as the published code does.
        factor: A flipped update becomes ``1 - factor`` times what it was: 2 turns its sign (the
            paper's), 1 resets it, 3 turns its sign and doubles it. Greater than 0, at most 4. None
            stands for 2 for neurons, and for 3 in directions, where most of an update is flipped
            by less than the whole.
        thresholds: For neurons. None tries every distinct activation value, so that no scale has to
            be set by hand; a :class:`Grid` tries its values, as the published code does.
        statistic: For neurons. What a threshold is compared with: ``"mean"`` activation (the
            paper's), ``"mean_abs"``, ``"rms"`` or ``"active_fraction"`` (share of values above
            zero).
        match_norm: For neurons. Rescale the purified weight to its former Frobenius norm, as the
            published code does. The search does not see this last step: its effect is not held to
            the tolerance.

    Raises:
        SettingsError: A value is out of range, or does not go with another.

    Example:
        >>> Settings(tolerance=0.003, crossing="revert").tolerance
        0.003
    """

    measure: Measure = "auto"
    tolerance: float | None = None
    flip: Flip = "auto"
    promise: float | None = None
    confidence: float = 0.95
    held_back: float | None = None
    crossing: Crossing = "revert"
    factor: float | None = None
    thresholds: Grid | None = None
    statistic: Statistic = "mean"
    match_norm: bool = False

    def __post_init__(self) -> None:
        if not (self.thresholds is None or isinstance(self.thresholds, Grid)):
            raise SettingsError(
                "expected thresholds to be None (every distinct activation value) or "
                f"flain.Grid(start=..., step=..., stop=...); got {self.thresholds!r}"
            )
        one_of(self.measure, get_args(Measure), "measure")
        one_of(self.flip, get_args(Flip), "flip")
        one_of(self.crossing, get_args(Crossing), "crossing")
        one_of(self.statistic, STATISTICS, "statistic")
        self._check_numbers()
        if not isinstance(self.match_norm, bool):
            raise SettingsError(f"expected match_norm to be True or False; got {self.match_norm!r}")
        if self.flip == "directions" and self._of_neurons:
            raise SettingsError(
                f"{', '.join(self._of_neurons)} goes with neurons only; leave it out, or say "
                'flip="neurons"'
            )
        if self.promise is not None and (self.held_back == 0 or self.measure == "score"):
            raise SettingsError(
                "a promise needs samples that are held back from the search; leave out "
                'held_back=0 and measure="score"'
            )
        if self.promise is not None and self.match_norm:
            raise SettingsError(
                "a promise holds for the weights that were tested, and match_norm=True changes "
                "them afterwards; leave one of the two out"
            )

    def _check_numbers(self) -> None:
        if self.tolerance is not None and not 0 <= number(self.tolerance, "tolerance") <= 1:
            raise SettingsError(
                "expected a tolerance from 0 to 1, a fraction: 0.01 is one point; "
                f"got {self.tolerance}"
            )
        if self.factor is not None and not 0 < number(self.factor, "factor") <= MOST_FACTOR:
            raise SettingsError(
                f"expected a factor greater than 0 and at most {MOST_FACTOR:g} (2 flips the "
                f"update, 1 resets it); got {self.factor}"
            )
        if self.promise is not None:
            fraction(self.promise, "promise")
        fraction(self.confidence, "confidence")
        if self.held_back is not None and not 0 <= number(self.held_back, "held_back") <= 0.9:
            raise SettingsError(f"expected held_back to be from 0 to 0.9; got {self.held_back}")
        for name in ("tolerance", "factor", "promise", "confidence", "held_back"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def _of_neurons(self) -> list[str]:
        """Names of the settings that were given and concern neurons only."""
        defaults = {"thresholds": None, "statistic": "mean", "match_norm": False}
        return [name for name, value in defaults.items() if getattr(self, name) != value]

    def resolved(self, *, classify: bool, local: bool) -> Settings:
        """Return the settings with every choice made that they leave open, except for layers.

        Args:
            classify: Whether the samples are scored by accuracy.
            local: Whether the samples are in this process.

        Raises:
            SettingsError: What was asked for cannot be had.
        """
        measure = self.measure
        if measure == "auto" and not classify:
            measure = "score"
        if not classify and (measure == "probability" or self.promise is not None):
            raise SettingsError(
                "the probability of the true class and a promise can be had only for a classifier "
                "without score=; leave them out"
            )
        if not local and (self.promise is not None or self.held_back):
            raise SettingsError(
                "a promise needs samples in this process, as none are held back from the search "
                "where samples lie elsewhere; leave out promise and held_back"
            )
        if not local and self.flip == "directions":
            raise SettingsError(
                "flipping in directions needs samples in this process; for samples that lie "
                'elsewhere say flip="auto" or flip="neurons"'
            )
        if measure == "score" and self.held_back:
            raise SettingsError('promise and held_back need measure="probability"')
        return replace(
            self,
            measure=measure,
            held_back=self.held_back if local and measure != "score" else 0.0,
            flip="neurons" if not local or self._of_neurons else self.flip,
        )

    def factor_of(self, flip: Literal["directions", "neurons"]) -> float:
        """Return the factor for what is flipped in a layer.

        Args:
            flip: ``"directions"`` or ``"neurons"``.

        Example:
            >>> Settings().factor_of("directions"), Settings(factor=1).factor_of("directions")
            (3.0, 1.0)
        """
        return _FACTORS[flip] if self.factor is None else self.factor

    def allowed(self, missing: float | None, class_share: float | None = None) -> float:
        """Return how much may be lost.

        Args:
            missing: What the mean probability of the trained model lacks to 1; None if the score is
                what is measured.
            class_share: Share that a candidate flips of what the update says for the class that is
                flipped most strongly; None where that is not known, or does not matter.

        Example:
            >>> settings = Settings()
            >>> [round(settings.allowed(0.05, share), 4) for share in (0.4, 0.3, 0.1)]
            [0.003, 0.0048, 0.0121]
        """
        if self.tolerance is not None:
            return self.tolerance
        if missing is None:
            return _LOSS_OF_SCORE
        usual = max(_LEAST_OF_PROBABILITY, _SHARE_OF_CUBE * missing**3)
        flipped = ENOUGH_OF_A_CLASS if class_share is None else class_share
        times = max(ENOUGH_OF_A_CLASS / max(flipped, _LITTLE_OF_A_CLASS), 1.0) ** 3
        return min(usual * times, _MOST_OF_PROBABILITY)

    def allowed_of_score(self, samples: int) -> Fraction:
        """Return how much of the score may be lost, as a mean over the samples.

        Where the accuracy steers as the probability cannot, that is a whole sample, unless they are
        few: less would end the search at the first that is lost.

        Args:
            samples: Number of samples that steer the search.

        Example:
            >>> Settings().allowed_of_score(400), Settings(measure="score").allowed_of_score(400)
            (Fraction(1, 400), Fraction(1, 500))
        """
        allowed = as_fraction(self.allowed(None))
        if self.tolerance is None and self.measure == "auto":
            return max(allowed, min(as_fraction(1) / samples, as_fraction(_MOST_OF_PROBABILITY)))
        return allowed

    @classmethod
    def published(cls, data_set: DataSet) -> Settings:
        """Return the published code's values for a data set.

        The chosen threshold, the flipped neurons and the weights are then those of the published
        procedure, which tries its thresholds one by one. With a tolerance of 0, as for ``"mnist"``,
        it ends as soon as the accuracy does not rise, often at the first threshold.

        Args:
            data_set: ``"mnist"``, ``"emnist"``, ``"fmnist"`` or ``"cifar10"``.

        Raises:
            SettingsError: It is another one.

        Example:
            >>> Settings.published("cifar10").thresholds
            Grid(start=0.001, step=0.0001, stop=1.0)
        """
        one_of(data_set, tuple(_PUBLISHED), "the data set")
        start, step, tolerance = _PUBLISHED[data_set]
        grid = Grid(start=start, step=step, stop=1.0)
        return cls(
            measure="score",
            flip="neurons",
            thresholds=grid,
            tolerance=tolerance,
            crossing="keep",
            factor=2.0,
            match_norm=True,
        )


_FACTORS = {"neurons": 2.0, "directions": 3.0}
_LOSS_OF_SCORE = 0.002
_LEAST_OF_PROBABILITY, _MOST_OF_PROBABILITY = 0.003, 0.03
_SHARE_OF_CUBE = 0.5
_LITTLE_OF_A_CLASS = 0.22

_PUBLISHED = {
    "mnist": (0.001, 0.001, 0.0),
    "emnist": (0.001, 0.001, 0.0),
    "fmnist": (0.0005, 0.0001, 0.024),
    "cifar10": (0.001, 0.0001, 0.001),
}


def settings_or_default(settings: Settings | None) -> Settings:
    """Return the settings, or the defaults for None; raise :class:`SettingsError` for others."""
    if settings is None:
        return Settings()
    if not isinstance(settings, Settings):
        raise SettingsError(
            "expected settings=flain.Settings(...), such as flain.Settings(tolerance=0.005) or "
            f'flain.Settings.published("mnist"); got {settings!r}'
        )
    return settings


def whole_number(value: int, what: str, *, least: int) -> int:
    """Return the value as an integer; raise :class:`SettingsError` if it is none or too small."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise SettingsError(
            f"expected {what} to be a whole number, at least {least}; got {value!r}"
        )
    return int(value)


def number(value: float, what: str) -> float:
    """Return a value as a float; raise :class:`SettingsError` if it is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise SettingsError(f"expected {what} to be a number; got {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise SettingsError(f"expected {what} to be a number that a float can hold") from error


def fraction(value: float, what: str) -> float:
    """Return a value from 0 to 1, both excluded; raise :class:`SettingsError` for others."""
    as_float = number(value, what)
    if not 0 < as_float < 1:
        raise SettingsError(
            f"expected {what} to be greater than 0 and less than 1, a fraction (0.01 is one per "
            f"cent); got {value}"
        )
    return as_float


def one_of(value: str, allowed: tuple[str, ...], what: str) -> None:
    """Raise :class:`SettingsError` unless the value is among those allowed."""
    if not isinstance(value, str) or value not in allowed:
        hint = nearest(value, allowed) if isinstance(value, str) else ""
        choices = ", ".join(map(repr, allowed))
        raise SettingsError(f"expected {what} to be one of {choices}; got {value!r}.{hint}")
