"""Tensors in files beside a model: where they lie, and how they come into a file of ours.

What a model calls its files is looked up when it is read, and never obeyed when it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from pathlib import Path

from onnx import ModelProto, TensorProto, helper

from flain_core.errors import ModelError, WeightsError

from ._model import OnnxModel
from ._walk import all_tensors

_ALIGNED = 64
_PART = 2**20
_BESIDE_FROM = 2**20
_MOST_INSIDE = 2**30  # of the 2 GiB that a file of a model may have


@dataclass(frozen=True)
class Place:
    """A tensor's place: ``length`` bytes of a file, from byte ``offset`` on."""

    path: Path
    offset: int
    length: int

    def parts(self) -> Iterator[bytes]:
        """Yield its bytes in pieces."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for start in range(0, self.length, _PART):
                yield file.read(min(_PART, self.length - start))


@dataclass(frozen=True, eq=False)
class Held:
    """A tensor that a model holds itself, of ``length`` bytes."""

    tensor: TensorProto
    length: int

    def parts(self) -> Iterator[memoryview]:
        """Yield its bytes in pieces."""
        content = memoryview(self.tensor.raw_data)
        for start in range(0, self.length, _PART):
            yield content[start : start + _PART]


def is_external(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def check_folder(model: OnnxModel) -> None:
    """Make sure that every external tensor is where the model says."""
    for tensor in _external(model.proto):
        located(tensor, model.folder)


def external_files(model: OnnxModel) -> set[Path]:
    """Return the files that hold the model's tensors."""
    return {located(tensor, model.folder).path for tensor in _external(model.proto)}


def located(tensor: TensorProto, folder: Path | None) -> Place:
    """Return the place of an external tensor, after making sure that it is there."""
    if folder is None:
        raise ModelError(
            f"the tensor {tensor.name!r} lies in an external file, and a ModelProto alone does not "
            "know its folder; open the file with flain_onnx.load(path), or give its path"
        )
    path = _path(tensor, folder)
    if not path.is_file():
        raise WeightsError(
            f"the tensor {tensor.name!r} lies in {path}, which does not exist; keep the model "
            "together with the files that were exported with it"
        )
    try:
        offset = int(_entry(tensor, "offset") or 0)
        length = int(_entry(tensor, "length") or bytes_declared(tensor))
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"the tensor {tensor.name!r} says something unreadable about its place ({error}); "
            "export the model again"
        ) from error
    if offset < 0 or length < 0 or offset + length > path.stat().st_size:
        raise WeightsError(
            f"the tensor {tensor.name!r} should be bytes {offset} to {offset + length} of {path}, "
            f"which has {path.stat().st_size}; the file is damaged or belongs to another model"
        )
    return Place(path, offset, length)


def outgrows_a_file(model: OnnxModel) -> bool:
    """Return whether large tensors that a model holds itself have to lie in a file beside it."""
    return sum(map(bytes_declared, _large(model.proto))) > _MOST_INSIDE


def gathered(contents: Iterable[Place | Held], file: Path) -> str:
    """Write what tensors hold, each place once, into a file of ours.

    Returns:
        A hash of what was written, in hexadecimal.
    """
    digest, starts = sha256(), dict[Place | Held, int]()
    with file.open("wb") as stream:
        for content in contents:
            if content not in starts:
                padding = bytes(-stream.tell() % _ALIGNED)
                starts[content] = stream.tell() + len(padding)
                for part in (padding, *content.parts()):
                    stream.write(part)
                    digest.update(part)
    return digest.hexdigest()


def moved(model: OnnxModel, name: str) -> ModelProto:
    """Return a copy of the model whose tensors lie where :func:`gathered` put them.

    ``name`` is what that file is called, beside the model.
    """
    copy = ModelProto()
    copy.CopyFrom(model.proto)
    starts, end = dict[Place | Held, int](), 0
    tensors = [*_external(copy), *_large(copy)]
    for tensor, content in zip(tensors, contents(model), strict=True):
        if content not in starts:
            starts[content] = end + -end % _ALIGNED
            end = starts[content] + content.length
        entries = {"location": name, "offset": starts[content], "length": content.length}
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
    return copy


def contents(model: OnnxModel) -> list[Place | Held]:
    """Return what goes into a file beside a model: what already does, and what is large."""
    found = [located(tensor, model.folder) for tensor in _external(model.proto)]
    different = set(found)
    held = sum(path.stat().st_size for path in {place.path for place in different})
    if sum(place.length for place in different) > held:
        raise WeightsError(
            "external tensors of the model overlap, so that they hold more than their files; "
            "export the model again"
        )
    return [*found, *(Held(tensor, len(tensor.raw_data)) for tensor in _large(model.proto))]


def _large(proto: ModelProto) -> list[TensorProto]:
    held = (
        tensor
        for tensor in proto.graph.initializer
        if tensor.HasField("raw_data") and not is_external(tensor)
    )
    return [tensor for tensor in held if bytes_declared(tensor) >= _BESIDE_FROM]


def _external(proto: ModelProto) -> Iterator[TensorProto]:
    return filter(is_external, all_tensors(proto))


def bytes_declared(tensor: TensorProto) -> int:
    """Return the bytes that a tensor says it has."""
    return int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * prod(tensor.dims))


def _path(tensor: TensorProto, folder: Path) -> Path:
    location = _entry(tensor, "location")
    try:
        path = (folder / location).resolve()
        # By another way round it would lead elsewhere from the folder of a copy.
        straight = not Path(location).is_absolute() and ".." not in Path(location).parts
        inside = path.is_relative_to(folder.resolve())
        # Raises for names that no file can have.
        path.is_file()
    # A loop of links is a RuntimeError to Python 3.12 and before.
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise WeightsError(
            f"the tensor {tensor.name!r} points to {str(location)[:80]!r}, which no file can be "
            f"called ({type(error).__name__}); export the model again"
        ) from error
    if not location or not straight or not inside:
        raise WeightsError(
            f"the tensor {tensor.name!r} points to {location!r}, outside the model's folder "
            f"{folder}; nothing outside is ever read; export the model again"
        )
    return path


def _entry(tensor: TensorProto, key: str) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == key), "")
