"""Reads ONNX files with care, and writes copies in which only the purified tensors differ."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from filecmp import cmp
from pathlib import Path

from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto, StringStringEntryProto

from flain_core.errors import ModelError, OutputError, WeightsError
from flain_core.provenance.mark import KEY
from flain_core.storage.files import check_writable, readable, written_whole

from ._external import check_folder, contents, external_files, gathered, moved, outgrows_a_file
from ._guard import one_error
from ._model import OnnxModel, Provider

_DATA, _DIGITS = ".data", 16
"""Suffix of a file of external tensors, and how many letters of its hash its name has."""


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
        with one_error():
            check_folder(model)
    except (ModelError, WeightsError) as error:
        raise type(error)(f"cannot use {source}: {error}") from error
    return model


def files_of(path: str | os.PathLike[str]) -> list[Path]:
    """Return all files of a stored model: its own, and those that hold its external tensors.

    Args:
        path: An ``.onnx`` file.

    Raises:
        WeightsError: One of the files does not exist or is damaged.

    >>> files_of("/nowhere/at/all.onnx")
    Traceback (most recent call last):
        ...
    flain_core.errors.WeightsError: cannot read /nowhere/at/all.onnx: there is no such file
    """
    own, model = Path(path), load(path)
    beside = sorted(external_files(model))
    if model.folder is not None and own.parent.resolve() == model.folder:
        # Named as the caller names the folder.
        beside = [own.parent / each.relative_to(model.folder) for each in beside]
    return [own, *beside]


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
    """Write a model; what its tensors hold in external files goes into one file beside it.

    That file is called after the model and after its content, whatever the model calls its own, and
    appears before the model does: at any moment the model that is there has all it needs.

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
    target = check_writable(target, overwrite=overwrite)
    with one_error():
        sources = external_files(source)
        beside = bool(sources) or outgrows_a_file(source)
    if target in sources:
        raise OutputError(
            f"cannot write {target}: an external file of the model is called that; choose another "
            "name"
        )
    try:
        with written_whole(target, overwrite=overwrite) as scratch:
            proto = _with_data(source, scratch, target) if beside else source.proto
            scratch.write_bytes(_checked(proto, mark, target))
    finally:
        _remove_unused_data(target, kept=sources)


def _with_data(source: OnnxModel, scratch: Path, target: Path) -> ModelProto:
    """Write external and large tensors into a file beside the target; return the model for it."""
    gathering = scratch.with_name("data")
    with one_error():
        found = contents(source)
    # Outside, as a disk that is full is no fault of the model.
    name = f"{target.name}.{gathered(found, gathering)[:_DIGITS]}{_DATA}"
    data = target.with_name(name)
    # The same name is the same content, unless somebody else wrote it.
    if not (data.is_file() and cmp(data, gathering, shallow=False)):
        with written_whole(data, like=target) as file:
            gathering.replace(file)
    return moved(source, name)


def _remove_unused_data(target: Path, kept: set[Path]) -> None:
    """Remove data of ours that no model needs: of one that was replaced, and of a killed run."""
    pattern = rf"{re.escape(target.name)}\.[0-9a-f]{{{_DIGITS}}}{re.escape(_DATA)}"
    found = [path for path in target.parent.iterdir() if re.fullmatch(pattern, path.name)]
    # Where the model cannot be read, nobody knows what it needs.
    with suppress(ModelError, WeightsError):
        used = external_files(load(target)) if found and target.exists() else set[Path]()
        for path in found:
            if not {path, path.resolve()} & (kept | used):
                path.unlink(missing_ok=True)


def _checked(proto: ModelProto, mark: str | None, target: Path) -> bytes:
    try:
        return _serialized(proto, mark)
    except (EncodeError, ValueError) as error:
        raise OutputError(
            f"cannot write {target}: an ONNX file holds at most 2 GiB besides external files "
            f"({error})"
        ) from error


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
