"""The models of a job's training: what its events told, and what its persistor saved."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.fl_model import ParamsType
from nvflare.app_common.abstract.model import ModelLearnableKey, make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from flain_core import WeightsError
from flain_core.storage.files import written_whole

from .arguments import run_folder

# Attributes by which the persistors of PyTorch and TensorFlow know their own file.
_FILE_NAMES = ("global_model_file_name", "save_name")
_PREFIX = "unpurified_"


class Training:
    """The model that training started from, and the one it ended with; None until they are seen."""

    def __init__(self) -> None:
        # Parameters by name, copied before training changed them.
        self.initial: Mapping[str, Any] | None = None
        # The learnable, weights and meta, that the workflow last said it had saved.
        self.announced: Any = None

    def follow(self, event_type: str, fl_ctx: FLContext) -> bool:
        """Learn from an event; return whether it brought the initial model."""
        if event_type == AppEventType.INITIAL_MODEL_LOADED:
            return self._start_from(_global_model(fl_ctx).get(ModelLearnableKey.WEIGHTS))
        if event_type == AppEventType.BEFORE_TRAIN_TASK:
            # A workflow that was given its model as a dict never says that it loaded one.
            return self.initial is None and self._start_from(_sent(fl_ctx))
        if event_type == AppEventType.AFTER_LEARNABLE_PERSIST:
            model = _global_model(fl_ctx)
            # Later rounds may put other arrays into the same dict.
            weights = dict(model.get(ModelLearnableKey.WEIGHTS) or {})
            self.announced = make_model_learnable(weights, model.get(ModelLearnableKey.META))
        return False

    def _start_from(self, weights: Mapping[str, Any] | None) -> bool:
        if self.initial is not None or not weights:
            return False
        self.initial = deepcopy(dict(weights))
        return True


def _global_model(fl_ctx: FLContext) -> Mapping[str, Any]:
    return fl_ctx.get_prop(AppConstants.GLOBAL_MODEL) or {}


def _sent(fl_ctx: FLContext) -> Mapping[str, Any] | None:
    shareable = fl_ctx.get_prop(AppConstants.TRAIN_SHAREABLE)
    if shareable is None:
        return None
    model = FLModelUtils.from_shareable(shareable)
    weights: Mapping[str, Any] | None = model.params
    return weights if model.params_type == ParamsType.FULL else None


@dataclass(frozen=True, eq=False)
class SavedModel:
    """The model that the persistor saved last; PyTorch's and TensorFlow's tell where, and read it.

    The unpurified model of any other goes into the run folder of the job.
    """

    persistor: Any
    fl_ctx: FLContext

    def read(self) -> Any | None:
        """Return the learnable, weights and meta; None if the persistor cannot read it back."""
        path = self._path()
        if path is None:
            return None
        learnable = self.persistor.get(path.name, self.fl_ctx)
        if not learnable:
            raise WeightsError(f"the persistor cannot read {path}, which it saved")
        return learnable

    def keep(self, arrays: Mapping[str, Any]) -> Path:
        """Keep the unpurified model, whole or not at all, and return where.

        A copy of the persistor's file, beside it and with ``unpurified_`` before its name; or
        ``unpurified_model.npz`` in the run folder, one array per name. No file is overwritten.
        """
        path = self._path()
        beside = run_folder(self.fl_ctx) / "model.npz" if path is None else path
        target = beside.with_name(_PREFIX + beside.name)
        with written_whole(target) as scratch:
            if path is not None:
                shutil.copyfile(path, scratch)
            else:
                with scratch.open("wb") as stream:
                    np.savez(stream, **arrays)
        return target

    def others(self) -> list[Path]:
        """Return further models that training left, such as the best one: nobody purifies them."""
        own = self._path()
        return [path for path in self._inventory().values() if path != own]

    def _path(self) -> Path | None:
        names = [getattr(self.persistor, attribute, None) for attribute in _FILE_NAMES]
        inventory = self._inventory()
        return next((inventory[name] for name in names if name in inventory), None)

    def _inventory(self) -> dict[str, Path]:
        ask = getattr(self.persistor, "get_model_inventory", None)
        models = (ask(self.fl_ctx) if ask else None) or {}
        return {
            name: Path(found.location)
            for name, found in models.items()
            if (found.props or {}).get("source") != "initial_ckpt"
        }
