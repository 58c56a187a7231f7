"""Models in files: ``.keras`` and ``.h5``, read in Keras's safe mode."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import h5py
import keras
import numpy as np

from flain_core.backend_kit import kind_of, shortened
from flain_core.errors import FlainError, ModelError, OutputError, WeightsError
from flain_core.provenance.mark import KEY, MOST_BYTES
from flain_core.provenance.purified_before import carry
from flain_core.provenance.zip_member import mark_in, put_mark
from flain_core.storage.files import readable, written_whole

from ._allowance import allowance
from ._declared import check_declared

_ARCHIVE = ".keras"
_SUFFIXES = (_ARCHIVE, ".h5")
_OLD = re.compile(r"[Ee]rror when deserializing class '(\w+)'")
_UNKNOWN = re.compile(r"(?:could not locate|unknown) (\w+):? '([\w>]+)'", re.IGNORECASE)


class _Depthwise:
    """Reads a DepthwiseConv2D of Keras 2, which saved the ``groups`` that every convolution has."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        if config.get("groups") == 1:
            config = {name: value for name, value in config.items() if name != "groups"}
        return keras.layers.DepthwiseConv2D.from_config(config)


def _of_keras_2(source: Path) -> dict[str, Any]:
    return {"DepthwiseConv2D": _Depthwise} if source.suffix == ".h5" else {}


def load(
    path: str | os.PathLike[str],
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
) -> keras.Model:
    """Load a whole model, not compiled.

    Args:
        path: A ``.keras`` or ``.h5`` file, as ``model.save`` writes it.
        custom_objects: The model's own classes and functions by name.
        safe_mode: Refuse files that bring Python code along, in ``Lambda`` layers.

    Raises:
        ModelError: The file does not hold a whole model that can be built.
        WeightsError: The file cannot be read.
    """
    source = Path(path)
    if source.is_dir():
        raise ModelError(
            f"cannot open {source}: a folder, such as a TensorFlow SavedModel, holds a computation "
            "without layers, so there is no weight update to flip; save the Keras model itself "
            "with model.save('model.keras')"
        )
    if source.suffix not in _SUFFIXES:
        raise ModelError(f"cannot open {source}: expected the suffix {' or '.join(_SUFFIXES)}")
    readable(source)
    try:
        check_declared(source)
        with allowance(source.stat().st_size, str(source)):
            model = keras.saving.load_model(
                source,
                custom_objects={**_of_keras_2(source), **(custom_objects or {})},
                # Losses, metrics and optimizers of one's own need not be known to purify.
                compile=False,
                safe_mode=safe_mode,
            )
    except FlainError:
        raise
    # Keras reports damaged files and unknown classes with whatever its parts raise.
    except Exception as error:
        raise _explained(source, error) from error
    if not isinstance(model, keras.Model):
        raise ModelError(f"cannot open {source}: it holds {kind_of(model)}, not a model")
    if not model.weights:
        raise ModelError(
            f"cannot open {source}: the model in it was never built, so it has no weights; run it "
            "on one batch, model(x[:1]), before model.save"
        )
    carry(model, _mark_in(source))
    return model


def save(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    mark: str | None = None,
) -> None:
    """Write a whole model to a ``.keras`` or ``.h5`` file.

    Args:
        model: The model.
        path: Where it goes.
        overwrite: Whether a file that exists may be replaced.
        mark: A text to carry along, as a member of the archive or an attribute of the HDF5 file.

    Raises:
        OutputError: The file cannot be written, exists already, or has another suffix.
    """
    target = Path(path)
    if target.suffix not in _SUFFIXES:
        raise OutputError(f"cannot write {target}: expected the suffix {' or '.join(_SUFFIXES)}")
    with written_whole(target, overwrite=overwrite) as scratch:
        try:
            model.save(scratch, overwrite=True)
        except OSError:
            raise
        except Exception as error:
            raise OutputError(
                f"cannot write {target}: Keras cannot save the {type(model).__name__}: {error}"
            ) from error
        if mark is not None:
            _put_mark(scratch, mark)


def _put_mark(path: Path, mark: str) -> None:
    if path.suffix == _ARCHIVE:
        put_mark(path, mark)
        return
    with h5py.File(path, "r+") as file:
        file.attrs[KEY] = np.bytes_(mark)


def _mark_in(path: Path) -> bytes | None:
    if path.suffix == _ARCHIVE:
        return mark_in(path)
    with h5py.File(path, "r") as file:
        if KEY not in file.attrs:
            return None
        # One text of a fixed length is all that is ever written there, and all that is read.
        kept = file.attrs.get_id(KEY)
        plain = kept.dtype.kind == "S" and kept.shape == () and kept.dtype.itemsize <= MOST_BYTES
        return cast("bytes", file.attrs[KEY]) if plain else b""


def _explained(source: Path, error: Exception) -> ModelError | WeightsError:
    told = str(error)
    if "lambda" in told.lower():
        return ModelError(
            f"cannot open {source}: a Lambda layer in it brings Python code along, which is not "
            "run; if you trust the file, load it with flain_keras.load(path, safe_mode=False) and "
            "give the model"
        )
    if unknown := _UNKNOWN.search(told):
        kind, name = unknown.groups()
        return ModelError(
            f"cannot open {source}: Keras does not know the {kind} {name!r} that it uses; load it "
            f"with flain_keras.load(path, custom_objects={{{name!r}: ...}}) and give the model "
            f"(on the command line: --custom-objects module:{name}), or "
            "import the module that registers it with keras.saving.register_keras_serializable"
        )
    if "no model config found" in told.lower():
        return ModelError(
            f"cannot open {source}: it holds weights alone; build the model, call "
            "model.load_weights, and give the model, or save it whole with model.save"
        )
    if old := _OLD.search(told):
        name = old[1]
        return ModelError(
            f"cannot open {source}: Keras {keras.__version__} cannot build its {name} "
            f"({shortened(told.strip().rpartition(chr(10))[2])}), probably as an older Keras saved "
            f"it; load it with flain_keras.load(path, custom_objects={{{name!r}: ...}}), a {name} "
            "that takes these arguments, and give the model; or save it with this Keras"
        )
    first_line = shortened(told)
    return WeightsError(
        f"cannot read {source}: it is damaged, or not a model that Keras {keras.__version__} "
        f"saved; save it again with model.save ({type(error).__name__}: {first_line})"
    )
