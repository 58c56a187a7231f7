"""One batch, run once up to a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from flain_core.backend_kit import DenseInput, read_only, split_samples
from flain_core.errors import LayerError, ModelError
from flain_core.flipping import only
from flain_core.network import Array

from ._batch import Chunks
from ._forms import ConvolutionForm, DenseForm
from ._sessions import Session


class MatrixInput:
    """Input of a Gemm or MatMul: ``(chunks, ..., in)`` or ``(chunks, ..., in, columns)``."""

    def __init__(self, form: DenseForm, x: Array) -> None:
        self._form = form
        self._entered = DenseInput(x if form.features_last else x.swapaxes(-1, -2))

    def by_sample(self, size: int) -> Array:
        """Return ``(chunks * size, in, *positions)``, for chunks of ``size`` samples."""
        x = self._entered.x
        rows = x.shape[1:-1]
        if not rows:
            raise LayerError("the layer sees a single vector for the whole batch")
        axis = rows.index(size) if rows.count(size) == 1 else 0
        x = np.moveaxis(x, 1 + axis, 1)
        x = split_samples(x.reshape(-1, *x.shape[2:]), len(x) * size)
        return np.moveaxis(x, -1, 1)

    def linear(self, weight: Array, neurons: Array) -> Array:
        """Arrange the contribution like the output; there is at least one of ``neurons``."""
        product = self._entered.linear(weight, neurons)
        if self._form.scale != 1.0:
            product *= self._form.scale
        return product if self._form.weight_at == 1 else product.swapaxes(-1, -2)


class ConvolutionInput:
    """Input of a Conv or ConvTranspose, ``(chunks, n, in, *positions)``.

    The session ``convolution`` is the layer without its bias; it reads ``x`` and ``weight``.
    """

    def __init__(self, form: ConvolutionForm, convolution: Session, x: Array) -> None:
        self._form, self._convolution, self._chunks = form, convolution, len(x)
        wide = np.promote_types(x.dtype, np.float32)
        self._x = np.array(x.reshape(-1, *x.shape[2:]), dtype=wide, order="C")

    def by_sample(self, size: int) -> Array:
        x: Array = split_samples(self._x, self._chunks * size)
        return x if x.ndim == self._x.ndim else x.swapaxes(1, 2)

    def linear(self, weight: Array, neurons: Array) -> Array:
        groups = self._form.groups
        if groups == 1:
            x, chosen = self._x[:, neurons], weight[:, neurons]
        else:
            x, chosen = self._x, only(weight, neurons, groups)
        kernel = np.ascontiguousarray(self._form.turned(chosen), dtype=x.dtype)
        (product,) = self._convolution.run({"x": np.ascontiguousarray(x), "weight": kernel})
        return product.reshape(self._chunks, -1, *product.shape[1:])


class OnnxCut:
    """Implements :class:`flain_core.network.Cut` with NumPy arrays.

    Pre-activations are ``(chunks, ...)``: one chunk for all samples, unless the model fixes its
    batch size; the last chunk is filled up then. They are float32 or float64, whatever the layer
    computes in. A bias that a node of its own adds is in them if the layer shows it, and if it is
    added before they are rearranged.

    For each chunk there are the layer's ``outputs``, which the tail calls ``name``, and ``sides``,
    what the tail reads besides. There is no ``tail`` if the output is the scores; a tail
    ``by_sample`` treats each sample by itself, and reads nothing of it but the output. The sides
    that are no weights take ``bytes_beside`` bytes.
    """

    calls = 1
    bytes_beside = 0

    def __init__(
        self,
        chunks: Chunks,
        entered: MatrixInput | ConvolutionInput,
        outputs: Sequence[Array],
        sides: Sequence[Mapping[str, Array]],
        tail: Session | None,
        name: str,
        by_sample: bool,
    ) -> None:
        # Nothing below reads the samples, and a search keeps many cuts.
        self._chunks = replace(chunks, feeds={})
        self._entered, self._sides, self._tail = entered, sides, tail
        self._name, self._by_sample = name, by_sample
        self._element = outputs[0].dtype
        stacked = np.stack(outputs).astype(np.promote_types(self._element, np.float32))
        self.output = read_only(stacked)

    @property
    def inputs(self) -> Array:
        return read_only(self._entered.by_sample(self._chunks.size)[: self._chunks.samples])

    def linear(self, weight: Array, neurons: Array) -> Array:
        if not len(neurons):
            return np.zeros_like(self.output)
        return self._entered.linear(weight, neurons)

    def tail(self, output: Array) -> Array:
        if output.shape != self.output.shape:
            raise ModelError(
                f"expected a pre-activation of shape {self.output.shape}; got {output.shape}"
            )
        stored = np.ascontiguousarray(output, dtype=self._element)
        return self._chunks.joined(
            [self._scores(each, side) for each, side in zip(stored, self._sides, strict=True)]
        )

    @property
    def tail_by_sample(self) -> Callable[[Array], Array] | None:
        if not self._by_sample or self.output.ndim != 3 or len(self.output) > 1:
            return None
        return self._scores_of

    def _scores_of(self, output: Array) -> Array:
        scores = self._scores(output.astype(self._element), self._sides[0])
        return scores.astype(np.promote_types(scores.dtype, np.float32))

    def _scores(self, output: Array, side: Mapping[str, Array]) -> Array:
        if self._tail is None:
            return output
        return self._tail.run({**side, self._name: output})[0]
