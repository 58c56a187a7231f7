"""FLAIN in NVIDIA FLARE jobs: a server workflow that purifies what was trained.

>>> from flain_nvflare import Purify
>>> Purify(data="/srv/auxiliary.npz", settings={"tolerance": 0.005}).settings["tolerance"]
0.005
"""

from __future__ import annotations

from flain_core.extras import needs

with needs("flain_nvflare", "nvflare", "nvflare"):
    from .answering import Answering
    from .purify import Purify, add_purification
    from .trusted_clients import TrustedClients

__all__ = ["Answering", "Purify", "TrustedClients", "add_purification"]
