"""Says why a layer, or a whole model, cannot be purified safely."""

from __future__ import annotations

import re

from onnx import ModelProto, NodeProto, TensorProto

from flain_core.errors import ModelError

from ._graph import all_nodes
from ._model import FLOATS
from ._stored import Stored

_QUANTIZED = re.compile(
    r"^(QuantizeLinear|DequantizeLinear|DynamicQuantize.*|QLinear.*|QGemm|QAttention"
    r"|MatMulInteger.*|ConvInteger|MatMulNBits|MatMulBnb4|QMoE)$"
)
_FOLDED_BY_RULE = "pkg.onnxscript.rewriter.rule_name"
_FOLDED_BY_TRACING = re.compile(r"^onnx::Conv(Transpose)?_\d+$")
_FOLDED_BY_TENSORFLOW = "merged_input"


def check_not_quantized(model: ModelProto) -> None:
    """Raise :class:`ModelError` if the model computes with quantized numbers."""
    for node in all_nodes(model.graph):
        if _QUANTIZED.match(node.op_type):
            raise ModelError(
                f"the model is quantized (it contains {node.op_type}); a flipped weight, twice the "
                "initial one minus the final one, can leave the range that its scale allows; "
                "purify the float model, then quantize the result"
            )


def refusal(node: NodeProto, stored: Stored) -> str | None:
    """Return why the layer of a node with a stored weight is refused; None if it is not."""
    if TensorProto.BFLOAT16 in (stored.tensor.data_type, stored.element):
        return (
            "it computes in bfloat16, which onnxruntime cannot multiply on a CPU; "
            "export the model in float32 or float16"
        )
    if stored.tensor.data_type not in FLOATS or stored.element not in FLOATS:
        name = TensorProto.DataType.Name(stored.tensor.data_type)
        return f"its weight is stored as {name}; export the model in float32 or float16"
    if stored.shared:
        return (
            f"its weight {stored.name!r} is used elsewhere in the model too, so a change would "
            "reach further than this layer"
        )
    if _folded(node, stored):
        return (
            "the exporter folded a batch normalization into it, so its weight is not the one that "
            "was trained; export both models unfolded: torch.onnx.export(..., optimize=False), or "
            "with dynamo=False: training=TrainingMode.PRESERVE, do_constant_folding=False"
        )
    return None


def _folded(node: NodeProto, stored: Stored) -> bool:
    rules = [entry.value for entry in node.metadata_props if entry.key == _FOLDED_BY_RULE]
    # A weight that was only transposed is renamed, too; but folding makes a bias as well.
    made = (stored.name, *node.input[2:])
    return (
        any("FuseBatchNorm" in rule for rule in rules)
        or (len(made) > 1 and all(map(_FOLDED_BY_TRACING.match, made)))
        or _FOLDED_BY_TENSORFLOW in stored.name
    )
