"""The weights of a module: copied into arrays, loaded strictly, and in files.

Files are safetensors, or state dicts that torch reads without unpickling objects.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flain_core.backend_kit import kind_of, shortened, whole_numbers
from flain_core.errors import ModelError, OutputError, WeightsError
from flain_core.network import Array
from flain_core.provenance.mark import KEY
from flain_core.provenance.purified_before import carry
from flain_core.provenance.zip_member import mark_in, put_mark
from flain_core.storage.archives import check_unpacked
from flain_core.storage.files import readable, written_whole

from . import _lora
from ._copy import private_copy, unwrapped
from ._layers import array_of

_WRAPPERS = ("module.", "_orig_mod.", "_module.")
_SAFETENSORS = ".safetensors"
_TORCH = (".pt", ".pth")
_SUFFIX = f"expected the suffix {_SAFETENSORS} or {' or '.join(_TORCH)}"
_NESTED = ("state_dict", "model_state_dict", "model")


def arrays_of(module: nn.Module, *, buffers: bool = True) -> dict[str, Array]:
    """Copy the tensors of a module into arrays, as its ``state_dict()`` names and orders them.

    Without what ``torch.compile`` and ``DataParallel`` put into names; bfloat16, which NumPy lacks,
    becomes float32.

    Args:
        module: A module.
        buffers: False for its ``parameters()`` alone, each once.

    Raises:
        ModelError: The module cannot be copied, or its state is not all tensors.

    >>> list(arrays_of(nn.BatchNorm1d(3), buffers=False))
    ['weight', 'bias']
    """
    copied = private_copy(module)
    state = copied.state_dict() if buffers else dict(copied.named_parameters())
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"the {type(copied).__name__} keeps {name!r}, {kind_of(value)}, beside its "
                "tensors, which no array holds; load the weights into two modules and give those"
            )
    return {name: array_of(tensor) for name, tensor in state.items()}


def adapter_names(module: nn.Module) -> dict[str, str]:
    """Pair the names that tensors have in the file of a LoRA adapter with those in the state dict.

    Args:
        module: A module; one without an adapter, or with several active ones, has none.
    """
    return _lora.adapter_names(unwrapped(module))


def _tied(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Give all names of a tied parameter what was given for one of them.

    A flat vector holds it once, so its other names come with what the module holds as it stands.
    """
    named: dict[int, list[str]] = {}
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, parameter in parameters.items():
        named.setdefault(id(parameter), []).append(name)
    given = dict(state)
    for names in (each for each in named.values() if len(each) > 1):
        present = [name for name in names if name in given]
        new = [name for name in present if not _holds(parameters[name], given[name])]
        given |= dict.fromkeys(present, given[new[0]]) if new else {}
    return given


def _holds(parameter: Tensor, value: Tensor) -> bool:
    now = parameter.detach().cpu()
    return now.shape == value.shape and torch.equal(now, value.detach().cpu().to(now.dtype))


