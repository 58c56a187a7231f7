"""A PyTorch module as the algorithm sees it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any, cast

import torch
from torch import nn

from flain_core.backend_kit import find_layer, refusals, usable
from flain_core.errors import ModelError
from flain_core.network import Array, Batch, Layer

from ._copy import private_copy, unwrapped
from ._cut import TorchCut, cut_at
from ._layers import (
    WeightLayer,
    assign_bias,
    assign_weight,
    bias_of,
    catalogue,
    shared_parameters,
    weight_of,
)
from ._run import as_batch, run, scores_array
from ._weights import load_state


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
        source, module = model, private_copy(model)
    elif like is None:
        raise ModelError(
            "cannot open a state dict alone: it has weights but no architecture; "
            "pass a module of that architecture as `like`"
        )
    else:
        source, module = like, private_copy(like)
        load_state(module, model)
    modes = [submodule.training for submodule in module.modules()]
    try:
        module.eval()
    except Exception as error:
        raise ModelError(
            f"the {type(module).__name__} cannot be put into evaluation mode: {error}"
        ) from error
    return TorchNetwork(module, modes, shared_parameters(unwrapped(source)))


class TorchNetwork:
    """Implements :class:`flain_core.network.Network`, with scores in float32 or float64.

    Nobody else holds ``module``, which is in evaluation mode; ``modes`` are the ``training`` flags
    to restore in ``module.modules()``; ``shared`` parameters are known by several names.
    """

    def __init__(self, module: nn.Module, modes: list[bool], shared: Mapping[str, str]) -> None:
        self._module, self._modes, self._shared = module, modes, shared

    @property
    def native(self) -> nn.Module:
        """A new copy on its device, without what ``torch.compile`` and ``DataParallel`` wrap."""
        module = deepcopy(self._module)
        # Its own `train` may do more than set flags; those of its submodules may differ from it.
        module.train(self._modes[0])
        for submodule, mode in zip(module.modules(), self._modes, strict=True):
            submodule.training = mode
        return module

    def layers(self) -> dict[str, Layer]:
        """Return the ``nn.Linear``, ``nn.Conv*d`` and ``nn.ConvTranspose*d`` layers by name.

        A model that is itself a layer goes by the name of its class.
        """
        return dict(self._layers)

    def refused_layers(self) -> dict[str, str]:
        return refusals(self._catalogue)

    def predict(self, x: Batch) -> Array:
        return scores_array(run(self._module, as_batch(x, self._module)))

    def cut(self, layer: str, x: Batch) -> TorchCut:
        return cut_at(layer, self._find(layer), self._module, as_batch(x, self._module))

    def replace(
        self, weights: Mapping[str, Array], biases: Mapping[str, Array] | None = None
    ) -> TorchNetwork:
        biases = biases or {}
        for name in (*weights, *biases):
            self._find(name)
        copied = TorchNetwork(deepcopy(self._module), self._modes, self._shared)
        for name, weight in weights.items():
            assign_weight(name, copied._find(name), weight)
        for name, bias in biases.items():
            assign_bias(name, copied._find(name), bias, self._layers[name].bias)
        return copied

    def _find(self, name: str) -> WeightLayer:
        return cast("WeightLayer", find_layer(self._catalogue, name))

    @cached_property
    def _catalogue(self) -> Mapping[str, WeightLayer | str]:
        return catalogue(self._module, self._shared)

    @cached_property
    def _layers(self) -> Mapping[str, Layer]:
        modules: dict[str, WeightLayer] = usable(self._catalogue)
        return {name: self._layer(name, module) for name, module in modules.items()}

    def _layer(self, name: str, module: WeightLayer) -> Layer:
        path = "" if module is self._module else name
        return _described(name, module, bias_of(path, module, self._shared))


def _described(name: str, module: WeightLayer, bias: Array | None) -> Layer:
    return Layer(
        name=name,
        kind="dense" if isinstance(module, nn.Linear) else "conv",
        weight=weight_of(module),
        groups=1 if isinstance(module, nn.Linear) else module.groups,
        epsilon=torch.finfo(module.weight.dtype).eps,
        bias=bias,
    )
