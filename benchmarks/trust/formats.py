"""The formats that flain reads, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import file_formats, message_formats
from .prepared import Prepared

FORMATS: Mapping[str, Callable[[], Prepared]] = {
    ".npz, models": file_formats.numpy_models,
    ".npz, samples": file_formats.samples,
    ".safetensors": file_formats.safetensors,
    ".pt": file_formats.torch_files,
    ".onnx": file_formats.onnx_models,
    ".onnx, external data": file_formats.onnx_external,
    ".keras": file_formats.keras_archives,
    ".h5": file_formats.keras_hdf5,
    "messages": message_formats.questions_and_answers,
    "messages in Flower": message_formats.flower_messages,
    "messages in FLARE": message_formats.flare_messages,
}
