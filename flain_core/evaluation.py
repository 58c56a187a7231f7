"""What a candidate scores: the cut model, updated event by event, or the whole network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from .activation import ActivationStatistics
from .auxiliary import Samples
from .errors import DataError, ModelError, SettingsError
from .flipping import flip
from .network import Array, Cut, Layer, Network
from .score import Score, Scored, Tally, accuracy, tally
from .settings import whole_number

__all__ = ["CutModel", "Examination", "Flipping", "Piece", "WholeNetwork", "cut_in_pieces"]


@dataclass(frozen=True, eq=False)
class Examination:
    """What every candidate is examined on, in batches.

    Attributes:
        clean: The auxiliary samples, which steer the search.
        probes: Further samples, which are only reported.
        score: What a sample is worth.
        batch_size: Samples per batch; None lets the size of a sample decide.
        memory_limit: Bytes that may be spent on keeping cut batches.
    """

    clean: Samples
    probes: Mapping[str, Samples] = field(default_factory=dict)
    score: Score = accuracy
    batch_size: int | None = None
    memory_limit: int = 2 * 2**30

    @classmethod
    def on(
        cls,
        data: Any,
        probes: Mapping[str, Any],
        score: Score,
        *,
        batch_size: int | None,
        memory_limit: int,
    ) -> Examination:
        """Read the samples, in any form that :meth:`Samples.of` takes.

        Raises:
            DataError: Samples cannot be used.
            SettingsError: An option is out of range or of the wrong type.
        """
        if batch_size is not None:
            batch_size = whole_number(batch_size, "batch_size, in samples,", least=1)
        memory_limit = whole_number(memory_limit, "memory_limit, in bytes,", least=0)
        if not callable(score):
            raise SettingsError(
                f"expected score to be a function of (scores, y); got {score!r}. Leave it out for "
                "top-1 accuracy"
            )
        if not isinstance(probes, Mapping):
            raise SettingsError(
                f'expected probes by name, such as probes={{"ASR": (x, y)}}; got a '
                f"{type(probes).__name__}"
            )
        for name in probes:
            if not isinstance(name, str):
                raise SettingsError(f"expected the names of probes to be strings; got {name!r}")
        if "clean" in probes:
            raise SettingsError('"clean" is what the score on data is called; rename that probe')
        classify = score is accuracy
        return cls(
            clean=Samples.of(data, classify=classify),
            probes={
                name: Samples.of(probe, name=f"probe {name!r}", classify=classify)
                for name, probe in probes.items()
            },
            score=score,
            batch_size=batch_size,
            memory_limit=memory_limit,
        )

    def of(self, network: Network) -> Scored:
        """Run a network on everything."""
        probes = {name: self.total(network, probe).mean for name, probe in self.probes.items()}
        return Scored(self.total(network, self.clean), probes)

    def total(self, network: Network, samples: Samples) -> Tally:
        """Run a network on some samples."""
        batches = samples.batches(self.batch_size)
        return reduce(add, (self.tally(network.predict(batch.x), batch.y) for batch in batches))

    def tally(self, scores: Array, y: Array, window: float = 0.0) -> Tally:
        """Sum the worth of a batch, after making sure that scores and labels fit each other."""
        if not isinstance(scores, np.ndarray) or scores.dtype.kind != "f" or not scores.ndim:
            raise ModelError(
                "expected the network to score with a NumPy array of real floating-point numbers; "
                f"got {getattr(scores, 'dtype', type(scores).__name__)}"
            )
        if self.score is accuracy:
            _check_classes(scores, y)
        return tally(self.score, scores, y, window)


@dataclass(frozen=True, eq=False)
class Flipping:
    """One layer of a network whose neurons are to be flipped, in a given order.

    Attributes:
        network: The model as it stands.
        layer: The layer, with its final weight.
        initial: The layer's initial weight, ``(out, in / groups, *kernel)``.
        factor: 2 flips an update, 1 resets it.
        order: ``(m,)`` indices of input neurons; a candidate flips the first few of them.
    """

    network: Network
    layer: Layer
    initial: Array
    factor: float
    order: Array

    def weight(self, end: int) -> Array:
        """The layer's weight with ``order[:end]`` flipped."""
        return self._flip(self.order[:end])

    def candidate(self, end: int) -> Network:
        """A copy of the network with ``order[:end]`` flipped."""
        return self.network.replace({self.layer.name: self.weight(end)})

    def change(self) -> Array:
        """What flipping takes from each entry of the weight, as it is stored after rounding.

        Laid out neuron by neuron in memory, since a few neurons at a time are read from it.
        """
        final = self.layer.weight
        wide = np.promote_types(final.dtype, np.float32)
        flipped = self._flip(np.ones(self.layer.neurons, dtype=bool))
        change = final.astype(wide) - flipped.astype(wide)
        by_neuron = np.ascontiguousarray(np.moveaxis(change, 1, 0))
        return np.moveaxis(by_neuron, 0, 1)

    def _flip(self, neurons: Array) -> Array:
        layer = self.layer
        return flip(self.initial, layer.weight, neurons, groups=layer.groups, factor=self.factor)


