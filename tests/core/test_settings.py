"""Settings are validated when built."""

import numpy as np
import pytest

import flain_core as flain
from flain_core import Grid, Settings


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tolerance": -0.01}, "0 to 1"),
        ({"tolerance": 1.01}, "0 to 1"),
        ({"tolerance": float("nan")}, "0 to 1"),
        ({"tolerance": "1%"}, "number"),
        ({"tolerance": 10**400}, "number"),
        ({"crossing": np.array(["revert", "keep"])}, "crossing"),
        ({"factor": 0}, "greater than 0"),
        ({"factor": 4.1}, "at most 4"),
        ({"crossing": "rever"}, "Did you mean 'revert'"),
        ({"statistic": "median"}, "'mean'"),
        ({"thresholds": [0.1, 0.2]}, "flain.Grid"),
        ({"match_norm": "yes"}, "True or False"),
    ],
)
def test_bad_settings_are_refused(options, words):
    with pytest.raises(flain.SettingsError) as caught:
        Settings(**options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("start", "step", "stop"),
    [
        (0.1, 0, 1),
        (0.1, -0.1, 1),
        (-0.1, 0.1, 1),
        (1, 0.1, 0.5),
        (0, np.nan, 1),
        (0, 1e-9, 1),
        (0, 5e-324, 1),
        (0, 1, 1e308),
    ],
)
def test_bad_grids_are_refused(start, step, stop):
    with pytest.raises(flain.SettingsError):
        Grid(start=start, step=step, stop=stop)


def test_a_grid_reaches_its_stop_without_accumulating_rounding():
    thresholds = Grid(start=0.001, step=0.001, stop=1).thresholds()
    assert len(thresholds) == 1000
    assert thresholds[-1] == pytest.approx(1, abs=1e-15)
    accumulated = 0.0
    for _ in range(1000):
        accumulated += 0.001
    assert abs(thresholds[-1] - 1) < abs(accumulated - 1)


@pytest.mark.parametrize(
    ("name", "count", "tolerance"),
    [("mnist", 1000, 0), ("emnist", 1000, 0), ("fmnist", 9996, 0.024), ("cifar10", 9991, 0.001)],
)
def test_published_settings(name, count, tolerance):
    settings = Settings.published(name)
    assert len(settings.thresholds) == count
    assert (settings.tolerance, settings.crossing, settings.match_norm) == (tolerance, "keep", True)
    assert (settings.factor, settings.statistic) == (2.0, "mean")


def test_unknown_published_settings_are_refused():
    with pytest.raises(flain.SettingsError, match="Did you mean 'cifar10'"):
        Settings.published("cifar")
