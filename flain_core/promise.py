"""Promises about unseen samples: exact binomial statements on how many become newly wrong.

A sample is *newly wrong* when the trained model classified it right and the purified one does not.

The promise of a search (fixed-sequence test: Angelopoulos et al., Learn then Test, arXiv
2110.01052): fix a share and a confidence before the samples are looked at, walk the candidates in
an order that the samples had no part in, stop at the first candidate with more newly wrong samples
than :func:`most_newly_wrong`, and return the one before it. With that confidence at most that share
of new samples is newly wrong, however many candidates were tried and whether or not the number of
newly wrong samples grows from one to the next.

It does not hold for samples that chose the order or the candidate, for a share that was chosen
after looking, or for new samples that are drawn otherwise than those counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .binomial import binomial_tail
from .errors import SettingsError
from .settings import fraction, number, whole_number

_MOST_SAMPLES = 2**53  # beyond it a float does not hold each count


def most_newly_wrong(samples: int, share: float, confidence: float) -> int:
    """Return how many of the samples may be newly wrong when ``share`` is to be promised.

    The greatest b with P(Bin(samples, share) <= b) <= 1 - confidence.

    Args:
        samples: Number of samples, at least 0.
        share: Share of new samples that may be newly wrong, greater than 0 and less than 1.
        confidence: Probability that the promise is kept, greater than 0 and less than 1.

    Returns:
        Number of samples, less than ``samples``; -1 where the samples are too few to promise the
        share even if none of them is newly wrong.

    Raises:
        SettingsError: A value is out of its range.

    Example:
        >>> [most_newly_wrong(800, share, 0.95) for share in (0.002, 0.005, 0.01)]
        [-1, 0, 3]
        >>> [most_newly_wrong(samples, 0.005, 0.95) for samples in (1600, 3200, 10_000)]
        [3, 9, 38]
    """
    samples, share, risk = _samples(samples), _share(share), _risk(confidence)
    return _last_that_holds(-1, samples, lambda wrong: binomial_tail(wrong, samples, share) <= risk)


def promised_share(samples: int, allowed: int, confidence: float) -> float:
    """Return the smallest share that can be promised when ``allowed`` samples may be newly wrong.

    The upper bound of Clopper and Pearson (Biometrika 26, 1934) at ``allowed``, rounded up by less
    than 1e-12, so that the promise holds. ``allowed`` has to be fixed before the samples are looked
    at; for samples that neither ordered nor chose the candidate it may also be the number that was
    counted.

    Args:
        samples: Number of samples, at least 0.
        allowed: Number of samples, at least 0.
        confidence: Probability that the promise is kept, greater than 0 and less than 1.

    Returns:
        A fraction from 0 to 1; 1.0, which promises nothing, where ``allowed >= samples``.

    Raises:
        SettingsError: A value is out of its range.

    Example:
        >>> [f"{promised_share(samples, 0, 0.95):.2%}" for samples in (800, 300, 100, 50)]
        ['0.37%', '0.99%', '2.95%', '5.82%']
    """
    samples, allowed = _samples(samples), _allowed(allowed)
    risk = _risk(confidence)
    refuted, promised = 0.0, 1.0
    while promised - refuted > 1e-15:
        middle = (refuted + promised) / 2
        if binomial_tail(allowed, samples, middle) <= risk:
            promised = middle
        else:
            refuted = middle
    return promised


def samples_needed(share: float, confidence: float, allowed: int = 0) -> int:
    """Return how many samples it takes to promise ``share`` when ``allowed`` may be newly wrong.

    Args:
        share: Share of new samples that may be newly wrong, greater than 0 and less than 1.
        confidence: Probability that the promise is kept, greater than 0 and less than 1.
        allowed: Number of samples, at least 0.

    Returns:
        The smallest number of samples for which :func:`most_newly_wrong` is at least ``allowed``.

    Raises:
        SettingsError: A value is out of its range, or no number of samples below 2**53 suffices.

    Example:
        >>> [samples_needed(share, 0.95) for share in (0.01, 0.005, 0.002)]
        [299, 598, 1497]
        >>> samples_needed(0.01, 0.95, allowed=3)
        773
    """
    share, risk, allowed = _share(share), _risk(confidence), _allowed(allowed)
    too_few, enough = allowed, allowed + 1
    while binomial_tail(allowed, enough, share) > risk:
        too_few, enough = enough, 2 * enough
        if enough > _MOST_SAMPLES:
            raise SettingsError(
                "expected a share that fewer than 2**53 samples can promise; got "
                f"{share} with {allowed} allowed. Give a greater share or allow fewer"
            )
    return _last_that_holds(
        enough, too_few, lambda count: binomial_tail(allowed, count, share) <= risk
    )


def _last_that_holds(holds: int, fails: int, condition: Callable[[int], bool]) -> int:
    """Return the number next to one that fails, where a condition changes once on the way."""
    while abs(holds - fails) > 1:
        middle = (holds + fails) // 2
        if condition(middle):
            holds = middle
        else:
            fails = middle
    return holds


@dataclass(frozen=True)
class Promise:
    """A statement about new samples that the samples at hand bear out.

    Attributes:
        loss: At most this share of new samples is newly wrong, a fraction from 0 to 1. The drop of
            accuracy is at most as large. 1 promises nothing.
        confidence: Probability that the promise is kept, greater than 0 and less than 1.
        samples: Number of samples that were counted.
        allowed: Number of them that were allowed to be newly wrong.

    Raises:
        SettingsError: A value is out of its range, or so many samples with so many allowed do not
            bear out the loss at this confidence.

    Example:
        >>> print(Promise(loss=0.01, confidence=0.95, samples=800, allowed=3))
        with 95 % confidence, at most 1.0 % of new samples drawn like the auxiliary ones are newly
        wrong (800 samples, 3 allowed)
        >>> Promise(loss=0.01, confidence=0.95, samples=100, allowed=0)
        Traceback (most recent call last):
        flain_core.errors.SettingsError: expected a loss that 100 samples with 0 allowed can promise
        with 95 % confidence, at least 2.96 %; got 0.01. Give a greater loss or more samples
    """

    loss: float
    confidence: float
    samples: int
    allowed: int

    def __post_init__(self) -> None:
        samples, allowed = _samples(self.samples), _allowed(self.allowed)
        risk = _risk(self.confidence)
        loss = number(self.loss, "the promised loss")
        if not 0 < loss <= 1:
            raise SettingsError(
                f"expected a promised loss greater than 0 and at most 1, a fraction; got {loss}"
            )
        if loss < 1 and not binomial_tail(allowed, samples, loss) <= risk:
            least = promised_share(samples, allowed, self.confidence)
            raise SettingsError(
                f"expected a loss that {samples} samples with {allowed} allowed can promise with "
                f"{_percent(self.confidence)} confidence, at least {_percent(least, digits=3)}; "
                f"got {loss}. Give a greater loss or more samples"
            )
        # Plain numbers, so that a report can hold them.
        for name, value in (("loss", loss), ("samples", samples), ("allowed", allowed)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "confidence", float(self.confidence))

    @classmethod
    def of(cls, samples: int, allowed: int, confidence: float) -> Promise:
        """Promise the smallest loss that the samples bear out: see :func:`promised_share`.

        Args:
            samples: How many samples were held back.
            allowed: How many of them may be newly wrong, or were.
            confidence: Probability that the promise is kept, greater than 0 and less than 1.

        Raises:
            SettingsError: A value is out of its range.

        Example:
            >>> print(Promise.of(400, 3, 0.95))
            with 95 % confidence, at most 2.0 % of new samples drawn like the auxiliary ones are
            newly wrong (400 samples, 3 allowed)
        """
        return cls(promised_share(samples, allowed, confidence), confidence, samples, allowed)

    def __str__(self) -> str:
        counts = f"{self.samples:,} {'sample' if self.samples == 1 else 'samples'}"
        if self.loss == 1:
            return f"nothing can be promised about new samples ({counts}, {self.allowed:,} allowed)"
        return (
            f"with {_percent(self.confidence)} confidence, at most {_percent(self.loss, digits=2)} "
            "of new samples drawn like the auxiliary ones are newly wrong "
            f"({counts}, {self.allowed:,} allowed)"
        )


def _samples(samples: int) -> int:
    return whole_number(samples, "the number of samples", least=0)


def _allowed(allowed: int) -> int:
    return whole_number(allowed, "the number of samples allowed to be newly wrong", least=0)


def _share(share: float) -> float:
    return fraction(share, "the share of newly wrong samples")


def _risk(confidence: float) -> float:
    return 1 - fraction(confidence, "the confidence")


def _percent(share: float, digits: int | None = None) -> str:
    """Write a fraction in per cent, as it is or rounded up, so that a promise stays true."""
    from decimal import ROUND_CEILING, Decimal

    percent = 100 * Decimal(repr(share))
    if digits is not None:
        last = Decimal((0, (1,), percent.adjusted() - digits + 1))
        percent = percent.quantize(last, ROUND_CEILING)
    else:
        percent = percent.normalize()
    return f"{percent:f} %"
