"""How models with random weights are steered: as those that training made sure of what they say."""

from __future__ import annotations

import flain

__all__ = ["BY_PROBABILITY"]

# By default their accuracy would steer, as they are unsure.
BY_PROBABILITY = flain.Settings(measure="probability")
