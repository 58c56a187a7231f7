"""What backends share: layers found or refused, weights fitted, samples split."""

import numpy as np
import pytest

import flain_core as flain
from flain_core import backend_kit as kit
from flain_core.opening.registry import imported

ENTRIES = {"fc1": 1, "fc2": "it is quantized"}


def test_a_layer_is_found_or_refused_or_missing():
    assert kit.find_layer(ENTRIES, "fc1") == 1
    with pytest.raises(flain.LayerError, match="'fc2' cannot be purified: it is quantized"):
        kit.find_layer(ENTRIES, "fc2")
    with pytest.raises(flain.LayerError, match=r"called 'fc_1'.*'fc1'.*Did you mean 'fc1'"):
        kit.find_layer(ENTRIES, "fc_1")


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (np.ones((3, 2)), "shape"),
        (np.ones((2, 3), dtype=complex), "complex"),
        (np.full((2, 3), np.nan), "NaN"),
        (np.full((2, 3), 1e6), "float16"),
    ],
)
def test_a_weight_that_does_not_fit_is_refused(weight, words):
    with pytest.raises(flain.WeightsError, match=f"'fc1'.*{words}"):
        kit.fitting_weight("fc1", weight, (2, 3), np.float16)


def test_a_weight_is_rounded_once_into_memory_of_its_own():
    given = np.array([[1 / 3, 2.0]])
    fitted = kit.fitting_weight("fc1", given, (1, 2), np.float32)
    np.testing.assert_array_equal(fitted, given.astype(np.float32))
    assert fitted.flags.c_contiguous
    assert not np.shares_memory(kit.fitting_weight("fc1", fitted, (1, 2), np.float32), fitted)


def test_exchanged_channels_come_back():
    weight = np.arange(6 * 4 * 5).reshape(6, 4, 5)
    exchanged = kit.exchange_channels(weight, 3)
    assert exchanged.shape == (12, 2, 5)
    np.testing.assert_array_equal(kit.exchange_channels(exchanged, 3), weight)
    # The second input of the second group leads to the first output of that group.
    np.testing.assert_array_equal(exchanged[4, 1], weight[3, 0])


def test_samples_are_split_or_refused():
    x = np.arange(12).reshape(6, 2)
    assert kit.split_samples(x, 6) is x
    np.testing.assert_array_equal(kit.split_samples(x, 3)[1], x[2:4])
    with pytest.raises(flain.LayerError, match="every one of the 4 samples equally often"):
        kit.split_samples(x, 4)


@pytest.mark.parametrize("chosen", [2, -1, True, "logit", None])
def test_an_output_that_is_not_there_is_refused(chosen):
    with pytest.raises(flain.ModelError, match=r"'features', 'logits'.*scores=name"):
        kit.chosen_output(["features", "logits"], chosen, "open(model, scores=name)")


def test_an_output_is_chosen_by_name_or_position():
    for chosen in ("logits", 1):
        assert kit.chosen_output(["features", "logits"], chosen, "") == "logits"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("collections", "expected --model to be package.module:factory"),
        ("collections:", "expected --model to be package.module:factory"),
        ("collections:Nothing", "no function or class 'Nothing' for --model"),
        ("math:pi", "no function or class 'pi' for --model"),
        ("no_such_module:Net", "cannot import 'no_such_module' for --model.*install it"),
    ],
)
def test_a_factory_that_cannot_be_imported_is_one_clear_error(name, words):
    with pytest.raises(flain.ModelError, match=words):
        imported(name, what="--model", remedy="install it")
