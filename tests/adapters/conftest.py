"""Files that are no tests and not to be imported where nobody asked for them; threads."""

import pytest

collect_ignore = [
    "flower_federation.py",
    "flower_keras.py",
    "flower_trusted_simulation.py",
    "no_network",
]


@pytest.fixture
def one_torch_thread():
    """For networks so small that threads only wait for each other; sums then never differ."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
