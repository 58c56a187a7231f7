"""Confidence intervals of accuracies."""

from __future__ import annotations

from flain_core.promise import promised_share

CONFIDENCE = 0.95


def interval(right: int, samples: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact two-sided interval of a share (Clopper and Pearson, Biometrika 26, 1934).

    Args:
        right: Number of samples that count, at least 0.
        samples: Number of samples, at least ``right``.
        confidence: Probability that the interval holds the true share, between 0 and 1.

    Returns:
        Two fractions from 0 to 1; 0 and 1 without samples.

    Example:
        >>> low, high = interval(5, 10)
        >>> round(low, 4), round(high, 4)
        (0.1871, 0.8129)
        >>> interval(0, 10)[0], interval(10, 10)[1]
        (0.0, 1.0)
    """
    one_sided = (1 + confidence) / 2
    return (
        1 - promised_share(samples, samples - right, one_sided),
        promised_share(samples, right, one_sided),
    )
