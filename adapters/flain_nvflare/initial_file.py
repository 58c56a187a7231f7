"""The initial model from a file, for jobs whose workflow does not announce it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nvflare.app_common.np.constants import NPConstants

from flain_core import WeightsError
from flain_core.network import Array

_TORCH = (".safetensors", ".pt", ".pth")


def read_initial(path: Path, model: Any) -> dict[str, Array]:
    """Read the parameters in a file, named as the server names them.

    Args:
        path: An ``.npy`` file for a job whose model is a single array; an ``.npz`` file with one
            array per name; or ``.safetensors``, ``.pt`` or ``.pth`` with PyTorch's weights, such as
            the ``FL_global_model.pt`` of an earlier job. Nothing in it is unpickled.
        model: The architecture.

    Raises:
        WeightsError: The file cannot be read or does not fit.
    """
    if path.suffix in _TORCH:
        return _torch(path, model)
    if path.suffix not in (".npy", ".npz"):
        raise WeightsError(
            f"cannot read the initial model {path}: expected the suffix .npy, .npz, "
            f"{', '.join(_TORCH)}"
        )
    try:
        with path.open("rb") as stream:
            held = np.load(stream, allow_pickle=False)
            if path.suffix == ".npy":
                return {NPConstants.NUMPY_KEY: held}
            return {name: held[name] for name in held}
    except FileNotFoundError as error:
        raise WeightsError(f"there is no initial model {path}") from error
    except Exception as error:
        # A damaged file makes zipfile, zlib and NumPy raise nearly anything.
        raise WeightsError(
            f"cannot read the initial model {path}: expected plain arrays, as numpy.save or "
            f"numpy.savez writes them ({type(error).__name__}: {error})"
        ) from error


def _torch(path: Path, model: Any) -> dict[str, Array]:
    from copy import deepcopy

    import flain_torch

    state = flain_torch.load(path, lambda: deepcopy(model)).state_dict()
    return {name: value.detach().cpu().numpy() for name, value in state.items()}
