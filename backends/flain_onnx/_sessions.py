"""Runs a model, or a part of one, through onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnxruntime
from onnx import ModelProto, TensorProto

from flain_core.errors import ModelError
from flain_core.network import Array

from ._model import OnnxModel, Provider

__all__ = ["Session", "check_providers"]

_FOLDER = "session.model_external_initializers_file_folder_path"
_SPINNING = "session.intra_op.allow_spinning"
_ELEMENTS = {
    "tensor(float)": TensorProto.FLOAT,
    "tensor(double)": TensorProto.DOUBLE,
    "tensor(float16)": TensorProto.FLOAT16,
    "tensor(int8)": TensorProto.INT8,
    "tensor(int16)": TensorProto.INT16,
    "tensor(int32)": TensorProto.INT32,
    "tensor(int64)": TensorProto.INT64,
    "tensor(uint8)": TensorProto.UINT8,
    "tensor(uint16)": TensorProto.UINT16,
    "tensor(uint32)": TensorProto.UINT32,
    "tensor(uint64)": TensorProto.UINT64,
    "tensor(bool)": TensorProto.BOOL,
    "tensor(string)": TensorProto.STRING,
}


@dataclass(frozen=True, eq=False)
class Session:
    """A model that is ready to run.

    Attributes:
        runtime: The session of onnxruntime.
        inputs: The names it reads.
        elements: Element type of each output; None where it is no tensor that NumPy knows.
    """

    runtime: Any
    inputs: tuple[str, ...]
    elements: tuple[int | None, ...]

    @classmethod
    def of(cls, part: ModelProto, model: OnnxModel, *, threads: int = 0) -> Session:
        """Build a session for a part of a model, on some threads; 0 for one thread per core."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        # Threads that wait by spinning keep the cores from the linear algebra of NumPy.
        options.add_session_config_entry(_SPINNING, "0")
        if model.folder is not None:
            options.add_session_config_entry(_FOLDER, str(model.folder))
        try:
            runtime = onnxruntime.InferenceSession(
                part.SerializeToString(), options, providers=list(model.providers)
            )
        # onnxruntime raises subclasses of Exception that it does not document.
        except Exception as error:
            raise ModelError(f"onnxruntime cannot open the model: {_first_line(error)}") from error
        return cls(
            runtime,
            tuple(each.name for each in runtime.get_inputs()),
            tuple(_ELEMENTS.get(each.type) for each in runtime.get_outputs()),
        )

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """All outputs, given at least the inputs it reads."""
        try:
            results: list[Array] = self.runtime.run(
                None, {name: feeds[name] for name in self.inputs}
            )
        except Exception as error:
            shapes = {name: feeds[name].shape for name in self.inputs}
            raise ModelError(
                f"onnxruntime failed on inputs of shapes {shapes}: {_first_line(error)}"
            ) from error
        return results


def check_providers(providers: Sequence[Provider]) -> None:
    """Raise :class:`ModelError` if the installed onnxruntime lacks one of the providers."""
    available = onnxruntime.get_available_providers()
    names = [each if isinstance(each, str) else each[0] for each in providers]
    if not names or not set(names) <= set(available):
        raise ModelError(
            f"expected execution providers of the installed onnxruntime, {available}; got {names}; "
            "install the onnxruntime package that has them"
        )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
