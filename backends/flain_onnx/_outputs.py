"""Which of a model's outputs holds the scores."""

from __future__ import annotations

from onnx import GraphProto, ValueInfoProto

from flain_core.errors import ModelError, nearest

from ._refusals import FLOATS

__all__ = ["scores_output"]

_USUAL_NAMES = ("logits", "scores", "output")


def scores_output(graph: GraphProto, chosen: str | None) -> str:
    """The name of the output with the scores ``(n, ...)``.

    That is the chosen one, else the only floating-point output, else the one called logits, scores
    or output, else the only one with two axes.

    Raises:
        ModelError: None or several fit.
    """
    names = [output.name for output in graph.output]
    if chosen is not None:
        if chosen not in names:
            raise ModelError(
                f"expected scores= to name one of the model's outputs, {names}; got {chosen!r}."
                f"{nearest(chosen, names)}"
            )
        return chosen
    floats = [output for output in graph.output if _is_float(output)]
    named = [output for output in floats if output.name in _USUAL_NAMES]
    flat = [output for output in floats if len(output.type.tensor_type.shape.dim) == 2]
    for fitting in (floats, named, flat):
        if len(fitting) == 1:
            return str(fitting[0].name)
    raise ModelError(
        f"cannot tell which output holds the scores: the model has {names}, of which {len(floats)} "
        "are floating point; choose one with flain_onnx.load(path, scores=name) or "
        "flain_onnx.OnnxModel(proto, scores=name) (--scores on the command line)"
    )


def _is_float(output: ValueInfoProto) -> bool:
    return output.type.tensor_type.elem_type in FLOATS
