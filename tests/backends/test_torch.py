from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
import torch_models as models
from by_neurons import by_neurons
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import flain_core as flain
from flain_core.backend_kit import switches_of
from flain_core.errors import (
    DataError,
    LayerError,
    ModelError,
    OutputError,
    WeightsError,
)
from flain_core.network import Cut, Network
from flain_torch import _device, load, open_network, save

N = 7


@dataclass(frozen=True)
class Case:
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    layers: tuple[str, ...]
    integers: bool = False
    replayed: bool = True
    tolerance: float = 1e-5

    def batch(self, n: int = N) -> np.ndarray:
        random = np.random.default_rng(n)
        if self.integers:
            return random.integers(0, 20, (n, *self.shape))
        return random.standard_normal((n, *self.shape)).astype(np.float32)

    def model(self) -> nn.Module:
        torch.manual_seed(3)
        model = self.build()
        with torch.no_grad():
            model(torch.as_tensor(self.batch(2), dtype=torch.int64 if self.integers else None))
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 2)
        return model


CASES = {
    "cnn": Case(models.cnn, (3, 8, 8), ("0", "3", "5", "8")),
    "resnet": Case(models.resnet, (3, 8, 8), ("0", "3.conv1", "3.conv2", "4.conv1", "7")),
    "transformer": Case(
        models.Transformer,
        (4,),
        ("encoder.layers.0.linear1", "encoder.layers.1.linear2", "head"),
        integers=True,
    ),
    "sequence first": Case(
        lambda: models.Transformer(batch_first=False),
        (4,),
        ("encoder.layers.0.linear2", "head"),
        integers=True,
    ),
    "recurrent": Case(models.Recurrent, (3, 4), ("project", "head")),
    "unet": Case(models.UNet, (3, 8, 8), ("down", "middle", "up", "head")),
    "grouped": Case(models.grouped, (6, 8, 8), ("0", "2", "4")),
    "upsampling": Case(models.upsampling, (3, 9), ("0", "1", "4")),
    "volumes": Case(models.volumes, (2, 4, 3, 5), ("0", "2", "4")),
    "decides": Case(models.Decides, (6,), ("first",), replayed=False),
    "escapes": Case(models.Escapes, (6,), ("first",), replayed=False),
    "selects": Case(models.Selects, (6,), ("first",), replayed=False),
    "overwrites": Case(models.Overwrites, (3, 9), ("conv",), replayed=False),
    "buffers": Case(models.Buffers, (6,), ("first", "side", "head")),
    "weight norm": Case(
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 4)), nn.Linear(4, 5)),
        (6,),
        ("0", "1"),
    ),
    "compiled": Case(lambda: torch.compile(models.mlp(), backend="eager"), (6,), ("0", "2")),
    "compiled part": Case(
        lambda: nn.Sequential(torch.compile(models.mlp(), backend="eager"), nn.Linear(5, 4)),
        (6,),
        ("0.0", "0.2", "1"),
    ),
    "data parallel": Case(lambda: nn.DataParallel(models.mlp()), (6,), ("0", "2")),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small products are faster so, and the tests may run side by side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def every_layer() -> list[Any]:
    return [
        pytest.param(case, layer, id=f"{name}: {layer}")
        for name, case in CASES.items()
        for layer in case.layers
    ]


def bias_of(layer: nn.Module, output: Tensor) -> Tensor:
    if layer.bias is None:
        return torch.zeros(())
    if isinstance(layer, nn.Linear):
        return layer.bias.detach()
    return layer.bias.detach().view(-1, *[1] * (output.dim() - 2))


def close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * max(1, np.abs(expected).max())


def parts(model: nn.Module) -> list[tuple[str, bool]]:
    return [(name, module.training) for name, module in model.named_modules()]


def fingerprint(model: nn.Module) -> dict[str, bytes]:
    return {name: pickle.dumps(t.float().numpy()) for name, t in model.state_dict().items()}


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


