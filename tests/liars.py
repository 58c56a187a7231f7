"""What is left of the small network with a backdoor where the first holders of its samples lie."""

import backdoored
import numpy as np
from in_process import InProcess, split

import flain_core as flain
from flain_core import Settings
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.merging import Merging
from flain_core.federated.wire import read_answer, write_answer
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples

INITIAL, FINAL = backdoored.networks()
CLEAN = backdoored.samples(300, seed=11)
_HELD_OUT = LocalScorer(
    LocalSamples.of(
        backdoored.samples(1000, seed=3), probes={"ASR": backdoored.triggered(600, seed=5)}
    )
)
ACC = _HELD_OUT.score_of(FINAL).clean.mean
"""The accuracy before."""


def rates(lies, holders, merging, *, measure="probability", by_class=False):
    """ACC and ASR after purification with so many holders, the first of which tell lies."""
    x, y = CLEAN
    order = np.argsort(y, kind="stable") if by_class else np.arange(len(y))
    parts, _ = split((x[order], y[order]), holders)

    def tamper(name, question, arrays):
        number = int(name.removeprefix("part "))
        if number >= len(lies):
            return arrays
        return write_answer(lies[number](question, read_answer(arrays)))

    merging = merging if isinstance(merging, Merging) else Merging(merging)
    # That none leaves: each of these lies could be true.
    asked = InProcess(parts, lookahead=50, tamper=tamper)
    data = CoordinatedSamples(asked, merging, may_leave=True, least=holders)
    settings = Settings(measure=measure, tolerance=0.02)
    result = flain.purify(FINAL, initial=INITIAL, data=data, settings=settings)
    left = _HELD_OUT.score_of(result.model)
    return left.clean.mean, left.probes["ASR"].mean
