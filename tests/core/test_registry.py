"""Backends of others, found by their entry points."""

import importlib.metadata
import warnings
from importlib.metadata import EntryPoint

import backdoored
import pytest

import flain_core as flain
from flain_core.opening import known_backends

CLEAN = backdoored.samples(200, seed=1)
INITIAL, FINAL = backdoored.networks()
GOOD = flain.Backend("somebody", ("somebody.Model",), (".some",), (), "pip install somebody", ())


OPENS_NOTHING = flain.Backend("somebody", None, (), (), "pip install somebody", ())


def __getattr__(name):
    if name == "LEAVES":
        raise SystemExit(3)
    raise AttributeError(f"no attribute {name!r}")


@pytest.fixture
def offer(monkeypatch):
    """Let other packages offer backends, and count how often they are looked for."""
    scans = []

    def offered(*values):
        def entry_points(*, group):
            scans.append(group)
            return [EntryPoint(value.partition(":")[2], value, group) for value in values]

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
        known_backends.third_party.cache_clear()
        return scans

    yield offered
    known_backends.third_party.cache_clear()


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("no_such_package:backend", "No module named 'no_such_package'"),
        ("math:no_such_name", "no attribute 'no_such_name'"),
        ("math:pi", "it is a float, not a flain.Backend"),
        (f"{__name__}:LEAVES", "SystemExit: 3"),
        (f"{__name__}:OPENS_NOTHING", "expected tuples of names"),
    ],
)
def test_a_broken_backend_is_left_out_with_a_warning_that_names_it(offer, broken, why):
    offer(broken, f"{__name__}:GOOD")
    with pytest.warns(flain.FlainWarning, match=broken.partition(":")[2]) as warned:
        result = flain.purify(FINAL, initial=INITIAL, data=CLEAN)
    assert result.layers[0].flipped.any()
    (message,) = [str(each.message) for each in warned if "cannot be loaded" in str(each.message)]
    assert why in message
    assert list(known_backends.third_party()) == [GOOD]


def test_entry_points_are_looked_for_once_a_process(offer):
    scans = offer(f"{__name__}:GOOD")
    for _ in range(3):
        flain.purify(FINAL, initial=INITIAL, data=CLEAN)
    assert scans == ["flain.backends"]


def test_a_broken_backend_is_told_before_any_work(offer):
    class Watched:
        """A network of somebody's own that notes whether it is run."""

        native = property(lambda self: self)

        def __init__(self):
            self.ran = False

        def layers(self):
            return FINAL.layers()

        def predict(self, x):
            self.ran = True
            return FINAL.predict(x)

        cut = replace = predict

    offer("no_such_package:backend")
    network = Watched()
    with warnings.catch_warnings():
        warnings.simplefilter("error", flain.FlainWarning)
        with pytest.raises(flain.FlainWarning, match="no_such_package"):
            flain.purify(network, initial=INITIAL, data=CLEAN)
    assert not network.ran
