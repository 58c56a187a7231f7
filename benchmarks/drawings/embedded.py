"""The embedded example, purified once for each settings."""

from __future__ import annotations

from functools import cache

import numpy as np

import flain
from flain_cli import example


@cache
def purified(settings: flain.Settings | None = None) -> flain.Purification:
    """Purify it, and measure ACC and ASR on held-out samples."""
    initial, final, auxiliary, clean, triggered = example.files().paths
    probes = {"ACC": clean, "ASR": triggered}
    return flain.purify(final, initial=initial, data=auxiliary, settings=settings, probes=probes)


def triggered() -> tuple[np.ndarray, np.ndarray]:
    """Return images ``(n, 1, 28, 28)`` with the trigger, and the attacker's target of each."""
    with np.load(example.files().paths[-1]) as arrays:
        return arrays["x"], arrays["y"]