class WholeNetwork:
    """Writes the flipped weight and runs the whole network for each candidate. Slow and right."""

    def __init__(self, flipping: Flipping, examination: Examination) -> None:
        self._flipping = flipping
        self._examination = examination

    def advance(self, end: int) -> Scored:
        """The clean tally and the probes of the candidate that flips ``order[:end]``."""
        return self._examination.of(self._flipping.candidate(end))

    def exactly(self, end: int) -> Tally:
        """The clean tally alone."""
        return self._examination.total(self._flipping.candidate(end), self._examination.clean)


@dataclass(frozen=True, eq=False)
class Piece:
    """A batch, with its cut where the memory limit allowed to keep it.

    Attributes:
        probe: Name of the probe it belongs to; None for the auxiliary samples.
        samples: The batch.
        cut: None means that the batch is cut anew whenever it is needed.
    """

    probe: str | None
    samples: Samples
    cut: Cut | None


def cut_in_pieces(
    network: Network, layer: str, examination: Examination
) -> tuple[list[Piece], ActivationStatistics]:
    """Run everything once up to a layer, and measure how the clean samples activate it.

    Returns:
        The pieces, as many of them with their cut as the memory limit allows, and the statistics of
        the auxiliary samples. No pieces if the layer does not run exactly once.
    """
    pieces: list[Piece] = []
    statistics = ActivationStatistics()
    once = True
    left = examination.memory_limit
    for probe, samples in ((None, examination.clean), *examination.probes.items()):
        for batch in samples.batches(examination.batch_size):
            if probe is not None and not (once and left > 0):
                pieces.append(Piece(probe, batch, None))
                continue
            cut = network.cut(layer, batch.x)
            if probe is None:
                statistics = statistics.update(cut.inputs)
            once = once and cut.calls == 1
            if once:
                left -= _bytes_kept(cut)
            pieces.append(Piece(probe, batch, cut if once and left > 0 else None))
    return (pieces if once else []), statistics


class CutModel:
    """Runs the network once up to the layer; then a candidate costs its new neurons and a tail.

    The pre-activation is linear in the weight, so flipping the neurons S changes it by
    ``-factor * linear(final - initial, S)``.
    """

    def __init__(
        self, pieces: list[Piece], flipping: Flipping, examination: Examination, window: float
    ) -> None:
        self._pieces = pieces
        self._flipping = flipping
        self._examination = examination
        self._window = window
        self._outputs = [piece.cut.output if piece.cut else None for piece in pieces]
        self._end = 0
        self._scored: Scored | None = None
        self._change = flipping.change()

    @property
    def work(self) -> int:
        """Bytes of the largest pre-activation, which each new candidate goes through."""
        return max((_bytes_of(output) for output in self._outputs if output is not None), default=0)

    def advance(self, end: int) -> Scored:
        """The clean tally and the probes of the candidate that flips ``order[:end]``."""
        if self._scored is None or end > self._end:
            self._scored = self._score(end)
            self._end = end
        return self._scored

    def exactly(self, end: int) -> Tally:
        """The clean tally of the whole network with really flipped weights."""
        return WholeNetwork(self._flipping, self._examination).exactly(end)

    def _score(self, end: int) -> Scored:
        tallies: dict[str | None, Tally] = {}
        for index, piece in enumerate(self._pieces):
            scores = self._scores(index, piece, end)
            tallied = self._examination.tally(scores, piece.samples.y, self._window)
            tallies[piece.probe] = tallies.get(piece.probe, Tally()) + tallied
        clean = tallies.pop(None)
        return Scored(clean, {str(probe): total.mean for probe, total in tallies.items()})

    def _scores(self, index: int, piece: Piece, end: int) -> Array:
        if piece.cut is None:
            network, layer = self._flipping.network, self._flipping.layer
            cut = network.cut(layer.name, piece.samples.x)
            return cut.tail(self._moved(cut, cut.output, 0, end))
        moved = self._moved(piece.cut, self._outputs[index], self._end, end)
        self._outputs[index] = moved
        return piece.cut.tail(moved)

    def _moved(self, cut: Cut, output: Any, start: int, end: int) -> Any:
        newly_flipped = self._flipping.order[start:end]
        return output - cut.linear(self._change, newly_flipped) if newly_flipped.size else output


def _bytes_kept(cut: Cut) -> int:
    # The inputs, the copy of them that a backend sorts by neuron, the output and its successor.
    return 2 * (int(cut.inputs.nbytes) + _bytes_of(cut.output))


def _bytes_of(output: Any) -> int:
    # Every array type that a backend would use has this attribute.
    return int(getattr(output, "nbytes", 0))


def _check_classes(scores: Array, y: Array) -> None:
    if scores.ndim != 2 or scores.shape[1] < 2 or len(scores) != len(y):
        raise DataError(
            f"accuracy needs one score per class: expected scores of shape ({len(y)}, classes) "
            f"with at least 2 classes; the model gave {scores.shape}. For another kind of output "
            "give score=, a function of (scores, y) that returns each sample's worth"
        )
    if y.size and y.max() >= scores.shape[1]:
        raise DataError(
            f"expected labels from 0 to {scores.shape[1] - 1}, as the model scores "
            f"{scores.shape[1]} classes; got {y.max()}"
        )
