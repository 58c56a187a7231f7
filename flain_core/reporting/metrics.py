"""What was done as numbers by name, for stacks and trackers that keep nothing else."""

from __future__ import annotations

from flain_core.outcome.outcome import Outcome

_VERDICTS = {"not flipped": 0, "hardly flipped": 1, "partly flipped": 2, "flipped": 3}


def metrics_of(purification: Outcome) -> dict[str, int | float]:
    """Return scores before and after, verdict and promise.

    Names are ``flain-clean-before``, ``flain-clean-after``, the same with ``probe-NAME`` in place
    of ``clean``, ``flain-verdict`` (3 flipped, 2 partly, 1 hardly, 0 not), ``flain-share`` (the
    largest share of a layer's update that was flipped), ``flain-seconds``, and with a promise
    ``flain-promise-loss`` and ``flain-promise-confidence``.
    """
    numbers: dict[str, int | float] = {}
    for when, measured in (("before", purification.before), ("after", purification.after)):
        numbers[f"flain-clean-{when}"] = float(measured.clean)
        for name, score in measured.probes.items():
            numbers[f"flain-probe-{name}-{when}"] = float(score)
    numbers["flain-verdict"] = _VERDICTS[purification.verdict]
    numbers["flain-share"] = float(max(layer.share for layer in purification.layers))
    numbers["flain-seconds"] = purification.seconds
    if purification.promise is not None:
        numbers["flain-promise-loss"] = purification.promise.loss
        numbers["flain-promise-confidence"] = purification.promise.confidence
    return numbers
