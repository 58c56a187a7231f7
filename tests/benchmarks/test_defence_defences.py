"""Defences are run on copies, and may refuse a model."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flwr")
pytest.importorskip("tomllib")

import torch
from defence import defences, networks

import flain


@pytest.fixture
def models():
    return networks.built("digits", 1).eval(), networks.built("digits", 0).eval()


def samples():
    rng = np.random.default_rng(0)
    return rng.random((20, 1, 8, 8), dtype=np.float32), rng.integers(0, 10, 20)


def test_a_defence_changes_neither_model(models, monkeypatch):
    def wreck(model, initial, x, y, *, seed):
        for module in (model, initial):
            torch.nn.init.zeros_(module.get_parameter("fc1.weight"))
        return model.train(), {"told": seed}

    monkeypatch.setitem(defences.DEFENCES, "wreck", wreck)
    made = defences.defended("wreck", *models, *samples(), seed=3)
    assert not made.module.get_parameter("fc1.weight").any()
    assert all(module.get_parameter("fc1.weight").any() for module in models)
    assert not made.module.training
    assert made.info == {"told": 3}


def test_a_refusal_is_told_and_a_bug_is_not_hidden(models, monkeypatch):
    def refuses(*given, seed):
        raise flain.LayerError("no layer")

    def breaks(*given, seed):
        raise RuntimeError("broken")

    monkeypatch.setitem(defences.DEFENCES, "refuses", refuses)
    monkeypatch.setitem(defences.DEFENCES, "breaks", breaks)
    made = defences.defended("refuses", *models, *samples(), seed=0)
    assert (made.module, made.info) == (None, {"refused": "LayerError: no layer"})
    with pytest.raises(RuntimeError, match="broken"):
        defences.defended("breaks", *models, *samples(), seed=0)


@pytest.mark.parametrize("name", ["flain", "flain-published-default"])
def test_flain_tells_what_it_did(name, models):
    made = defences.defended(name, *models, *samples(), seed=0)
    assert set(made.info["flipped"]) <= {"fc1", "fc2", "fc3"}
    assert made.info["version"] == flain.__version__
    assert made.seconds > 0


def test_none_is_the_model_as_it_was(models):
    made = defences.defended("none", *models, *samples(), seed=0)
    state = models[0].state_dict()
    assert all((value == state[name]).all() for name, value in made.module.state_dict().items())
