"""The exact probability of at most so many successes.

The probability of one count is computed by the saddle-point expansion of Loader (Fast and Accurate
Computation of Binomial Probabilities, 2000); the others follow from it by their ratios.
"""

from __future__ import annotations

import math


def standard_error(share: float, count: int) -> float:
    """Return the standard deviation of a share that is observed in ``count`` samples.

    >>> standard_error(0.5, 100)
    0.05
    """
    error: float = (share * (1 - share) / count) ** 0.5
    return error


def binomial_tail(wrong: int, samples: int, share: float) -> float:
    """Return P(Bin(samples, share) <= wrong), to about 1e-12 of its value.

    As exact as that up to ten million samples. The sum goes from the count nearest to the mean
    outwards, so that the terms shrink from the first.

    >>> round(binomial_tail(1, 2, 0.5), 12)
    0.75
    """
    if wrong >= samples:
        return 1.0
    odds = (1 - share) / share
    if wrong <= samples * share:
        return _probability(wrong, samples, share) * _sum_outwards(wrong, samples, odds)
    above = wrong + 1
    beyond = _probability(above, samples, share) * _sum_outwards(samples - above, samples, 1 / odds)
    return max(0.0, 1 - beyond)


def _sum_outwards(count: int, samples: int, odds: float) -> float:
    """Sum the probabilities of ``count``, ``count - 1``, …, 0 as multiples of the first."""
    total = term = 1.0
    for k in range(count, 0, -1):
        ratio = k * odds / (samples - k + 1)
        term *= ratio
        total += term
        # The ratios fall, so a geometric series bounds what is left.
        if term * ratio <= 1e-17 * (1 - ratio) * total:
            break
    return total


def _probability(count: int, samples: int, share: float) -> float:
    """Return P(Bin(samples, share) = count) by Loader's expansion."""
    other = samples - count
    if count == 0:
        return math.exp(samples * math.log1p(-share))
    if other == 0:
        return math.exp(samples * math.log(share))
    # In integers: in floats the difference of two large numbers would lose the digits that count.
    numerator, denominator = share.as_integer_ratio()
    beyond = (count * denominator - samples * numerator) / denominator
    deviance = _deviance(count, samples * share, beyond)
    deviance += _deviance(other, samples * (1 - share), -beyond)
    correction = _stirling_error(samples) - _stirling_error(count) - _stirling_error(other)
    return math.exp(correction - deviance) * math.sqrt(samples / (2 * math.pi * count * other))


def _deviance(count: int, mean: float, beyond: float) -> float:
    """Return ``count * log(count / mean) - beyond``, where ``beyond`` is ``count - mean``."""
    slope = beyond / (count + mean)
    if abs(slope) > 0.1:
        return count * math.log(count / mean) - beyond
    # log(count / mean) = 2 artanh(slope), whose first term cancels against `beyond`.
    power, total, odd = 2 * count * slope, beyond * slope, 3
    while True:
        power *= slope * slope
        longer = total + power / odd
        if longer == total:
            return total
        total, odd = longer, odd + 2


def _stirling_error(n: int) -> float:
    """Return ``log(n!)`` minus Stirling's approximation of it."""
    if n < 16:
        return math.log(math.factorial(n)) - ((n + 0.5) * math.log(n) - n + _LOG_ROOT_TWO_PI)
    inverse = 1 / n
    square = inverse * inverse
    return inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))


_LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)
