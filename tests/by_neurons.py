"""Settings of searches that flip whole neurons by the accuracy that is left, as the paper does."""

from flain_core import Settings


def by_neurons(tolerance=0.002, **options):
    """Settings of such a search; the samples are not divided, and none is held back."""
    return Settings(measure="score", flip="neurons", tolerance=tolerance, **options)


BY_NEURONS = by_neurons()
