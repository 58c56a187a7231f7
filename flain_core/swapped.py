"""Refuses models that were given in each other's place."""

from __future__ import annotations

from .errors import WeightsError
from .network import Network
from .sample_source import SampleFacts, Scorer
from .tallies import Tally

_GOOD = 0.5
_FAR_BETTER = 0.2


def check_not_swapped(scorer: Scorer, facts: SampleFacts, initial: Network, before: Tally) -> None:
    """Refuse a trained model that does badly where the initial one does well.

    The initial model is run only if the trained one does badly. That it does no better is no sign:
    of labels that do not fit both are wrong.

    Args:
        scorer: Scores a model on the auxiliary samples.
        facts: What is known of those.
        initial: The model that training started from.
        before: How the trained model does.

    Raises:
        WeightsError: The initial model is far better.
    """
    if not (facts.local and facts.classify) or before.mean > _GOOD:
        return
    start = scorer.score_of(initial, probes=False).clean
    if start.mean >= max(_GOOD, before.mean + _FAR_BETTER):
        raise WeightsError(
            f"the initial model classifies {start.mean:.1%} of the clean samples right, the "
            f"trained one {before.mean:.1%}: either they were given in each other's place, or "
            "training broke the model, and purifying cannot mend that. Give the trained model as "
            "the final one, and the one before training as the initial one"
        )
