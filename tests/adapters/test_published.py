"""The published settings, on the embedded model, against the published procedure done literally."""

import numpy as np
import pytest
from plain import plain_reevaluation

import flain_core as flain
import flain_numpy
from flain_cli import example

SAMPLES = slice(0, 800, 4)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize(
    "name",
    ["mnist", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cifar10", "fmnist"))],
)
def test_published_settings_match_plain_reevaluation(name):
    initial, final = (flain_numpy.load(path) for path in example.files().paths[:2])
    with np.load(example.files().paths[2]) as auxiliary:
        x, y = auxiliary["x"][SAMPLES], auxiliary["y"][SAMPLES]
    settings = flain.Settings.published(name)
    weight = final.layers()["fc1"].weight
    expected = plain_reevaluation(
        initial.layers()["fc1"].weight,
        weight,
        final.cut("fc1", x).inputs.mean(axis=0, dtype=np.float64),
        lambda candidate: final.replace({"fc1": candidate}).predict(x),
        y,
        thresholds=settings.thresholds.thresholds(),
        tolerance=settings.tolerance,
    )
    result = flain.purify(final, initial=initial, data=(x, y), settings=settings)
    assert result.layers[0].threshold == expected.threshold
    np.testing.assert_array_equal(result.layers[0].flipped, expected.flipped)
    np.testing.assert_allclose(
        result.model.layers()["fc1"].weight,
        flain.match_norm(expected.weight, weight),
        rtol=1e-6,
        atol=1e-7,
    )
    assert np.linalg.norm(result.model.layers()["fc1"].weight) == pytest.approx(
        np.linalg.norm(weight), rel=1e-6
    )
