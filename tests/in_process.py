"""Holders of auxiliary samples in this process, for tests of what does not depend on the way."""

from dataclasses import replace

import numpy as np

import flain_numpy
from flain_core import FlainError, Settings
from flain_core.arrays.forms import by_name
from flain_core.auxiliary.samples import Samples
from flain_core.federated.holder import Holder
from flain_core.federated.wire import read_answer, read_question, write_answer, write_question
from flain_core.local_samples import LocalSamples


class InProcess:
    """Each part of the samples in a holder of its own; questions and answers travel as arrays.

    ``tamper(name, question, arrays)`` may return other arrays than the holder answered.
    ``forgetful`` holders start anew with every question, as a client of a federation does.
    """

    def __init__(self, parts, *, lookahead=1, forgetful=False, tamper=None):
        self.parts = parts
        self.lookahead = lookahead
        self.forgetful = forgetful
        self.tamper = tamper or (lambda name, question, arrays: arrays)
        self.asked = []

    def open(self, network):
        self.network = network
        self.holders = self.fresh()

    def fresh(self):
        return {
            f"part {index:03}": Holder(self.network, LocalSamples.of(part, batch_size=len(part[1])))
            for index, part in enumerate(self.parts)
        }

    def ask(self, question):
        self.asked.append(question)
        arrays = write_question(question)
        holders = self.fresh() if self.forgetful else self.holders
        return {name: self.answer(name, holder, arrays) for name, holder in holders.items()}

    def answer(self, name, holder, arrays):
        question = read_question(arrays)
        try:
            answer = write_answer(holder.answer(question))
            return read_answer(self.tamper(name, question, answer))
        except FlainError as error:
            return error


def as_elsewhere(settings=None):
    """Settings with which samples in one place are searched as those that lie elsewhere are."""
    settings = settings or Settings()
    held_back = 0 if settings.measure != "score" else None
    return replace(settings, flip="neurons", held_back=held_back)


def split(data, count):
    """Samples in so many parts, all but the last of one size."""
    samples = Samples.of(data)
    size = -(-len(samples) // count)
    edges = np.arange(0, len(samples), size)
    return [(part.x, part.y) for part in (samples[start : start + size] for start in edges)], size


def upside_down(arrays):
    """Possible: what is the least active is said to be the most active, far more than anything."""
    if "count" not in arrays:
        return arrays
    count = arrays["count"]
    mean = 1000 * (arrays["total"].max() - arrays["total"]) / count
    return arrays | {
        "total": mean * count,
        "total_abs": mean * count,
        "total_square": mean**2 * count,
        "active": np.full(mean.shape, count),
    }


def in_network(vector, network):
    """A network with the numbers of a vector."""
    arrays = by_name("purified", vector, flain_numpy.arrays_of(network))
    return flain_numpy.open_network(arrays, like=network)
