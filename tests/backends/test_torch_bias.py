"""PyTorch layers show the bias that is theirs alone, and it keeps its type."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch_threads import one_thread  # noqa: F401

from flain_core.errors import WeightsError
from flain_torch import open_network


def biased(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 5), nn.Linear(5, 4)).to(dtype)


def test_a_bias_that_is_absent_shared_or_computed_is_not_shown() -> None:
    shared, view, computed = biased(), biased(), biased()
    shared[2].bias = shared[0].bias
    view.register_buffer("kept", view[0].bias.detach())
    prune.random_unstructured(computed[0], "bias", 2)
    parametrize.register_parametrization(computed[1], "bias", nn.Tanh())
    absent = nn.Sequential(nn.Linear(6, 4, bias=False))
    for model, hidden in ((shared, "02"), (view, "0"), (computed, "01"), (absent, "0")):
        network = open_network(model)
        shown = [name for name, layer in network.layers().items() if layer.bias is None]
        assert shown == list(hidden)
        with pytest.raises(WeightsError, match="bias of '0': the layer shows none"):
            network.replace({}, {"0": np.zeros(4)})


def test_a_model_that_is_a_layer_shows_its_bias() -> None:
    model = nn.Linear(3, 2)
    network = open_network(model)
    bias = network.layers()["Linear"].bias
    assert np.array_equal(bias, model.bias.detach().numpy())
    changed = network.replace({}, {"Linear": [1.0, 2.0]}).native
    assert changed.bias.tolist() == [1.0, 2.0]
    assert np.array_equal(model.bias.detach().numpy(), bias)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_bias_is_rounded_to_the_type_of_the_layer(dtype: torch.dtype) -> None:
    network = open_network(biased(dtype))
    given = np.linspace(0, 1, 4)
    changed = network.replace({}, {"0": given})
    expected = torch.tensor(given).to(dtype)
    assert torch.equal(changed.native[0].bias, expected)
    assert np.array_equal(changed.layers()["0"].bias, expected.double().numpy())
    if dtype != torch.float64:
        with pytest.raises(WeightsError, match=r"bias of '0'.*finite in .*float16"):
            network.replace({}, {"0": np.full(4, 1e300)})
