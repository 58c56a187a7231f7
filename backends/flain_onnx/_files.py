"""Reads ONNX files with care, and writes copies in which only the purified tensors differ."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from filecmp import cmp
from pathlib import Path
from shutil import copyfile

from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto, StringStringEntryProto

from flain_core.errors import OutputError, WeightsError
from flain_core.files import readable, written_whole
from flain_core.provenance.mark import KEY

from ._model import OnnxModel, Provider, check_folder, external_files


def load(
    path: str | os.PathLike[str],
    *,
    scores: str | None = None,
    providers: Sequence[Provider] = ("CPUExecutionProvider",),
) -> OnnxModel:
    """Read a model; tensors in external files stay there until they are needed.

    Args:
        path: An ``.onnx`` file.
        scores: The output that holds the scores ``(n, ...)``; None if that is plain to see.
        providers: Execution providers of onnxruntime in order of preference, as its sessions take
            them.

    Raises:
        WeightsError: The file, or an external file that it names, does not exist or is damaged.

    >>> load("/nowhere/at/all.onnx")
    Traceback (most recent call last):
        ...
    flain_core.errors.WeightsError: cannot read /nowhere/at/all.onnx: there is no such file
    """
    source = readable(path)
    proto = ModelProto()
    try:
        proto.ParseFromString(source.read_bytes())
    except (DecodeError, OSError) as error:
        raise WeightsError(
            f"cannot read {source}: it is damaged or no ONNX model ({error}); export it again"
        ) from error
    if not (proto.ir_version and proto.opset_import and proto.graph.node):
        raise WeightsError(
            f"cannot read {source}: expected an ONNX model with a graph; export it again"
        )
    model = OnnxModel(proto, source.resolve().parent, scores, providers)
    try:
        check_folder(model)
    except WeightsError as error:
        raise WeightsError(f"cannot use {source}: {error}") from error
    return model


def mark_of(model: ModelProto | OnnxModel) -> str | None:
    """Return the mark in the metadata of a model; None if it carries none."""
    proto = model.proto if isinstance(model, OnnxModel) else model
    return next((each.value for each in proto.metadata_props if each.key == KEY), None)


def save(
    model: ModelProto | OnnxModel,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    mark: str | None = None,
) -> None:
    """Write a model, and copy the external files of its tensors beside it.

    Args:
        model: The model.
        path: Where it goes.
        overwrite: Whether files that exist may be replaced.
        mark: A text to carry along, in the metadata; None leaves what is there.

    Raises:
        OutputError: A file cannot be written, or exists already with other content.
        ModelError: The external files of a bare ModelProto are not known.
    """
    source = model if isinstance(model, OnnxModel) else OnnxModel(model)
    target = Path(path)
    if target.suffix != ".onnx":
        raise OutputError(
            f"cannot write {target}: expected the suffix .onnx; got {target.suffix or 'none'}"
        )
    try:
        content = _serialized(source.proto, mark)
    except (EncodeError, ValueError) as error:
        raise OutputError(
            f"cannot write {target}: an ONNX file holds at most 2 GiB besides external files "
            f"({error})"
        ) from error
    external = {target.parent / location: file for location, file in external_files(source).items()}
    if target in external:
        raise OutputError(
            f"cannot write {target}: that is what the model calls an external file of its own; "
            "choose another name"
        )
    copies = {place: file for place, file in external.items() if not _already_there(place, file)}
    with ExitStack() as stack:
        # Left in reverse: the model itself appears last, when its files are there.
        stack.enter_context(written_whole(target, overwrite=overwrite)).write_bytes(content)
        for place, file in copies.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            copyfile(file, stack.enter_context(written_whole(place, overwrite=overwrite)))


def _serialized(proto: ModelProto, mark: str | None) -> bytes:
    if mark is None:
        return bytes(proto.SerializeToString())
    if mark_of(proto) is not None:
        present, proto = proto, ModelProto()
        proto.CopyFrom(present)
        kept = [each for each in proto.metadata_props if each.key != KEY]
        del proto.metadata_props[:]
        proto.metadata_props.extend(kept)
    marked = ModelProto(metadata_props=[StringStringEntryProto(key=KEY, value=mark)])
    # Serialized messages that follow each other are one, so the model need not be copied.
    return bytes(proto.SerializeToString()) + bytes(marked.SerializeToString())


def _already_there(place: Path, file: Path) -> bool:
    return place.is_file() and (place.samefile(file) or cmp(place, file, shallow=False))
