"""Eight threads purify one model object, and each gets what a thread alone gets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
from alike_networks import BUILD, FINAL, X
from engines import ENGINES, passed
from many_threads import SIZES, at_once, check_threads

SUITE = Path(__file__).with_name("keras_threads_suite.py")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model only loses time to threads."""
    try:
        import torch
    except ImportError:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("opened", [False, True], ids=["model", "network"])
@pytest.mark.parametrize(
    "sizes",
    [pytest.param(SIZES, marks=pytest.mark.slow), (16,) * 8],
    ids=["other sizes", "one size"],
)
@pytest.mark.parametrize("framework", BUILD)
def test_threads_do_not_disturb_each_other(framework, sizes, opened):
    check_threads(BUILD[framework], opened=opened, sizes=sizes)


@pytest.mark.slow
def test_nor_where_a_module_looks_at_values_and_so_is_run_whole():
    """Then the cut's tail replaces the layer's output in a run of the shared module."""
    torch = pytest.importorskip("torch")

    class Looks(torch.nn.Sequential):
        def forward(self, x):
            hidden = self.relu(self.fc1(x))
            return self.fc2(hidden) * (1 if hidden.sum().item() > -1 else 2)

    def build(held):
        return Looks(OrderedDict(BUILD["torch"](held).named_children()))

    check_threads(build, opened=True, sizes=SIZES)


def test_no_copy_has_the_hooks_by_which_another_thread_observes():
    torch = pytest.importorskip("torch")
    from flain_torch import open_network

    network = open_network(BUILD["torch"](FINAL))
    batch = torch.from_numpy(X)

    def copies():
        return [network.native for _ in range(100)] + [network.replace({}).native for _ in range(9)]

    def cuts():
        return [network.cut("fc1", batch) for _ in range(100)]

    copied, _ = at_once([copies, cuts])
    hooks = [(*m._forward_hooks, *m._forward_pre_hooks) for each in copied for m in each.modules()]
    assert not any(hooks)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_threads_do_not_disturb_each_other_in_keras_on(engine):
    assert passed(engine, SUITE) == 4


@pytest.mark.slow
def test_threads_that_share_a_keras_network_do_not_disturb_each_other():
    assert passed("torch", SUITE, part="(one and size and network) or moment") == 2
