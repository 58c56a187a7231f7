"""The trained model as the persistor saved it: read back, and kept beside the purified one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.apis.fl_context import FLContext

from flain_core import WeightsError
from flain_core.files import written_whole

from .paths import run_folder

# Attributes by which the persistors of PyTorch and TensorFlow know their own file.
_FILE_NAMES = ("global_model_file_name", "save_name")
_PREFIX = "unpurified_"


@dataclass(frozen=True, eq=False)
class SavedModel:
    """The model that the persistor saved last.

    Attributes:
        persistor: The persistor; PyTorch's and TensorFlow's tell where they saved it, and read it.
        fl_ctx: The context of the job, in whose run folder the unpurified model of any other goes.
    """

    persistor: Any
    fl_ctx: FLContext

    def read(self) -> Any | None:
        """Return the learnable, weights and meta; None if the persistor cannot read it back.

        Raises:
            WeightsError: The file cannot be read.
        """
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
        ``unpurified_model.npz`` in the run folder, one array per name.

        Raises:
            OutputError: The file exists already or cannot be written.
        """
        path = self._path()
        if path is None:
            target = run_folder(self.fl_ctx) / f"{_PREFIX}model.npz"
            with written_whole(target) as scratch, scratch.open("wb") as stream:
                np.savez(stream, **arrays)
            return target
        target = path.with_name(_PREFIX + path.name)
        with written_whole(target) as scratch:
            shutil.copyfile(path, scratch)
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
