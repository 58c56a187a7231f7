"""FLAIN in NVIDIA FLARE jobs: a server workflow that purifies what was trained.

>>> from flain_nvflare import Purify
>>> Purify(data="/srv/auxiliary.npz", settings={"tolerance": 0.005}).settings["tolerance"]
0.005
"""

from __future__ import annotations

from .purify import Purify
from .recipes import add_purification

__all__ = ["Purify", "add_purification"]
