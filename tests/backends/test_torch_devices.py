"""PyTorch tensors stay on their device, and its switches are put back as they were."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch_cases import CASES
from torch_threads import one_thread  # noqa: F401

from flain_core.backend_kit import switches_of
from flain_torch import _device, open_network


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
