"""Arguments as the plain values that a job's configuration holds, and what they stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.np.constants import NPConstants

from flain_core import Grid, ModelError, Settings, SettingsError, WeightsError
from flain_core.errors import nearest
from flain_core.network import Array
from flain_core.opening.registry import built
from flain_core.storage.npz import check_declared, opened

_FACTORY = re.compile(r"[\w.]+:[\w.]+")
_TORCH = (".safetensors", ".pt", ".pth")


def checked_path(value: Any, what: str) -> str:
    """Return a path as text, as a configuration holds it; raise SettingsError if it is none."""
    if not isinstance(value, (str, Path)) or not str(value):
        raise SettingsError(f"expected {what} to be the path of a file; got {value!r}")
    return str(value)


def custom_folder(fl_ctx: FLContext) -> Path:
    """Return the folder of the app's own code and files."""
    return Path(fl_ctx.get_engine().get_workspace().get_app_custom_dir(fl_ctx.get_job_id()))


def run_folder(fl_ctx: FLContext) -> Path:
    """Return the folder of the results of the job that runs."""
    return Path(fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_job_id()))


def plain(settings: Settings | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return settings in types that JSON knows; raise SettingsError if they are not valid.

    >>> plain(Settings(tolerance=0.005))["tolerance"]
    0.005
    >>> plain({"tolerance": 0.005})
    {'tolerance': 0.005}
    """
    if isinstance(settings, Settings):
        return asdict(settings)
    settings_of(settings)
    return None if settings is None else dict(settings)


def settings_of(values: Mapping[str, Any] | None) -> Settings:
    """Return the settings that plain values stand for; defaults stand for what they leave out.

    >>> settings_of({"thresholds": {"start": 0.1, "step": 0.1, "stop": 0.5}}).thresholds
    Grid(start=0.1, step=0.1, stop=0.5)
    """
    given = {} if values is None else values
    if not isinstance(given, Mapping):
        raise SettingsError(
            "expected settings=flain.Settings(...), or a dict of their values such as "
            f'{{"tolerance": 0.005}}; got {values!r}'
        )
    chosen = dict(given)
    if isinstance(chosen.get("thresholds"), Mapping):
        chosen["thresholds"] = _built(Grid, chosen["thresholds"], "thresholds")
    settings: Settings = _built(Settings, chosen, "settings")
    return settings


def _built(of: Any, given: Mapping[str, Any], what: str) -> Any:
    known = [field.name for field in fields(of)]
    for name in given:
        if name not in known:
            raise SettingsError(
                f"expected {what} to be among {', '.join(known)}; got {name!r}."
                f"{nearest(str(name), known)}"
            )
    try:
        return of(**given)
    except TypeError as error:
        raise SettingsError(f"the settings are incomplete: {error}") from error


def architecture(model: Any, persistor: Any, folder: Path) -> Any:
    """Return the model that :func:`flain_core.purify_arrays` takes; raise ModelError without one.

    ``model`` is ``"module:factory"``, the path of a file that holds a whole model, relative to
    ``folder``, or a model; None for the one that the persistor holds, as those of PyTorch and
    TensorFlow do.
    """
    if model is None:
        held = getattr(persistor, "model", None)
        if held is None or isinstance(held, (str, dict, list)):
            raise ModelError(
                f"the persistor ({type(persistor).__name__}) holds no model; say which "
                'architecture the arrays belong to: Purify(model="package.module:factory"), or the '
                "path of a file such as flain_numpy.save() writes"
            )
        return held
    if not isinstance(model, str):
        return model
    if not _FACTORY.fullmatch(model):
        return folder / model
    remedy = "install it on the server, or send it with the job"
    return built(model, what="model=", remedy=remedy)


def read_initial(path: Path, model: Any) -> dict[str, Array]:
    """Read the initial parameters of an architecture from a file, named as the server names them.

    An ``.npy`` file is for a job whose model is a single array; ``.npz`` has one array per name;
    ``.safetensors``, ``.pt`` and ``.pth`` have PyTorch's weights, such as the
    ``FL_global_model.pt`` of an earlier job. Nothing in it is unpickled.
    """
    if path.suffix in _TORCH:
        import flain_torch

        state = flain_torch.load(path, lambda: deepcopy(model)).state_dict()
        return {name: value.detach().cpu().numpy() for name, value in state.items()}
    if path.suffix not in (".npy", ".npz"):
        raise WeightsError(
            f"cannot read the initial model {path}: expected the suffix .npy, .npz, "
            f"{', '.join(_TORCH)}"
        )
    try:
        if path.suffix == ".npz":
            with opened(path, error=WeightsError) as held:
                return dict(held)
        with path.open("rb") as stream:
            check_declared(stream, path.stat().st_size, path.name)
            stream.seek(0)
            return {NPConstants.NUMPY_KEY: np.load(stream, allow_pickle=False)}
    except FileNotFoundError as error:
        raise WeightsError(f"there is no initial model {path}") from error
    except WeightsError:
        raise
    except Exception as error:
        # A damaged file makes zipfile, zlib and NumPy raise nearly anything.
        raise WeightsError(
            f"cannot read the initial model {path}: expected plain arrays, as numpy.save or "
            f"numpy.savez writes them ({type(error).__name__}: {error})"
        ) from error
