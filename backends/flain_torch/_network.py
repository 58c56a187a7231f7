"""A PyTorch module as the algorithm sees it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any

import torch
from torch import nn

from flain_core.errors import LayerError, ModelError, nearest
from flain_core.network import Array, Batch, Layer

from ._batch import as_batch
from ._catalogue import catalogue, shared_parameters
from ._cut import TorchCut, cut_at
from ._kinds import WeightLayer
from ._private import private_copy, unwrapped
from ._run import run
from ._scores import as_array
from ._state import load_state
from ._weights import assign_weight, weight_of

__all__ = ["TorchNetwork", "open_network"]


def open_network(
    model: nn.Module | Mapping[str, Any], *, like: nn.Module | None = None
) -> TorchNetwork:
    """Open a module, or a state dict, for purification. The module itself is never touched.

    Args:
        model: A module, or the weights of one: tensors or NumPy arrays by name.
        like: The module whose architecture the weights belong to; ignored for a module.

    Raises:
        ModelError: The module cannot be opened.
        WeightsError: The weights do not fit ``like``.

    >>> model = nn.Linear(3, 2)
    >>> weights = nn.Linear(3, 2).state_dict()
    >>> open_network(weights, like=model).layers()
    {'Linear': Layer('Linear', dense, 2×3, 3 input neurons)}
    """
    if isinstance(model, nn.Module) or not isinstance(model, Mapping):
        source = model
        module = private_copy(model)
    elif like is None:
        raise ModelError(
            "cannot open a state dict alone: it has weights but no architecture; "
            "pass a module of that architecture as `like`"
        )
    else:
        source = like
        module = private_copy(like)
        load_state(module, model)
    source = unwrapped(source)
    modes = [part.training for part in module.modules()]
    try:
        module.eval()
    except Exception as error:
        raise ModelError(
            f"the {type(module).__name__} cannot be put into evaluation mode: {error}"
        ) from error
    return TorchNetwork(module, modes, shared_parameters(source))


class TorchNetwork:
    """Implements :class:`flain_core.network.Network`; made by :func:`open_network`.

    Args:
        module: A module in evaluation mode that nobody else holds.
        modes: The ``training`` flag to restore for each of ``module.modules()``.
        shared: The parameters that are known by several names.
    """

    def __init__(self, module: nn.Module, modes: list[bool], shared: Mapping[str, str]) -> None:
        self._module = module
        self._modes = modes
        self._shared = shared

    @property
    def native(self) -> nn.Module:
        """A new copy of the module on its device, every part in the mode its owner left it in.

        It comes without the wrappers of ``torch.compile`` and ``DataParallel``.
        """
        module = deepcopy(self._module)
        # Its own `train` may do more than set flags; the flags of the parts may differ from it.
        module.train(self._modes[0])
        for part, mode in zip(module.modules(), self._modes, strict=True):
            part.training = mode
        return module

    def layers(self) -> dict[str, Layer]:
        """The ``nn.Linear``, ``nn.Conv*d`` and ``nn.ConvTranspose*d`` layers and their subclasses.

        A model that is itself a layer goes by the name of its class.
        """
        return dict(self._layers)

    def predict(self, x: Batch) -> Array:
        """The scores ``(n, ...)`` of a batch, float32 or float64."""
        return as_array(run(self._module, as_batch(x, self._module)))

    def cut(self, layer: str, x: Batch) -> TorchCut:
        """Run the batch once and keep what the search needs at ``layer``."""
        return cut_at(layer, self._find(layer), self._module, as_batch(x, self._module))

    def replace(self, weights: Mapping[str, Array]) -> TorchNetwork:
        """A copy with the weights ``(out, in / groups, *kernel)`` of some layers replaced."""
        for name in weights:
            self._find(name)
        copied = TorchNetwork(deepcopy(self._module), self._modes, self._shared)
        for name, weight in weights.items():
            assign_weight(name, copied._find(name), weight)
        return copied

    @cached_property
    def _catalogue(self) -> Mapping[str, WeightLayer | str]:
        return catalogue(self._module, self._shared)

    @cached_property
    def _layers(self) -> Mapping[str, Layer]:
        return {
            name: _layer(name, entry)
            for name, entry in self._catalogue.items()
            if not isinstance(entry, str)
        }

    def _find(self, name: str) -> WeightLayer:
        entry = self._catalogue.get(name)
        if isinstance(entry, WeightLayer):
            return entry
        if entry is not None:
            raise LayerError(f"layer {name!r} cannot be purified: {entry}")
        usable = [name for name, entry in self._catalogue.items() if not isinstance(entry, str)]
        raise LayerError(
            f"no dense or convolutional layer is called {name!r}; the model has {usable}."
            f"{nearest(name, usable)}"
        )


def _layer(name: str, module: WeightLayer) -> Layer:
    return Layer(
        name=name,
        kind="dense" if isinstance(module, nn.Linear) else "conv",
        weight=weight_of(module),
        groups=1 if isinstance(module, nn.Linear) else module.groups,
        epsilon=torch.finfo(module.weight.dtype).eps,
    )