def test_the_callers_model_stays_as_it_is(case: Case) -> None:
    model = case.model()
    next(iter(model.children())).eval()
    weights, modes = fingerprint(model), parts(model)
    network = open_network(model)
    x = case.batch()
    given = x.copy()
    for name in case.layers:
        cut = network.cut(name, x)
        cut.tail(cut.output)
        network.replace({name: -network.layers()[name].weight}).predict(x)
    assert fingerprint(model) == weights
    assert parts(model) == modes
    assert np.array_equal(x, given)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_native_is_a_copy_in_the_modes_of_its_owner() -> None:
    model = models.cnn()
    model[6].eval()
    native = open_network(model).native
    assert parts(native) == parts(model)
    assert fingerprint(native) == fingerprint(model)
    with torch.no_grad():
        native[0].weight.zero_()
    assert model[0].weight.abs().sum() > 0


def test_native_leaves_wrappers_out() -> None:
    wrapped = nn.DataParallel(
        torch.compile(
            nn.Sequential(torch.compile(nn.Linear(3, 2), backend="eager")), backend="eager"
        )
    )
    native = open_network(wrapped).native
    assert [type(m) for m in native.modules()] == [nn.Sequential, nn.Linear]


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


def test_tuples_and_dicts_are_arguments() -> None:
    torch.manual_seed(0)
    network = open_network(models.Named())
    left = np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)
    right = torch.ones(N, 4)
    scores = network.predict((left, right))
    assert scores.shape == (N, 5)
    assert np.array_equal(network.predict({"right": right, "left": left}), scores)
    cut = network.cut("first", {"right": right, "left": left})
    assert np.array_equal(cut.inputs, left)
    assert np.array_equal(cut.tail(cut.output), scores)


class Returns(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.fc(x))


@dataclass
class ModelOutput:
    logits: Tensor


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: (y, 1),
        lambda y: [y],
        lambda y: {"out": y},
        lambda y: {"a": 1, "logits": y},
        ModelOutput,
    ],
)
def test_scores_are_found(wrap: Callable[[Tensor], Any]) -> None:
    network = open_network(Returns(wrap))
    x = np.ones((N, 3), dtype=np.float32)
    cut = network.cut("fc", x)
    assert np.array_equal(cut.tail(cut.output), network.predict(x))
    assert np.array_equal(network.predict(x), cut.output)
    assert not np.shares_memory(cut.tail(cut.output), cut.output.numpy())


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda y: {"a": y, "b": y}, r"entries \['a', 'b'\]"),
        (lambda y: (1, y), "tuple that starts with an int"),
        (lambda y: y.argmax(1), "tensor of int64"),
        (lambda y: y.sum(), "7 samples"),
        (lambda y: y[:3], "7 samples"),
        (lambda y: None, "NoneType"),
    ],
)
def test_results_without_scores_are_refused(wrap: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        open_network(Returns(wrap)).predict(np.ones((N, 3), dtype=np.float32))


class Raises(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.error = error
        self.armed = True

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        if self.armed:
            raise self.error
        return y


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_interrupted_run_leaves_nothing_behind(error: BaseException) -> None:
    model = Raises(error)
    weights = fingerprint(model)
    network = open_network(model)
    x = np.ones((N, 3), dtype=np.float32)
    fused = torch.backends.mha.get_fastpath_enabled()
    expected = ModelError if isinstance(error, Exception) else KeyboardInterrupt
    for run in (lambda: network.cut("fc", x), lambda: network.predict(x)):
        with pytest.raises(expected) as caught:
            run()
    if expected is ModelError:
        assert "(7, 3) float32" in str(caught.value)
        assert str(caught.value.__cause__) == "no"
    assert torch.backends.mha.get_fastpath_enabled() == fused
    assert torch.is_grad_enabled()
    assert fingerprint(model) == weights
    assert all(module.training for module in model.modules())
    network._module.armed = False
    cut = network.cut("fc", x)
    assert cut.calls == 1
    assert np.array_equal(cut.tail(cut.output), network.predict(x))


def test_unscaled_pixels_are_explained() -> None:
    with pytest.raises(ModelError, match="if they are pixels, scale them"):
        open_network(models.mlp()).predict(np.ones((N, 6), dtype=np.uint8))


@pytest.mark.parametrize("x", [np.array(["a"]), np.float32(3), {}, np.array([1j])])
def test_data_that_is_no_batch_is_refused(x: Any) -> None:
    with pytest.raises(DataError, match="expected a batch to"):
        open_network(models.mlp()).predict(x)


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


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(6, 4), nn.Linear(4, 5))
    model[1].weight = model[0].weight
    return model


def registered_twice() -> nn.Module:
    model = models.mlp()
    model.add_module("alias", model[0])
    return model


def same_memory() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(6, 4))
    model[1].weight.data = model[0].weight.data
    return model


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 4)))


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


