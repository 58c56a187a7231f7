"""PyTorch modules stay as their owner left them, and copies differ in the new weight alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_models as models
from torch import Tensor, nn
from torch_cases import CASES, Case, N, fingerprint, parts
from torch_threads import one_thread  # noqa: F401

import flain_core as flain
from flain_core.errors import ModelError
from flain_core.network import Network
from flain_torch import open_network


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


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


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_models_made_in_inference_mode_are_purified_there() -> None:
    x = np.random.default_rng(0).standard_normal((60, 6)).astype(np.float32)
    with torch.inference_mode():
        initial, final = models.mlp(), models.mlp()
        final[0].weight += 0.1
        y = final(torch.tensor(x)).argmax(1).numpy()
        inside = flain.purify(final, initial=initial, data=(x, y))
    outside = flain.purify(final, initial=initial, data=(x, y))
    assert inside.layers[0].share == outside.layers[0].share > 0
    assert torch.equal(inside.model[0].weight, outside.model[0].weight)
