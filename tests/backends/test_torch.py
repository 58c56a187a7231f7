"""Every layer of a PyTorch module is cut, and the cut answers as the whole module does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch_models as models
from torch import Tensor, nn
from torch_cases import CASES, Case, N, bias_of, close
from torch_threads import one_thread  # noqa: F401

from flain_core.errors import LayerError
from flain_core.network import Cut
from flain_torch import open_network


def every_layer() -> list[Any]:
    return [
        pytest.param(case, layer, id=f"{name}: {layer}")
        for name, case in CASES.items()
        for layer in case.layers
    ]


@pytest.mark.parametrize(("case", "name"), every_layer())
@pytest.mark.parametrize("n", [N, 1])
def test_a_cut_answers_as_the_whole_network_does(case: Case, name: str, n: int) -> None:
    network = open_network(case.model())
    x = case.batch(n)
    layer, cut, scores = network.layers()[name], network.cut(name, x), network.predict(x)
    random = np.random.default_rng(0)
    update = random.standard_normal(layer.weight.shape).astype(np.float32)
    everything = np.arange(layer.neurons)
    some = random.permutation(layer.neurons)[: (layer.neurons + 1) // 2]

    assert isinstance(cut, Cut)
    assert cut.calls == 1
    assert cut.inputs.shape[:2] == (n, layer.neurons)
    assert (cut._seen.replay is not None) is case.replayed

    before = cut.output.clone()
    module = dict(network.native.named_modules())[name]
    close(cut.linear(layer.weight, everything) + bias_of(module, before), before)

    assert np.array_equal(cut.tail(cut.output), scores)
    candidate = before - cut.linear(2 * update, some)
    answers = [cut.tail(candidate) for _ in range(3)]
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])

    width = layer.weight.shape[1]
    chosen = np.zeros((layer.groups, width), dtype=bool)
    chosen[some // width, some % width] = True
    mask = np.repeat(chosen, len(layer.weight) // layer.groups, axis=0)
    flipped = layer.weight - 2 * update * mask.reshape(*mask.shape, *[1] * (update.ndim - 2))
    actual = network.replace({name: flipped}).predict(x)
    assert np.abs(actual - scores).max() > 1e-3
    close(answers[0], actual, 2e-5)
    assert torch.equal(cut.output, before)
    assert np.array_equal(cut.tail(before), scores)


def test_layers_are_canonical() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(6, 4, (2, 3), groups=2, bias=False)
    canonical = open_network(nn.Sequential(layer)).layers()["0"]
    assert canonical.weight.shape == (4, 3, 2, 3)
    assert (canonical.kind, canonical.groups, canonical.neurons) == ("conv", 2, 6)
    # Input channel 4 is the second of group 1, output channel 3 is the last one of group 1.
    assert np.array_equal(canonical.weight[3, 1], layer.weight[4, 1].detach())
    assert not canonical.weight.flags.writeable

    layers = open_network(models.cnn()).layers()
    assert list(layers) == ["0", "3", "5", "8"]
    assert [layer.kind for layer in layers.values()] == ["conv", "conv", "dense", "dense"]
    assert layers["5"].weight.shape == (14, 24)


def test_a_model_that_is_a_layer_goes_by_its_class() -> None:
    layer = nn.Linear(3, 2)
    network = open_network(layer)
    weight = np.ones((2, 3), dtype=np.float32)
    changed = network.replace({"Linear": weight})
    assert np.array_equal(changed.native.weight.detach(), weight)
    x = np.ones((4, 3), dtype=np.float32)
    cut = changed.cut("Linear", x)
    assert np.array_equal(cut.tail(cut.output), changed.predict(x))
    close(cut.output, 3 + layer.bias.detach().expand(4, 2))


def test_positions_follow_the_neurons() -> None:
    model = models.Recurrent()
    x = np.random.default_rng(0).standard_normal((N, 3, 4)).astype(np.float32)
    cut = open_network(model).cut("project", x)
    assert np.array_equal(cut.inputs, x.transpose(0, 2, 1))


@pytest.mark.parametrize("arrange", ["sequence first", "flattened"])
def test_inputs_are_sorted_by_sample_where_the_layer_sees_them_otherwise(arrange: str) -> None:
    class Arranged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 6)

        def forward(self, x: Tensor) -> Tensor:
            if arrange == "flattened":
                return self.fc(x.flatten(0, 1)).unflatten(0, x.shape[:2]).sum(1)
            return self.fc(x.transpose(0, 1)).sum(0)

    x = np.random.default_rng(0).standard_normal((N, 3, 4)).astype(np.float32)
    cut = open_network(Arranged()).cut("fc", x)
    assert np.array_equal(cut.inputs, x.transpose(0, 2, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_and_rounded_once(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = open_network(models.mlp(dtype))
    x = np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)
    layer, cut, scores = network.layers()["0"], network.cut("0", x), network.predict(x)
    assert layer.epsilon == torch.finfo(dtype).eps
    assert layer.weight.dtype == (np.float16 if dtype == torch.float16 else np.float32)
    assert scores.dtype == np.float32
    assert cut.output.dtype == torch.float32
    assert np.array_equal(cut.tail(cut.output), scores)

    update = np.random.default_rng(1).standard_normal((9, 6)).astype(np.float32)
    some = np.array([4, 1])
    flipped = layer.weight.astype(np.float32)
    flipped[:, some] -= 2 * update[:, some]
    changed = network.replace({"0": flipped})
    assert changed.native[0].weight.dtype == dtype
    moved = changed.predict(x)
    assert np.abs(moved - scores).max() > 0.1
    close(cut.tail(cut.output - cut.linear(2 * update, some)), moved, 8 * layer.epsilon)


def test_float64_stays_float64() -> None:
    network = open_network(models.mlp(torch.float64))
    x = np.random.default_rng(0).standard_normal((N, 6))
    cut = network.cut("0", x.astype(">f8"))
    assert cut.output.dtype == torch.float64
    assert cut.inputs.dtype == network.predict(x).dtype == np.float64
    assert np.array_equal(cut.inputs, x)


def test_a_layer_that_runs_twice_has_inputs_but_no_cut() -> None:
    network = open_network(models.Twice())
    cut = network.cut("shared", np.ones((N, 6), dtype=np.float32))
    assert cut.calls == 2
    assert cut.inputs.shape == (N, 6, 2)
    assert np.array_equal(cut.inputs[:, :, 0], np.ones((N, 6)))
    for use in (
        lambda: cut.output,
        lambda: cut.tail(torch.zeros(N, 4)),
        lambda: cut.linear(np.ones((4, 6), dtype=np.float32), np.arange(2)),
    ):
        with pytest.raises(LayerError, match="ran 2 times"):
            use()


def test_no_neurons_contribute_nothing() -> None:
    network = open_network(models.cnn())
    x = CASES["cnn"].batch()
    for name in ("0", "5"):
        cut = network.cut(name, x)
        none = cut.linear(network.layers()[name].weight, np.array([], dtype=int))
        assert torch.equal(none, torch.zeros_like(cut.output))


def test_arrays_that_are_read_only_are_taken_in_silence() -> None:
    """So they arrive from shared memory; a process that was warned once is not warned again."""
    code = """
