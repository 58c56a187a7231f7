"""One batch, run once up to a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flain_core.errors import ModelError
from flain_core.network import Array

from ._batch import Chunks
from ._contribution import LayerInput
from ._sessions import Session

__all__ = ["OnnxCut", "Tail"]


@dataclass(frozen=True, eq=False)
class Tail:
    """What comes after a layer.

    Attributes:
        session: Computes the scores; None if the layer's output is the scores.
        output: The name of the layer's output.
    """

    session: Session | None
    output: str

    def scores(self, output: Array, side: Mapping[str, Array]) -> Array:
        """The scores for one chunk, given values that do not depend on the layer."""
        if self.session is None:
            return output
        (scores,) = self.session.run({**side, self.output: output})
        return scores


class OnnxCut:
    """Implements :class:`flain_core.network.Cut` with NumPy arrays.

    Pre-activations are ``(chunks, ...)``: one chunk for all samples, unless the model fixes its
    batch size; the last chunk is filled up then. They are float32 or float64, whatever the layer
    computes in, and come without a bias that a node of its own adds.

    Args:
        chunks: The batch.
        entered: What entered the layer.
        outputs: What came out, for each chunk.
        sides: For each chunk the values that the tail reads besides.
        tail: What comes after.
        by_sample: Whether the tail treats each sample by itself, and reads nothing of it but the
            layer's output.
    """

    def __init__(
        self,
        chunks: Chunks,
        entered: LayerInput,
        outputs: Sequence[Array],
        sides: Sequence[Mapping[str, Array]],
        tail: Tail,
        by_sample: bool,
    ) -> None:
        self._chunks, self._entered, self._sides, self._tail = chunks, entered, sides, tail
        self._by_sample = by_sample
        self._element = outputs[0].dtype
        self._output = np.stack(outputs).astype(np.promote_types(self._element, np.float32))
        self._output.flags.writeable = False

    @property
    def inputs(self) -> Array:
        """``(n, in, *positions)``, read only."""
        inputs = self._entered.by_sample(self._chunks.size)[: self._chunks.samples]
        inputs.flags.writeable = False
        return inputs

    @property
    def calls(self) -> int:
        """A layer is one node, which runs once."""
        return 1

    @property
    def output(self) -> Array:
        """The pre-activation. Read only."""
        return self._output

    def linear(self, weight: Array, neurons: Array) -> Array:
        """What ``neurons`` contribute to the pre-activation under ``weight``.

        Gathering is fastest if ``weight`` lies in memory column by column (``order="F"``).
        """
        return self._entered.linear(weight, neurons, self._output)

    def tail(self, output: Array) -> Array:
        """The scores ``(n, ...)`` if the pre-activation were ``output``."""
        if output.shape != self._output.shape:
            raise ModelError(
                f"expected a pre-activation of shape {self._output.shape}; got {output.shape}"
            )
        stored = np.ascontiguousarray(output, dtype=self._element)
        return self._chunks.joined(
            [self._tail.scores(each, side) for each, side in zip(stored, self._sides, strict=True)]
        )

    @property
    def tail_by_sample(self) -> Callable[[Array], Array] | None:
        """The scores of any samples; None where the tail does not treat each by itself."""
        if not self._by_sample or self._output.ndim != 3 or len(self._output) > 1:
            return None
        return self._scores_of

    def _scores_of(self, output: Array) -> Array:
        scores = self._tail.scores(output.astype(self._element), self._sides[0])
        return scores.astype(np.promote_types(scores.dtype, np.float32))