def load_state(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Load ``weights``, tensors or NumPy arrays by name, all of them and nothing else."""
    state = {name: _entry(name, value) for name, value in weights.items()}
    state = _without_wrappers(state, module)
    for name, held in module.state_dict().items():
        given = state.get(name)
        # PyTorch would cast them in silence.
        if _is_floating(held) and isinstance(given, Tensor) and not given.is_floating_point():
            raise whole_numbers(name, given.dtype)
    try:
        module.load_state_dict(_tied(state, module))
    except Exception as error:
        raise WeightsError(
            f"the weights do not fit the {type(module).__name__}; "
            f"they must come from the same architecture: {error}"
        ) from error


def _is_floating(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _entry(name: object, value: Any) -> Any:
    if not isinstance(name, str):
        raise WeightsError(f"expected weights by name; got the name {name!r}")
    if isinstance(value, np.ndarray):
        try:
            value = torch.tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"expected numbers for {name!r}; got {value.dtype}") from error
    if isinstance(value, Tensor) and value.is_complex():
        raise WeightsError(f"expected real numbers for {name!r}; got {value.dtype}")
    if not isinstance(value, Tensor) and not name.endswith("_extra_state"):
        raise WeightsError(
            f"expected a tensor for {name!r}; got {kind_of(value)}; pass what "
            "model.state_dict() returns"
        )
    return value


def _without_wrappers(state: dict[str, Any], module: nn.Module) -> dict[str, Any]:
    own = set(module.state_dict())
    for prefix in _WRAPPERS:
        if not own & set(state) and state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
        elif not own & set(state) and own and all(name.startswith(prefix) for name in own):
            state = {prefix + name: value for name, value in state.items()}
    return state


def weights_in(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the tensors in a file of weights into arrays, by name, without an architecture.

    bfloat16, which NumPy lacks, becomes float32. What is no tensor is left out.

    Args:
        path: As :func:`load` takes it. Nothing in it is executed.

    Raises:
        WeightsError: The file cannot be read.
    """
    tensors = {
        str(name): value for name, value in _read(Path(path)).items() if isinstance(value, Tensor)
    }
    for name, tensor in tensors.items():
        if tensor.is_meta or tensor.layout is not torch.strided:
            kind = "without numbers, on PyTorch's meta device" if tensor.is_meta else "sparse"
            raise WeightsError(
                f"cannot use {os.fspath(path)}: the tensor {name!r} is {kind}; save dense ones"
            )
    return {name: array_of(tensor) for name, tensor in tensors.items()}


def load(path: str | os.PathLike[str], architecture: Callable[[], nn.Module]) -> nn.Module:
    """Build a module and give it the weights in a file.

    Args:
        path: A ``.safetensors`` file, or a ``.pt`` or ``.pth`` file that holds a state dict, also
            inside a checkpoint as ``"state_dict"``, ``"model_state_dict"`` or ``"model"``. Nothing
            in it is executed.
        architecture: Returns a new module.

    Raises:
        ModelError: ``architecture`` does not return a module.
        WeightsError: The file cannot be read or does not fit.
    """
    source = Path(path)
    weights = _read(source)
    module = _built(architecture)
    try:
        load_state(unwrapped(module), weights)
    except WeightsError as error:
        raise WeightsError(f"cannot use {source}: {error}") from error
    carry(module, _mark_in(source))
    return module


def save(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    mark: str | None = None,
) -> None:
    """Write the state dict of a module to a ``.safetensors``, ``.pt`` or ``.pth`` file.

    Args:
        model: The module.
        path: Where it goes.
        overwrite: Whether a file that exists may be replaced.
        mark: A text to carry along, in the metadata of safetensors or as a member of the archive.

    Raises:
        OutputError: The file cannot be written, exists already, or has another suffix.
    """
    target = Path(path)
    state = unwrapped(model).state_dict()
    write: Callable[[Any, Path], None] = torch.save
    if target.suffix == _SAFETENSORS:
        # Every tensor gets memory of its own: the format knows no shared tensors.
        state = {name: _detached(name, value) for name, value in state.items()}
        metadata = None if mark is None else {KEY: mark}
        write, mark = partial(_safetensors().save_file, metadata=metadata), None
    elif target.suffix not in _TORCH:
        raise OutputError(f"cannot write {target}: {_SUFFIX}")
    with written_whole(target, overwrite=overwrite) as scratch:
        try:
            write(state, scratch)
        except OSError:
            raise
        # On a full disk torch and safetensors raise errors of their own.
        except Exception as error:
            raise OutputError(f"cannot write {target}: {shortened(str(error))}") from error
        if mark is not None:
            put_mark(scratch, mark)


def _read(source: Path) -> Mapping[str, Any]:
    if source.suffix not in (_SAFETENSORS, *_TORCH):
        raise WeightsError(f"cannot read {source}: {_SUFFIX}")
    readable(source)
    check_unpacked(source)
    parse = partial(torch.load, map_location="cpu", weights_only=True)
    if source.suffix == _SAFETENSORS:
        parse = _safetensors().load_file
    try:
        weights = parse(source)
    except Exception as error:
        raise WeightsError(
            f"cannot read {source}: it is damaged, or holds more than weights, which is never "
            f"unpickled; save model.state_dict() or a {_SAFETENSORS} file again "
            f"({type(error).__name__})"
        ) from error
    for key in _NESTED:
        if isinstance(weights, Mapping) and isinstance(weights.get(key), Mapping):
            weights = weights[key]
    if not isinstance(weights, Mapping):
        raise WeightsError(
            f"cannot use {source}: expected a state dict; got {kind_of(weights)}; "
            "save model.state_dict()"
        )
    return weights


def _mark_in(source: Path) -> str | bytes | None:
    if source.suffix != _SAFETENSORS:
        return mark_in(source)
    with import_module("safetensors").safe_open(source, framework="pt") as file:
        metadata: dict[str, str] | None = file.metadata()
    return (metadata or {}).get(KEY)


def _built(architecture: Callable[[], nn.Module]) -> nn.Module:
    try:
        module = architecture()
    # It runs whatever its author wrote there.
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"the architecture could not be built without arguments: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"expected the architecture to return a torch.nn.Module; got {kind_of(module)}"
        )
    return module


def _detached(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise OutputError(
            f"a {_SAFETENSORS} file holds tensors only; {name!r} is {kind_of(value)}; "
            f"choose the suffix {_TORCH[0]}"
        )
    return value.detach().to("cpu", copy=True).contiguous()


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ModelError(
            f"{_SAFETENSORS} files need the package safetensors: pip install safetensors"
        ) from error
    return safetensors.torch
