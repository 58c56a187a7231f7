"""Arrays of PyTorch modules in and out, through real state dicts."""

from __future__ import annotations

import copy
from functools import cache

import backdoored
import numpy as np
import pytest
import torch
from torch import nn
from torch_threads import one_thread  # noqa: F401

import flain_core as flain
from flain_core import LayerError, ModelError, WeightsError
from flain_torch import arrays_of

CLEAN = backdoored.samples(300, seed=11)
TRIGGERED = backdoored.triggered(200, seed=12)


def network() -> nn.Module:
    """12 → 10 → 7 → 3, with batch normalization: nothing in it is square."""
    return nn.Sequential(
        nn.Linear(12, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 7), nn.ReLU(),
        nn.Linear(7, 3),
    )  # fmt: skip


@cache
def trained() -> tuple[nn.Module, nn.Module]:
    """The module before and after training on clean and on triggered samples."""
    torch.manual_seed(0)
    model = network()
    initial = copy.deepcopy(model)
    clean, bad = backdoored.samples(600, seed=1), backdoored.triggered(300, seed=2)
    x, y = (torch.tensor(np.concatenate(pair)) for pair in zip(clean, bad, strict=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return initial.eval(), model.eval()


def state(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}


def flat(module: nn.Module) -> np.ndarray:
    return torch.cat([each.detach().ravel() for each in module.parameters()]).numpy()


@cache
def expected() -> flain.Purification:
    initial, final = trained()
    return flain.purify(final, initial=initial, data=CLEAN, layers="0")


def call(initial, final, model, **options) -> flain.PurifiedArrays:
    return flain.purify_arrays(initial, final, model, data=CLEAN, layers="0", **options)


def assert_purified(arrays: dict[str, np.ndarray]) -> None:
    final, purified = state(trained()[1]), state(expected().model)
    assert not np.array_equal(final["0.weight"], purified["0.weight"])
    assert list(arrays) == list(final)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, purified[name])
        assert (array.dtype, array.shape) == (final[name].dtype, final[name].shape)
        assert (name in ("0.weight", "0.bias")) != np.array_equal(array, final[name])


def test_arrays_are_those_of_the_state_dict():
    _, final = trained()
    arrays = arrays_of(final)
    assert list(arrays) == list(final.state_dict())
    for name, array in state(final).items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert list(arrays_of(final, buffers=False)) == [name for name, _ in final.named_parameters()]


def test_a_state_dict_goes_in_and_comes_out():
    initial, final = trained()
    model = network()
    before = state(model)
    result = call(state(initial), state(final), model, probes={"ASR": TRIGGERED})
    assert_purified(result.arrays)
    assert result.purification.before.probes["ASR"] > 0.99
    assert result.purification.after.probes["ASR"] < 0.1
    assert model.training
    for name, array in state(model).items():
        np.testing.assert_array_equal(array, before[name])
    model.load_state_dict({name: torch.tensor(each) for name, each in result.arrays.items()})
    with torch.no_grad():
        right = model.eval()(torch.tensor(CLEAN[0])).argmax(1).numpy() == CLEAN[1]
    assert right.mean() == result.purification.after.clean


def test_a_list_goes_in_and_comes_out():
    initial, final = trained()
    result = call(list(state(initial).values()), list(state(final).values()), network())
    assert_purified(dict(zip(state(final), result.arrays, strict=True)))


def test_a_flat_vector_of_parameters_goes_in_and_comes_out():
    initial, final = trained()
    statistics = network()
    statistics.load_state_dict(final.state_dict())
    with torch.no_grad():
        for parameter in statistics.parameters():
            parameter.zero_()
    result = call(flat(initial), flat(final), statistics)
    np.testing.assert_array_equal(result.arrays, flat(expected().model))
    assert_purified(state(result.purification.model))


def test_a_counter_and_weights_that_became_float64_stay_so():
    initial, final = trained()
    averaged = {name: np.mean([each, each], axis=0) for name, each in state(final).items()}
    averaged = {
        name: array.astype(np.float64) + (0.5 if name == "1.num_batches_tracked" else 0)
        for name, array in averaged.items()
    }
    assert not isinstance(averaged["1.num_batches_tracked"], np.ndarray)
    result = call(state(initial), averaged, network())
    assert {array.dtype for array in result.arrays.values()} == {np.dtype(np.float64)}
    assert result.arrays["1.num_batches_tracked"] == 200.5
    np.testing.assert_array_equal(
        result.arrays["0.weight"], state(expected().model)["0.weight"].astype(np.float64)
    )


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_names_with_a_wrappers_prefix_are_read_and_kept(wrap):
    initial, final = (wrap(copy.deepcopy(each)) for each in trained())
    assert "0.weight" not in state(final)
    for model in (network(), wrap(network())):
        result = call(state(initial), state(final), model)
        assert list(result.arrays) == list(state(final))
        assert_purified(dict(zip(state(trained()[1]), result.arrays.values(), strict=True)))


def test_half_precision_is_returned_as_it_was_given():
    initial, final = (copy.deepcopy(each).bfloat16() for each in trained())
    given = [
        {name: tensor.float().numpy() for name, tensor in each.state_dict().items()}
        for each in (initial, final)
    ]
    result = call(*given, network().bfloat16())
    flipped = result.purification.layers[0].flipped
    assert flipped.any()
    for name, array in result.arrays.items():
        assert array.dtype == np.float32
        assert (name == "0.weight") != np.array_equal(array, given[1][name])
    wide = {name: array.astype(np.float32) for name, array in state(trained()[1]).items()}
    result = call(given[0], wide, network().bfloat16())
    same = ~result.purification.layers[0].flipped
    np.testing.assert_array_equal(
        result.arrays["0.weight"][:, same], state(trained()[1])["0.weight"][:, same]
    )


def test_a_mask_of_infinity_is_no_mistake():
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()
            self.register_buffer("mask", torch.tensor([0.0, 0.0, 0.0, -torch.inf]))

        def forward(self, x):
            return self.inner(x) + self.mask[:3]

    initial, final = Masked(), Masked()
    initial.inner.load_state_dict(trained()[0].state_dict())
    final.inner.load_state_dict(trained()[1].state_dict())
    result = flain.purify_arrays(state(initial), state(final), Masked(), data=CLEAN)
    assert result.arrays["mask"].tolist() == [0, 0, 0, -np.inf]
    np.testing.assert_array_equal(
        result.arrays["inner.0.weight"], state(expected().model)["0.weight"]
    )


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_tied_weights_count_once_in_a_vector_and_twice_in_a_state_dict():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(12, 10)
            self.up, self.down = nn.Linear(10, 3), nn.Linear(10, 3)
            self.down.weight = self.up.weight

        def forward(self, x):
            hidden = torch.relu(self.first(x))
            return self.up(hidden) + self.down(hidden)

    torch.manual_seed(0)
    initial, final = Tied(), Tied()
    result = flain.purify_arrays(state(initial), state(final), Tied(), data=CLEAN)
    vector = flain.purify_arrays(flat(initial), flat(final), Tied(), data=CLEAN)
    assert list(result.arrays) == list(final.state_dict())
    assert vector.arrays.shape == flat(final).shape
    np.testing.assert_array_equal(vector.arrays, flat(result.purification.model))


def test_tensors_go_in_and_come_out():
    initial, final = trained()
    result = call(initial.state_dict(), final.state_dict(), network())
    assert all(isinstance(each, torch.Tensor) for each in result.arrays.values())
    assert [each.dtype for each in result.arrays.values()] == [
        each.dtype for each in final.state_dict().values()
    ]
    assert_purified({name: each.numpy() for name, each in result.arrays.items()})
    vector = nn.utils.parameters_to_vector(final.parameters())
    purified = call(nn.utils.parameters_to_vector(initial.parameters()), vector, final).arrays
    assert purified.dtype == vector.dtype
    nn.utils.vector_to_parameters(purified, (again := copy.deepcopy(final)).parameters())
    assert_purified(state(again))


def test_a_list_of_parameters_lacks_the_buffers():
    initial, final = trained()
    result = call(list(initial.parameters()), list(final.parameters()), final)
    purified = dict(expected().model.named_parameters())
    assert len(result.arrays) == len(purified)
    for ours, theirs in zip(result.arrays, purified.values(), strict=True):
        assert isinstance(ours, torch.Tensor)
        np.testing.assert_array_equal(ours.numpy(), theirs.detach().numpy())
    assert "2 arrays were not given" in result.purification.notes[-1]
    assert "'1.running_mean', '1.running_var'" in result.purification.notes[-1]


def without(words):
    return lambda arrays: {name: arrays[name] for name in arrays if words not in name}


def test_counters_may_be_missing():
    initial, final = trained()
    lacking = without("num_batches")
    result = call(lacking(state(initial)), lacking(state(final)), network())
    assert list(result.arrays) == list(lacking(state(final)))
    for name, array in result.arrays.items():
        np.testing.assert_array_equal(array, state(expected().model)[name])
    assert not any("not given" in note for note in result.purification.notes)


def test_batch_normalization_that_clients_kept_is_the_models_own():
    """FedBN: no server has it."""
    initial, final = trained()
    lacking = without("1.")
    result = call(lacking(state(initial)), lacking(state(final)), copy.deepcopy(final))
    assert list(result.arrays) == ["0.weight", "0.bias", "3.weight", "3.bias", "5.weight", "5.bias"]
    for name, array in result.arrays.items():
        np.testing.assert_array_equal(array, state(expected().model)[name])
    assert (
        "4 arrays were not given and are the model's own, as it was passed: '1.weight', '1.bias', "
        "'1.running_mean', '1.running_var'" in result.purification.notes[-1]
    )


@pytest.mark.parametrize("wrapped", ["the arrays", "the final arrays", "the model"])
def test_the_prefix_of_a_wrapper_may_be_on_either_side(wrapped):
    """As Opacus puts ``_module.`` before every name."""

    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self._module = module

        def forward(self, x):
            return self._module(x)

    def prefixed(arrays):
        return {f"_module.{name}": each for name, each in arrays.items()}

    initial, final = (without("num_batches")(state(each)) for each in trained())
    if wrapped == "the model":
        result = flain.purify_arrays(initial, final, Wrapper(network()), data=CLEAN)
        assert list(result.arrays) == list(final)
    else:
        given = prefixed(initial) if wrapped == "the arrays" else initial
        result = call(given, prefixed(final), network())
        assert list(result.arrays) == list(prefixed(final))
    for array, name in zip(result.arrays.values(), final, strict=True):
        np.testing.assert_array_equal(array, state(expected().model)[name])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a | {"1.running_var": a["1.running_var"][:-1]}, r"'1.running_var' has shape"),
        (
            lambda a: a | {"0.bias": torch.zeros(10, dtype=torch.bfloat16)},
            r"give it as \.float\(\)",
        ),
        (lambda a: a | {"0.bias": torch.full((10,), torch.nan)}, r"'0.bias' holds NaN"),
        (lambda a: {name: a[name] for name in a if name != "0.bias"}, r"missing: '0.bias'"),
        (lambda a: a | {"1.running_mean": np.full(10, np.nan)}, r"'1.running_mean' holds NaN"),
        (lambda a: a | {"1.num_batches_tracked": np.float64(np.inf)}, r"tracked' holds infinity"),
        (lambda a: list(a.values())[:-3], r"in the same form"),
    ],
)
def test_what_does_not_fit_is_named(spoil, message):
    initial, final = trained()
    with pytest.raises(WeightsError, match=message):
        call(state(initial), spoil(state(final)), network())


def test_state_that_no_array_holds_is_refused():
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"version": 1}

        def set_extra_state(self, _):
            pass

    with pytest.raises(ModelError, match=r"keeps '_extra_state', a dict.*two modules"):
        flain.purify_arrays({}, {}, Extra(12, 3), data=CLEAN)
    with pytest.raises(LayerError, match="no fully connected or convolutional layer"):
        flain.purify_arrays(np.ones(0), np.ones(0), nn.ReLU(), data=CLEAN)
    with pytest.raises(ModelError, match="no shape yet"):
        flain.purify_arrays({}, {}, nn.LazyLinear(3), data=CLEAN)
