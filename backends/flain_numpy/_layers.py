"""The layers that can be purified: linear in their weight, plus a bias."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from math import prod
from typing import ClassVar, TypeAlias

import numpy as np

from flain_core.backend_kit import DenseInput
from flain_core.errors import ModelError
from flain_core.flipping import only
from flain_core.network import Array, Layer

from ._arrays import frozen, shape_text
from ._windows import Padding, Pair, Window, pair

Contribution: TypeAlias = Callable[[Array, Array], Array]
"""Returns, for ``(weight, neurons)``, what these input neurons add to a pre-activation."""

# Image patches that stay in the processor's cache make a convolution up to twice as fast as
# patches that do not: 0.25 to 64 MiB were tried.
_PATCH_BYTES = 2**20


@dataclass(frozen=True, eq=False, repr=False)
class LinearLayer(ABC):
    """A layer with a weight, which is copied and read only; the subclasses describe the fields."""

    kind: ClassVar[str]
    layout: ClassVar[str]
    groups = 1

    name: str
    weight: Array
    bias: Array | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ModelError(f"name of a layer: expected some text; got {self.name!r}")
        object.__setattr__(self, "weight", frozen(self.weight))
        if self.weight.ndim != len(self.layout.split(",")) or not self.weight.size:
            raise ModelError(
                f"weight of {self.name!r}: expected {self.layout}; got shape {self.weight.shape}"
            )
        if self.bias is not None:
            object.__setattr__(self, "bias", frozen(self.bias))
            if self.bias.shape != self.weight.shape[:1]:
                raise ModelError(
                    f"bias of {self.name!r}: expected shape {self.weight.shape[:1]} to go with the "
                    f"weight {shape_text(self.weight.shape)}; got {self.bias.shape}"
                )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {shape_text(self.weight.shape)})"

    def described(self) -> Layer:
        epsilon = float(np.finfo(self.weight.dtype).eps)
        return Layer(self.name, self.kind, self.weight, self.groups, epsilon, self.bias)

    @abstractmethod
    def __call__(self, x: Array) -> Array:
        """Return the pre-activation, bias included."""

    def inputs(self, x: Array) -> Array:
        """Return what enters the layer as ``(n, in, *positions)``."""
        return x

    @abstractmethod
    def contribution(self, x: Array) -> Contribution:
        """Prepare ``x`` for asking often what single neurons add to the pre-activation."""


@dataclass(frozen=True, eq=False, repr=False)
class Dense(LinearLayer):
    """``x @ weight.T + bias`` over the last axis, ``(n, ..., in)`` to ``(n, ..., out)``.

    Attributes:
        name: The name to purify the layer by, unique in a network.
        weight: ``(out, in)``. Arrays keep their float type, anything else becomes float32.
        bias: ``(out,)``, or None.

    >>> dense = Dense("fc1", np.array([[1.0, 2.0, 3.0]]), np.array([0.5]))
    >>> dense(np.array([[1.0, 1.0, 1.0]]))
    array([[6.5]])
    """

    kind: ClassVar[str] = "dense"
    layout: ClassVar[str] = "(out, in)"

    def __call__(self, x: Array) -> Array:
        features = self.weight.shape[1]
        if x.ndim < 2 or x.shape[-1] != features:
            raise ValueError(f"expected (n, ..., {features}); got {x.shape}")
        # What is not finite shows in the scores, which are checked.
        with np.errstate(over="ignore", invalid="ignore"):
            output = x.reshape(-1, features) @ self.weight.T
            if self.bias is not None:
                output += self.bias
        return output.reshape(*x.shape[:-1], len(self.weight))

    def inputs(self, x: Array) -> Array:
        return np.moveaxis(x, -1, 1)

    def contribution(self, x: Array) -> Contribution:
        return DenseInput(x).linear


@dataclass(frozen=True, eq=False, repr=False)
class Conv2d(LinearLayer):
    """Convolution (cross-correlation) of images, ``(n, in, H, W)`` to ``(n, out, H', W')``.

    Attributes:
        name: The name to purify the layer by, unique in a network.
        weight: ``(out, in / groups, kh, kw)``. Arrays keep their float type, anything else becomes
            float32.
        bias: ``(out,)``, or None.
        stride: How far the kernel moves, in pixels: one number, or (height, width).
        padding: Zeros added on both sides, in pixels; or ``"same"`` for ``ceil(H / stride)`` rows
            and ``ceil(W / stride)`` columns of output, an odd zero going below and to the right.
        dilation: The distance of the kernel's pixels, in pixels.
        groups: Into how many groups the channels are split; as many as channels is depthwise.

    >>> edge = Conv2d("edge", np.array([[[[-1.0, 1.0]]]]), padding="same")
    >>> edge(np.array([[[[0.0, 0.0, 5.0, 5.0]]]]))
    array([[[[ 0.,  5.,  0., -5.]]]])
    """

    kind: ClassVar[str] = "conv"
    layout: ClassVar[str] = "(out, in / groups, kh, kw)"

    _: KW_ONLY
    stride: Pair = 1
    padding: Padding = 0
    dilation: Pair = 1
    groups: int = 1
    _window: Window = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.groups, int) or self.groups < 1 or len(self.weight) % self.groups:
            raise ModelError(
                f"groups of {self.name!r}: expected a divisor of its {len(self.weight)} output "
                f"channels; got {self.groups!r}"
            )
        height, width = self.weight.shape[2:]
        window = Window(
            size=(height, width),
            stride=pair(self.stride, "stride"),
            padding="same" if self.padding == "same" else pair(self.padding, "padding", least=0),
            dilation=pair(self.dilation, "dilation"),
        )
        object.__setattr__(self, "_window", window)

    def __call__(self, x: Array) -> Array:
        channels = self.weight.shape[1] * self.groups
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(f"expected images (n, {channels}, H, W); got {x.shape}")
        output = self._convolve(x, self.weight)
        if self.bias is not None:
            output += self.bias[:, None, None]
        return output

    def contribution(self, x: Array) -> Contribution:
        def contribution(weight: Array, neurons: Array) -> Array:
            if self.groups == 1:
                images, columns = x[:, neurons], weight[:, neurons]
            else:
                images, columns = x, only(weight, neurons, self.groups)
            return self._convolve(images, columns.astype(x.dtype, copy=False))

        return contribution

    def _convolve(self, images: Array, weight: Array) -> Array:
        samples, channels, *_ = images.shape
        height, width = self._window.positions(images.shape)
        out, group_channels, *kernel = weight.shape
        kernels = weight.reshape(self.groups, out // self.groups, group_channels * prod(kernel))
        output = np.empty(
            (samples, *kernels.shape[:2], height * width), np.result_type(images, weight)
        )
        patch = (channels, prod(kernel), height, width)
        at_once = max(1, _PATCH_BYTES // max(1, prod(patch) * images.itemsize))
        scratch = np.empty((min(at_once, samples), *patch), images.dtype)
        for start in range(0, samples, at_once):
            chunk = images[start : start + at_once]
            patches = scratch[: len(chunk)]
            for pixel, tap in enumerate(self._window.taps(chunk)):
                patches[:, :, pixel] = tap
            columns = patches.reshape(len(chunk), self.groups, kernels.shape[2], height * width)
            np.matmul(kernels, columns, out=output[start : start + at_once])
        return output.reshape(samples, out, height, width)
