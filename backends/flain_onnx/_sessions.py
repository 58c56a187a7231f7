"""Runs a model through onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnxruntime
from onnx import ModelProto, TensorProto

from flain_core.backend_kit import AS_TRAINED
from flain_core.errors import ModelError
from flain_core.network import Array

from ._guard import first_line
from ._model import OnnxModel, Provider
from ._patience import patience

_FOLDER = "session.model_external_initializers_file_folder_path"
_SPINNING = "session.intra_op.allow_spinning"
_ELEMENTS = {
    f"tensor({name})": TensorProto.DataType.Value(name.upper())
    for name in (
        *("float", "double", "float16", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64", "bool", "string"),
    )
}
"""Element types that NumPy knows, by the names that onnxruntime has for tensors of them."""


class Session:
    """Runs ``proto``, some of ``model``, on some threads; 0 for one thread per core.

    The element type of an output is None where that is no tensor that NumPy knows.
    """

    def __init__(self, proto: ModelProto, model: OnnxModel, *, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        # Threads that wait by spinning keep the cores from the linear algebra of NumPy.
        options.add_session_config_entry(_SPINNING, "0")
        if model.folder is not None:
            options.add_session_config_entry(_FOLDER, str(model.folder))
        try:
            self._runtime = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=list(model.providers)
            )
        # onnxruntime raises subclasses of Exception that it does not document.
        except Exception as error:
            raise ModelError(f"onnxruntime cannot open the model: {first_line(error)}") from error
        self._inputs = [each.name for each in self._runtime.get_inputs()]
        self.outputs = {each.name: _ELEMENTS.get(each.type) for each in self._runtime.get_outputs()}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Return all outputs, given at least the inputs it reads."""
        read = {name: feeds[name] for name in self._inputs}
        try:
            with patience(sum(array.nbytes for array in read.values())) as options:
                results: list[Array] = self._runtime.run(None, read, options)
        except ModelError:
            raise
        except Exception as error:
            shapes = {name: array.shape for name, array in read.items()}
            raise ModelError(
                f"onnxruntime failed on inputs of shapes {shapes}: "
                f"{first_line(error).rstrip('. ')}; {AS_TRAINED}"
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
