"""Modules that would fool a careless cut: the answer is still that of the literal procedure."""

import threading

import numpy as np
import pytest
import torch
from by_neurons import by_neurons
from plain import plain_reevaluation
from torch import nn
from torch.nn import functional

import flain_core as flain
from flain_core import Grid

GRID = Grid(start=0.0, step=0.05, stop=3.0)


class Scratch(nn.Module):
    """Works in memory of its own that every run overwrites."""

    def __init__(self):
        super().__init__()
        self.side, self.fc, self.head = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 5)
        self.scratch = torch.zeros(1024, 16)

    def forward(self, x):
        self.scratch[: len(x)] = self.side(x)
        return self.head(torch.relu(self.fc(x)) * self.scratch[: len(x)])


class Clamped(nn.Linear):
    """Is not linear in its weight where the weight is large."""

    def forward(self, x):
        return functional.linear(x, self.weight.clamp(-0.3, 0.3), self.bias)


class ClampedNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.head = Clamped(8, 16), nn.Linear(16, 5)

    def forward(self, x):
        return self.head(torch.relu(self.fc(x)))


class Elsewhere(nn.Module):
    """Uses a single column of the weight a second time."""

    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(8, 16), nn.Linear(16, 5)

    def forward(self, x):
        return self.head(torch.relu(self.fc(x)) + 10 * self.fc.weight[:, 3])


class Statistics(nn.Module):
    """Keeps a running mean even in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(8, 16), nn.Linear(16, 5)
        self.register_buffer("seen", torch.zeros(16))

    def forward(self, x):
        hidden = torch.relu(self.fc(x))
        self.seen += hidden.mean(0)
        return self.head(hidden)


def case(build, seed=0):
    torch.manual_seed(seed)
    initial, final = build(), build()
    x = torch.rand(200, 8) * torch.linspace(0.2, 2.0, 8)
    with torch.no_grad():
        y = final.eval()(x).argmax(1).numpy()
    return initial, final, x, y


def literal(initial, final, x, y):
    """Every threshold really written into a module and run in full."""
    weight = final.fc.weight.detach().clone()

    def run(candidate):
        with torch.no_grad():
            final.fc.weight.copy_(torch.from_numpy(candidate))
            scores = final(x).numpy()
            final.fc.weight.copy_(weight)
        return scores

    return plain_reevaluation(
        initial.fc.weight.detach().numpy(),
        weight.numpy(),
        x.double().mean(0).numpy(),
        run,
        y,
        thresholds=GRID.thresholds(),
        tolerance=2.0,
    )


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("probed", [False, True])
@pytest.mark.parametrize(
    ("build", "method"),
    [
        (Scratch, "incremental"),
        (ClampedNet, "whole network"),
        (Elsewhere, "whole network"),
        (Statistics, "incremental"),
    ],
)
def test_every_step_scores_what_the_literal_procedure_scores(build, method, probed, seed):
    initial, final, x, y = case(build, seed)
    result = flain.purify(
        final,
        initial=initial,
        data=(x, y),
        layers="fc",
        settings=by_neurons(thresholds=GRID, tolerance=1.0),
        probes={"other": (torch.rand(70, 8), y[:70])} if probed else None,
        batch_size=64,
        seed=seed,
    )
    expected = literal(initial, final, x, y)
    accuracy = dict(zip(GRID.thresholds().tolist(), expected.accuracies, strict=True))
    assert result.layers[0].method == method
    assert len(result.layers[0].steps) > 3
    for step in result.layers[0].steps:
        assert step.clean == accuracy[step.threshold]


def test_a_plain_attribute_that_views_the_weight_ties_it():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.dec = nn.Linear(8, 16), nn.Linear(16, 5)
            self.view = self.enc.weight.data.t()

        def forward(self, x):
            return self.dec(functional.linear(torch.relu(self.enc(x)), self.view.t().t().t()))

    with pytest.raises(flain.LayerError, match="shares"):
        flain.purify(Tied(), initial=Tied(), data=(torch.rand(30, 8), [0] * 30), layers="enc")


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_no_trace_of_the_samples_stays_in_the_result():
    initial, final, x, y = case(Statistics)
    final.seen.zero_()
    result = flain.purify(final, initial=initial, data=(x, y), layers="fc")
    assert not result.model.seen.any()
    assert not final.seen.any()


def test_dropout_that_evaluation_does_not_switch_off_is_refused():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 5)

        def forward(self, x):
            return functional.dropout(self.fc(x), 0.5, training=True)

    initial, final, x, y = case(Noisy)
    with pytest.raises(flain.ModelError, match="differently each time"):
        flain.purify(final, initial=initial, data=(x, y))


def test_a_module_whose_deep_copy_is_itself_is_refused():
    class Singleton(nn.Linear):
        def __deepcopy__(self, memo):
            return self

    initial, final = nn.Sequential(nn.Linear(8, 5)), nn.Sequential(Singleton(8, 5))
    with pytest.raises(flain.ModelError, match="shares modules"):
        flain.purify(final, initial=initial, data=(torch.rand(30, 8), [0] * 30))
    assert final.training


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_threads_leave_the_global_switches_as_they_were():
    initial, final, x, y = case(Elsewhere)
    before = torch.backends.mha.get_fastpath_enabled()
    results = []

    def work():
        result = flain.purify(final, initial=initial, data=(x, y), layers="fc")
        results.append(result.layers[0].flipped)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for flipped in results[1:]:
        np.testing.assert_array_equal(flipped, results[0])
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_opening_a_model_does_not_import_the_compiler():
    import subprocess
    import sys

    code = (
        "import sys, torch, flain_torch; net = flain_torch.open_network(torch.nn.Linear(4, 3)); "
        "net.cut('Linear', torch.rand(5, 4)); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
