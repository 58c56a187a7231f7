"""What the rivals are tried on, and fewer rounds for some of them."""

import pytest


@pytest.fixture(scope="module", params=[True, False], ids=["batch norm", "none"])
def pair(request):
    """A trained network and its initial one."""
    import rival_cases

    initial = rival_cases.network(request.param)
    return rival_cases.trained(initial, *rival_cases.images()), initial


@pytest.fixture
def brief(monkeypatch):
    """Fewer rounds, for tests that do not ask how well a rival does."""
    from rival_cases import module

    monkeypatch.setattr(module("anp"), "ITERATIONS", 20)
    monkeypatch.setattr(module("training"), "EPOCHS", 4)
    monkeypatch.setattr(module("nft"), "EPOCHS", 4)
    monkeypatch.setattr(module("i_bau"), "ROUNDS", 2)
