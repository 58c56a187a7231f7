"""Threads."""

import pytest


@pytest.fixture
def one_torch_thread():
    """For networks so small that threads only wait for each other; sums then never differ."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