def pruned() -> nn.Module:
    model = models.mlp()
    prune.l1_unstructured(model[0], "weight", 3)
    return model


def attention() -> nn.Module:
    return nn.Sequential(nn.MultiheadAttention(4, 2))


@pytest.mark.parametrize(
    ("build", "name", "message"),
    [
        (tied, "0", "shares '0.weight' with '1.weight'"),
        (tied, "1", "shares"),
        (registered_twice, "0", "shares"),
        (registered_twice, "alias", "shares"),
        (same_memory, "1", "shares"),
        (old_weight_norm, "0", "remove_weight_norm"),
        (pruned, "0", "prune.remove"),
        (
            lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 4))),
            "0",
            "remove_parametrizations",
        ),
        (
            lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(6, 4))),
            "0",
            "remove_parametrizations",
        ),
        (attention, "0.out_proj", "without ever calling it"),
        (models.mlp, "1", "no dense or convolutional layer"),
        (models.cnn, "9", "the model has '0', '3', '5', '8'."),
        (models.Transformer, "encoder.layers.0.linear", "Did you mean 'encoder.layers.0.linear2'"),
    ],
)
def test_layers_that_cannot_be_purified_say_why(
    build: Callable[[], nn.Module], name: str, message: str
) -> None:
    network = open_network(build())
    assert name not in network.layers()
    with pytest.raises(LayerError, match=message):
        network.cut(name, np.ones((N, 6), dtype=np.float32))
    with pytest.raises(LayerError, match=message):
        network.replace({name: np.ones((4, 6))})


def purified(build: Callable[[], nn.Module], x: np.ndarray, layers: str) -> flain.Purification:
    torch.manual_seed(0)
    initial, final = build(), build()
    y = open_network(final).predict(x).argmax(axis=1)
    settings = by_neurons(statistic="mean_abs", tolerance=0.2)
    return flain.purify(final, initial=initial, data=(x, y), layers=layers, settings=settings)


def test_a_model_whose_layers_are_all_refused_gives_the_reasons() -> None:
    def build() -> nn.Module:
        model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6), pruned()[0])
        model[1].weight = model[0].weight
        return model

    refused = open_network(build()).refused_layers()
    assert list(refused) == ["0", "1", "2"]
    assert refused["0"].startswith("it shares '0.weight' with '1.weight'")
    assert refused["1"].startswith("it shares '1.weight' with '0.weight'")
    assert "torch.nn.utils.prune.remove(layer, 'weight')" in refused["2"]
    reasons = "; ".join(f"{name!r}: {reason}" for name, reason in refused.items())
    x = np.random.default_rng(0).random((40, 6), dtype=np.float32)
    for layers in ("all", "auto", "0"):
        with pytest.raises(LayerError) as caught:
            purified(build, x, layers)
        assert str(caught.value) == f"no layer of the model can be purified: {reasons}"


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_the_notes_name_what_a_whole_group_leaves_out() -> None:
    def build() -> nn.Module:
        return nn.Sequential(*old_weight_norm(), nn.ReLU(), nn.Linear(4, 5))

    assert list(open_network(build()).refused_layers()) == ["0"]
    assert open_network(models.mlp()).refused_layers() == {}
    x = np.random.default_rng(0).standard_normal((80, 6)).astype(np.float32)
    result = purified(build, x, "all")
    assert [layer.name for layer in result.layers] == ["2"]
    expected = "'0' was left out, as it cannot be purified: old-style weight_norm computes its"
    assert sum(str(note).startswith(expected) for note in result.notes) == 1
    assert not any("left out" in str(note) for note in purified(build, x, "2").notes)


def test_a_layer_inside_a_function_transform_is_reported() -> None:
    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.vmap(self.fc)(x)

    network = open_network(Mapped())
    x = np.ones((N, 6), dtype=np.float32)
    assert network.predict(x).shape == (N, 4)
    with pytest.raises(LayerError, match=r"torch\.vmap"):
        network.cut("fc", x)


