"""A PyTorch module as the algorithm sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from flain_core.backend_kit import find_layer, refusals, usable
from flain_core.errors import ModelError
from flain_core.network import Array, Batch, Layer, Network

from ._copy import borrow_from, own, private_copy, unwrapped, versions_of
from ._cut import TorchCut, cut_at
from ._layers import (
    Convolution,
    WeightLayer,
    assign_bias,
    assign_weight,
    bias_of,
    catalogue,
    in_place_of,
    is_dense,
    shared_parameters,
    weight_of,
)
from ._lora import Adapter, adapters_in, check_start, turn_off
from ._run import as_batch, one_at_a_time, run, scores_array
from ._weights import load_state


def open_network(
    model: nn.Module | Mapping[str, Any], *, like: nn.Module | None = None
) -> TorchNetwork:
    """Open a module, or a state dict, for purification. The module itself is never touched.

    Args:
        model: A module, or the weights of one: tensors or NumPy arrays by name.
        like: The module whose architecture the weights belong to; of a module, the one that became
            of it by training.

    Raises:
        ModelError: The module cannot be opened.
        WeightsError: The weights do not fit ``like``.

    >>> model = nn.Linear(3, 2)
    >>> weights = nn.Linear(3, 2).state_dict()
    >>> open_network(weights, like=model).layers()
    {'Linear': Layer('Linear', dense, 2×3, 3 input neurons)}
    """
    # An initial model comes with the final one, and as a rule never runs.
    borrows = like is not None
    if isinstance(model, nn.Module) or not isinstance(model, Mapping):
        source, module = model, private_copy(model, borrow=borrows)
    elif like is None:
        raise ModelError(
            "cannot open a state dict alone: it has weights but no architecture; "
            "pass a module of that architecture as `like`"
        )
    else:
        source, module = like, private_copy(like)
        load_state(module, model)
        borrow_from(model, module)
    modes = [submodule.training for submodule in module.modules()]
    try:
        module.eval()
    except Exception as error:
        raise ModelError(
            f"the {type(module).__name__} cannot be put into evaluation mode: {error}"
        ) from error
    return TorchNetwork(module, modes, shared_parameters(unwrapped(source)), borrows=borrows)


def adapter_off(model: nn.Module) -> TorchNetwork:
    """Open a module as it was before its LoRA adapters were trained: with these off.

    Args:
        model: A module with adapters, as PEFT puts them into it. It is never touched.

    Raises:
        ModelError: It has no adapter, or one that did not start at zero.
    """
    module = private_copy(model)
    turn_off(module)
    return open_network(module)


class TorchNetwork:
    """Implements :class:`flain_core.network.Network`, with scores in float32 or float64.

    Nobody else holds ``module``, which is in evaluation mode; ``modes`` are the ``training`` flags
    to restore in ``module.modules()``; ``shared`` parameters are known by several names. One that
    ``borrows`` has parameters that may lie where the caller's do. They are only read there: before
    anything runs, they are copied. So an initial model, which never runs, takes no memory.
    """

    def __init__(
        self,
        module: nn.Module,
        modes: list[bool],
        shared: Mapping[str, str],
        *,
        borrows: bool = False,
    ) -> None:
        self._module, self._modes, self._shared = module, modes, shared
        self._borrowed = versions_of(module) if borrows else None

    @property
    def native(self) -> nn.Module:
        """A new copy on its device, without what ``torch.compile`` and ``DataParallel`` wrap."""
        module = self._copy()
        # Its own `train` may do more than set flags; those of its submodules may differ from it.
        module.train(self._modes[0])
        for submodule, mode in zip(module.modules(), self._modes, strict=True):
            submodule.training = mode
        return module

    def layers(self) -> dict[str, Layer]:
        """Return the ``nn.Linear``, ``nn.Conv*d`` and ``nn.ConvTranspose*d`` layers by name.

        So does ``Conv1D`` of the Transformers library. A layer with a LoRA adapter stands for that:
        its weight is ``lora_A``, or zero where the adapter adds nothing. A model that is itself a
        layer goes by the name of its class.
        """
        return dict(self._layers)

    def refused_layers(self) -> dict[str, str]:
        return refusals(self._catalogue)

    def check_initial(self, initial: Network, layers: Collection[str]) -> None:
        """Refuse an initial model from which the update of an adapted layer is not ``lora_A``.

        Args:
            initial: The model that training started from.
            layers: The layers that are to be purified.

        Raises:
            WeightsError: Changing ``lora_A`` alone cannot flip what training added.
        """
        if isinstance(initial, TorchNetwork):
            for name in layers:
                check_start(name, self._adapters.get(name), initial._adapters.get(name))

    def predict(self, x: Batch) -> Array:
        module = self._own()
        return scores_array(run(module, as_batch(x, module)))

    def cut(self, layer: str, x: Batch) -> TorchCut:
        module = self._own()
        return cut_at(layer, self._find(layer), module, as_batch(x, module))

    def replace(
        self, weights: Mapping[str, Array], biases: Mapping[str, Array] | None = None
    ) -> TorchNetwork:
        biases = biases or {}
        changed = [self._find(name) for name in (*weights, *biases)]
        mine = {id(each) for layer in changed for each in layer.parameters()}
        # What stays is shared by the copies, which all never change it.
        memo: dict[int, object] = {
            id(each): each for each in self._own().parameters() if id(each) not in mine
        }
        left = dict(weights)
        for name, weight in weights.items():
            layer = self._find(name)
            if (parameter := in_place_of(name, layer, weight)) is not None:
                memo[id(layer.weight)] = parameter
                del left[name]
        copied = TorchNetwork(self._copy(memo), self._modes, self._shared)
        for name, weight in left.items():
            assign_weight(name, copied._find(name), weight)
        for name, bias in biases.items():
            assign_bias(name, copied._find(name), bias, self._layers[name].bias)
        return copied

    def _own(self) -> nn.Module:
        """Return the module, with parameters that only this network has."""
        with one_at_a_time:
            if self._borrowed is not None:
                own(self._module, self._borrowed)
                vars(self).pop("_layers", None)
                self._borrowed = None
        return self._module

    def _copy(self, memo: dict[int, object] | None = None) -> nn.Module:
        # Without the hooks by which another thread observes a run.
        with one_at_a_time:
            return deepcopy(self._module, memo)

    def _find(self, name: str) -> WeightLayer:
        return cast("WeightLayer", find_layer(self._catalogue, name))

    @cached_property
    def _catalogue(self) -> Mapping[str, WeightLayer | str]:
        return catalogue(self._module, self._shared, self._adapters)

    @cached_property
    def _adapters(self) -> Mapping[str, Adapter | str]:
        return adapters_in(self._module)

    @cached_property
    def _layers(self) -> Mapping[str, Layer]:
        modules: dict[str, WeightLayer] = usable(self._catalogue)
        return {name: self._layer(name, module) for name, module in modules.items()}

    def _layer(self, name: str, module: WeightLayer) -> Layer:
        path = "" if module is self._module else name
        adapter = self._adapters.get(path)
        if not isinstance(adapter, Adapter):
            return _described(name, module, weight_of(module), bias_of(path, module, self._shared))
        weight = weight_of(module)
        # What is not kept in the adapter's file must not change.
        return _described(name, module, np.zeros_like(weight) if adapter.is_off else weight, None)


def _described(name: str, module: WeightLayer, weight: Array, bias: Array | None) -> Layer:
    return Layer(
        name=name,
        kind="dense" if is_dense(module) else "conv",
        weight=weight,
        groups=1 if is_dense(module) else cast("Convolution", module).groups,
        epsilon=torch.finfo(module.weight.dtype).eps,
        bias=bias,
    )