import numpy as np, torch
from flain_torch import open_network
network = open_network(torch.nn.Linear(3, 2))
cut = network.cut("Linear", np.ones((4, 3), np.float32))
weight, neurons = np.ones((2, 3), np.float32), np.arange(2)
weight.flags.writeable = neurons.flags.writeable = False
cut.linear(weight, neurons)
"""
    run = [sys.executable, "-W", "error", "-c", code]
    subprocess.run(run, check=True, capture_output=True)


def test_a_model_may_overwrite_its_input_and_the_layers() -> None:
    network = open_network(models.Overwrites())
    x = torch.rand(N, 3, 9)
    given = x.clone()
    cut = network.cut("conv", x)
    output = cut.output.clone()
    weight = network.layers()["conv"].weight
    everything = cut.linear(weight, np.arange(3))
    close(cut.inputs, given - 1)
    close(everything + bias_of(network.native.conv, output), output)
    assert np.array_equal(cut.tail(output), network.predict(x))
    assert np.array_equal(cut.tail(output), network.predict(x))
    assert torch.equal(cut.output, output)
    assert torch.equal(x, given)


@pytest.mark.parametrize("build", [models.mlp, models.Decides])
def test_hooks_of_the_owner_act_on_the_pre_activation(build: Callable[[], nn.Module]) -> None:
    model = build()
    layer = next(module for module in model.modules() if isinstance(module, nn.Linear))
    layer.register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    layer.register_forward_hook(lambda _, args, output: 3 * output)
    network = open_network(model)
    name = next(iter(network.layers()))
    x = np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)
    cut = network.cut(name, x)
    close(cut.inputs, x + 1)
    close(cut.linear(network.layers()[name].weight, np.arange(6)) + layer.bias.detach(), cut.output)
    assert np.array_equal(cut.tail(cut.output), network.predict(x))


def test_operators_that_no_tape_records_are_run_without_one() -> None:
    class Conditional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.fc(x)
            return torch.cond(y.sum() > 0, torch.sin, torch.cos, (y,))

    network = open_network(Conditional())
    x = np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)
    cut = network.cut("fc", x)
    assert np.array_equal(cut.tail(cut.output), network.predict(x))
    branch = torch.sin if (-cut.output).sum() > 0 else torch.cos
    close(cut.tail(-cut.output), branch(-cut.output))