def test_a_layer_that_never_runs_or_sees_no_samples_is_reported() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Linear(3, 2)
            self.constant = nn.Linear(3, 2)
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) + self.constant(torch.ones(1, 3))

    network = open_network(Odd())
    x = np.ones((N, 4), dtype=np.float32)
    with pytest.raises(LayerError, match="'idle' was not called"):
        network.cut("idle", x)
    with pytest.raises(LayerError, match="every one of the 7 samples"):
        network.cut("constant", x)


def quantized() -> nn.Module:
    fake = type("Linear", (nn.Module,), {"__module__": "torch.ao.nn.quantized.dynamic.modules"})
    return nn.Sequential(fake())


class Uncopyable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lock = Lock()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: torch.jit.trace(models.mlp(), torch.ones(2, 6)), "TorchScript"),
        (lambda: torch.export.export(models.mlp(), (torch.ones(2, 6),)), "an Exp.*was exported"),
        (lambda: nn.LazyLinear(3), "run the model on one batch first"),
        (lambda: nn.Linear(3, 2, device="meta"), "meta device"),
        (quantized, "quantize it"),
        (Uncopyable, "cannot copy the Uncopyable"),
        (lambda: models.mlp().state_dict(), "`like`"),
        (lambda: 3, "an int"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_models_that_cannot_be_opened_say_why(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        open_network(build())


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones((6, 9)), r"shape \(9, 6\); got float64 of shape \(6, 9\)"),
        (np.full((9, 6), np.nan), "that are finite in .*; got NaN"),
        (np.full((9, 6), 1e6), "finite in torch.float16; .* out of its range"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weight: np.ndarray, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        open_network(models.mlp(torch.float16)).replace({"0": weight})


def test_replacing_keeps_everything_else() -> None:
    model = models.cnn().to(memory_format=torch.channels_last)
    model[3].weight.requires_grad_(False)
    network = open_network(model)
    weight = np.full(network.layers()["3"].weight.shape, 0.5)
    changed = network.replace({"3": weight}).native
    assert isinstance(network, Network)
    assert np.array_equal(changed[3].weight, weight)
    assert not changed[3].weight.requires_grad
    assert changed[0].weight.requires_grad
    assert changed[3].weight.is_contiguous(memory_format=torch.channels_last)
    assert parts(changed) == parts(model)
    others = [name for name in model.state_dict() if name != "3.weight"]
    before, after = fingerprint(model), fingerprint(changed)
    assert all(before[name] == after[name] for name in others)
    assert fingerprint(network.native) == before


def test_a_state_dict_opens_like_a_module() -> None:
    final, initial = models.mlp(), models.mlp()
    arrays = {name: tensor.numpy() for name, tensor in initial.state_dict().items()}
    wrapped = nn.DataParallel(initial).state_dict()
    for weights in (initial.state_dict(), arrays, wrapped):
        network = open_network(weights, like=final)
        assert fingerprint(network.native) == fingerprint(initial)
    assert fingerprint(final) != fingerprint(initial)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("0.bias"), r'Missing key\(s\) in state_dict: "0.bias"'),
        (lambda w: w.update(extra=torch.ones(1)), 'Unexpected key.*"extra"'),
        (lambda w: w.update({"0.bias": torch.ones(3)}), "size mismatch for 0.bias"),
        (lambda w: w.update({"0.bias": "text"}), "expected a tensor for '0.bias'"),
        (lambda w: w.update({3: torch.ones(1)}), "got the name 3"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused(
    change: Callable[[dict[Any, Any]], Any], message: str
) -> None:
    final = models.mlp()
    weights = dict(deepcopy(final.state_dict()))
    change(weights)
    before = fingerprint(final)
    with pytest.raises(WeightsError, match=message):
        open_network(weights, like=final)
    assert fingerprint(final) == before


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("build", [models.cnn, tied])
def test_files_round_trip(tmp_path: Path, suffix: str, build: Callable[[], nn.Module]) -> None:
    model, path = build(), tmp_path / f"model{suffix}"
    save(model, path)
    assert fingerprint(load(path, build)) == fingerprint(model)
    with pytest.raises(OutputError, match="exists already"):
        save(model, path)
    save(model, path, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_checkpoints_are_looked_into(tmp_path: Path, key: str) -> None:
    model, path = models.mlp(), tmp_path / "checkpoint.pt"
    torch.save({key: nn.DataParallel(model).state_dict(), "epoch": 3}, path)
    assert fingerprint(load(path, models.mlp)) == fingerprint(model)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="suffix"):
        save(models.mlp(), tmp_path / "model.bin")
    with pytest.raises(WeightsError, match="suffix"):
        load(tmp_path / "model.bin", models.mlp)
    with pytest.raises(WeightsError, match="no such file"):
        load(tmp_path / "model.pt", models.mlp)
    assert not list(tmp_path.iterdir())


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("writer", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_nothing_is_ever_unpickled(tmp_path: Path, writer: Callable[[Any, Path], Any]) -> None:
    path, proof = tmp_path / "model.pt", tmp_path / "executed"
    writer({"0.weight": Malicious(proof)}, path)
    with pytest.raises(WeightsError, match="never unpickled") as caught:
        load(path, models.mlp)
    assert caught.value.__cause__ is not None
    assert not proof.exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("kept", [0, 0.1, 0.5, 0.97])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"model{suffix}"
    save(models.cnn(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(WeightsError, match="damaged"):
        load(path, models.cnn)


def test_files_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save(models.cnn(), path)
    with pytest.raises(WeightsError, match=r"model\.pt: the weights do not fit the Sequential"):
        load(path, models.mlp)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="got a list"):
        load(tmp_path / "list.pt", models.mlp)
    with pytest.raises(ModelError, match="without arguments"):
        load(path, lambda size: models.mlp())
    with pytest.raises(ModelError, match="got an int"):
        load(path, lambda: 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_tensors_stay_on_their_device() -> None:
    network = open_network(CASES["cnn"].model().cuda())
    x = CASES["cnn"].batch()
    cut = network.cut("5", x)
    moved = cut.linear(network.layers()["5"].weight, np.arange(3))
    assert cut.output.is_cuda
    assert moved.is_cuda
    assert network.native[0].weight.is_cuda
    assert np.array_equal(cut.tail(cut.output), network.predict(x))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_several_candidates_are_waited_for_once_and_score_as_one_by_one() -> None:
    network = open_network(CASES["cnn"].model().cuda())
    cut = network.cut("5", CASES["cnn"].batch())
    weight = network.layers()["5"].weight
    outputs = [cut.output - cut.linear(weight, np.arange(n)) for n in range(1, 4)]
    assert cut.tails is not None
    for one, expected in zip(cut.tails(outputs), map(cut.tail, outputs), strict=True):
        assert np.array_equal(one, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    ("made", "shape"),
    [(lambda: nn.Linear(4096, 16), (64, 4096)), (lambda: nn.Conv2d(64, 16, 3), (8, 64, 9, 9))],
)
def test_products_keep_all_bits_and_the_switches_are_put_back(
    made: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        here, there = made(), made().cuda()
        there.load_state_dict(here.state_dict())
        x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        expected, given = (open_network(each).predict(x) for each in (here, there))
        assert np.abs(given - expected).max() < 1e-5 * np.abs(expected).max()
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def _switches() -> list[object]:
    return [getattr(owner, name) for owner, name, _ in switches_of(torch)]


@pytest.mark.parametrize("allowed", [False, True])
def test_the_switches_of_a_device_are_set_inside_and_put_back(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        before = _switches()
        with _device.single_precision(torch.device("cuda")):
            assert _switches() == [exact for _, _, exact in switches_of(torch)]
            # What reads the old switches in a model's own code goes on.
            with torch.backends.cudnn.flags(enabled=False):
                assert not torch.backends.cuda.matmul.allow_tf32
            assert torch.get_float32_matmul_precision() == "highest"
        assert _switches() == before
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def test_switches_that_a_user_has_mixed_are_put_back_too() -> None:
    convolutions = torch.backends.cudnn
    if not hasattr(convolutions, "conv"):
        pytest.skip("this PyTorch has one kind of switch")
    convolutions.conv.fp32_precision = "ieee"
    try:
        with pytest.raises(RuntimeError):
            _ = convolutions.allow_tf32
        with _device.single_precision(torch.device("cuda")):
            assert convolutions.rnn.fp32_precision == "ieee"
        assert convolutions.conv.fp32_precision == "ieee"
        assert convolutions.rnn.fp32_precision == "tf32"
    finally:
        convolutions.conv.fp32_precision = "tf32"
    assert convolutions.allow_tf32


def test_a_cpu_has_no_switches_set() -> None:
    with _device.single_precision(torch.device("cpu")):
        assert torch.backends.cudnn.allow_tf32
