"""How each operator lays its weight, its input and its output out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from onnx import NodeProto

from flain_core.network import Array

from ._stored import attribute

__all__ = ["ConvolutionForm", "DenseForm", "Form", "form_of"]


@dataclass(frozen=True)
class DenseForm:
    """A matrix product.

    Attributes:
        weight_at: Which input of the node is the weight: 0 stands on the left.
        transposed: Whether the weight arrives as ``(in, out)``.
        features_last: Whether the input is ``(..., in)``; otherwise ``(..., in, columns)``.
        outputs_last: Whether the output is ``(..., out)``; otherwise ``(..., out, columns)``.
        scale: What the product is multiplied by.
    """

    weight_at: int
    transposed: bool
    features_last: bool
    outputs_last: bool
    scale: float = 1.0

    kind = family = "dense"
    groups = 1

    def canonical(self, weight: Array) -> Array:
        """``(out, in)`` from what arrives at the node; a view."""
        return weight.T if self.transposed else weight

    def arriving(self, weight: Array) -> Array:
        """The inverse of :meth:`canonical`."""
        return weight.T if self.transposed else weight


@dataclass(frozen=True)
class ConvolutionForm:
    """A convolution, ``(n, in, *positions)`` to ``(n, out, *positions)``.

    Attributes:
        groups: Into how many groups the channels are split.
        transposed: Whether it is a transposed convolution, whose weight arrives as
            ``(in, out / groups, *kernel)``.
    """

    groups: int
    transposed: bool

    kind = "conv"
    weight_at = 1

    @property
    def family(self) -> str:
        """Operators with the same name here do the same."""
        return "transposed convolution" if self.transposed else "convolution"

    def canonical(self, weight: Array) -> Array:
        """``(out, in / groups, *kernel)`` from what arrives at the node."""
        return _exchanged(weight, self.groups) if self.transposed else weight

    def arriving(self, weight: Array) -> Array:
        """The inverse of :meth:`canonical`."""
        return _exchanged(weight, self.groups) if self.transposed else weight


Form: TypeAlias = DenseForm | ConvolutionForm


def form_of(node: NodeProto, weight_at: int) -> Form | None:
    """The form of a node whose input number ``weight_at`` is a weight; None if it has no such."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "MatMul":
        right = weight_at == 1
        return DenseForm(weight_at, right, features_last=right, outputs_last=right)
    if node.op_type == "Gemm" and weight_at < 2:
        turned = [bool(attribute(node, name, 0)) for name in ("transA", "transB")]
        # Left: (out, in) times (in, n). Right: (n, in) times (in, out).
        transposed = turned[0] if weight_at == 0 else not turned[1]
        features_last = turned[1] if weight_at == 0 else not turned[0]
        scale = float(attribute(node, "alpha", 1.0))
        return DenseForm(weight_at, transposed, features_last, weight_at == 1, scale)
    if node.op_type in ("Conv", "ConvTranspose") and weight_at == 1:
        groups = int(attribute(node, "group", 1))
        return ConvolutionForm(groups, node.op_type == "ConvTranspose")
    return None


def _exchanged(weight: Array, groups: int) -> Array:
    """Exchange the first two axes within each group; its own inverse."""
    first, second, *kernel = weight.shape
    split = weight.reshape(groups, first // groups, second, *kernel).swapaxes(1, 2)
    return split.reshape(groups * second, first // groups, *kernel)
