"""Names layers as the framework did that the model came from, as far as that is known."""

from __future__ import annotations

import re
from ast import literal_eval
from collections import Counter
from collections.abc import Collection, Iterable

from onnx import NodeProto

_SCOPES = "pkg.torch.onnx.name_scopes"
_LONGEST_NOTE = 10_000
_MADE_UP = re.compile(
    r"^$|^onnx::|^val_\d+$|^\d+$|^_?const|^node_|^(MatMul|Gemm|Conv|ConvTranspose)(_\d+)?$"
)
_PARAMETER = re.compile(r"\.(weight|kernel)$")
_OPERATOR = re.compile(
    r"(/(kernel|ReadVariableOp(_\d+)?|MatMul|Gemm|Conv\dD|Conv|ConvTranspose|Cast|Tensordot"
    r"|convolution|merged_input)|:0)$"
)


def layer_names(layers: Iterable[tuple[NodeProto, str]], taken: Collection[str] = ()) -> list[str]:
    """Name layers, each differently, given as their node and the name of their stored weight.

    A name is the weight's without its ending, such as ``"fc1"`` of ``"fc1.weight"``; where an
    exporter made that up, it is the module that the exporter noted, the node's name, or the
    operator and how many of its kind came before.
    """
    seen: Counter[str] = Counter()
    used, again = set(taken), Counter[str]()
    names: list[str] = []
    for node, weight in layers:
        base = _from_framework(node, weight) or f"{node.op_type}_{seen[node.op_type]}"
        seen[node.op_type] += 1
        name = base
        while name in used:
            # From where the last one of that name stopped, so that many of them take no longer.
            again[base] += 1
            name = f"{base}_{again[base] + 1}"
        used.add(name)
        names.append(name)
    return names


def _from_framework(node: NodeProto, weight: str) -> str:
    if _PARAMETER.search(weight):
        return _PARAMETER.sub("", weight)
    name = _without_operators(weight)
    if not _MADE_UP.match(name):
        return name
    name = _without_operators(node.name)
    return _module(node) or ("" if _MADE_UP.match(name) else name)


def _module(node: NodeProto) -> str:
    noted = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")
    try:
        scopes = literal_eval(noted) if len(noted) < _LONGEST_NOTE else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ""
    # The last one is the operator itself.
    return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else ""


def _without_operators(name: str) -> str:
    shorter = _OPERATOR.sub("", name)
    while shorter != name:
        name, shorter = shorter, _OPERATOR.sub("", shorter)
    return name.strip("/")
