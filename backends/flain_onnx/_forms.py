"""Describes how each operator lays its weight, its input and its output out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from onnx import NodeProto

from flain_core.backend_kit import exchange_channels
from flain_core.network import Array

from ._stored import attribute


@dataclass(frozen=True)
class DenseForm:
    """A matrix product, multiplied by ``scale``."""

    weight_at: int
    """Which input is the weight: 1 for an output ``(..., out)``, 0 for ``(..., out, columns)``."""
    transposed: bool
    """True if the weight arrives as ``(in, out)``."""
    features_last: bool
    """True if the input is ``(..., in)``; otherwise ``(..., in, columns)``."""
    scale: float = 1.0

    kind = family = "dense"
    groups = 1

    def turned(self, weight: Array) -> Array:
        """Turn what arrives at the node into ``(out, in)``, or that back; a view."""
        return weight.T if self.transposed else weight


@dataclass(frozen=True)
class ConvolutionForm:
    """A convolution, ``(n, in, *positions)`` to ``(n, out, *positions)``.

    The weight of a transposed one arrives as ``(in, out / groups, *kernel)``.
    """

    groups: int
    transposed: bool

    kind = "conv"
    weight_at = 1

    @property
    def family(self) -> str:
        return "transposed convolution" if self.transposed else "convolution"

    def turned(self, weight: Array) -> Array:
        """Turn what arrives at the node into ``(out, in / groups, *kernel)``, or that back."""
        turned: Array = exchange_channels(weight, self.groups) if self.transposed else weight
        return turned


Form: TypeAlias = DenseForm | ConvolutionForm


def form_of(node: NodeProto, weight_at: int) -> Form | None:
    """Return the form of a node whose input ``weight_at`` is a weight; None if that cannot be."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "MatMul":
        right = weight_at == 1
        return DenseForm(weight_at, transposed=right, features_last=right)
    if node.op_type == "Gemm" and weight_at < 2:
        turned = [bool(attribute(node, name, 0)) for name in ("transA", "transB")]
        # Left: (out, in) times (in, n). Right: (n, in) times (in, out).
        transposed = turned[0] if weight_at == 0 else not turned[1]
        features_last = turned[1] if weight_at == 0 else not turned[0]
        scale = float(attribute(node, "alpha", 1.0))
        return DenseForm(weight_at, transposed, features_last, scale)
    if node.op_type in ("Conv", "ConvTranspose") and weight_at == 1:
        groups = int(attribute(node, "group", 1))
        return ConvolutionForm(groups, node.op_type == "ConvTranspose")
    return None
