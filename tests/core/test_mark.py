"""The mark of a purified model: what it says, and what is made of a forged one."""

import json
from dataclasses import replace

import backdoored
import pytest

import flain_core as flain
from flain_core.provenance.fingerprint import of_model
from flain_core.provenance.mark import MOST_BYTES, mark_of, read_mark

CLEAN = backdoored.samples(300, seed=11)
INITIAL, FINAL = backdoored.networks()


@pytest.fixture(scope="module")
def result():
    return flain.purify(FINAL, initial=INITIAL, data=CLEAN)


def forged(result, **changes):
    return json.dumps(json.loads(mark_of(result)) | changes)


def test_a_mark_says_what_was_done(result):
    said = json.loads(mark_of(result))
    assert said["verdict"] == "flipped"
    assert said["settings"]["measure"] == "probability"
    assert said["promise"]["samples"] == len(CLEAN[1]) // 5
    assert said["unpurified_sha256"] == of_model(FINAL.layers()) == result.unpurified
    assert said["unpurified_sha256"] != of_model(result.model.layers())
    told = read_mark(mark_of(result))
    assert told.startswith(f"flain {flain.__version__} purified it (flipped: 'fc1'; ")
    assert result.unpurified[:16] in told


def test_the_same_purification_gives_the_same_mark(result):
    again = flain.purify(FINAL, initial=INITIAL, data=CLEAN)
    assert mark_of(again) == mark_of(result)


def test_a_mark_of_any_model_can_be_read_back(result):
    """Names may be long, many, and in any script."""
    layer = result.layers[0]
    many = tuple(replace(layer, name="\U0001f600" * 500 + str(i)) for i in range(500))
    text = mark_of(replace(result, layers=many))
    assert len(text) <= MOST_BYTES
    assert "and 26 more" in read_mark(text)  # of 32, six are shown
    assert json.loads(text)["layers_in_all"] == 500


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        ("NaN", "as flain writes it"),
        ("[" * 40_000, "no JSON"),
        ("1" * 40_000, "no JSON"),
        ("3", "no JSON object"),
        ("{}", "another format"),
        ("x" * (MOST_BYTES + 1), "more than"),
    ],
)
def test_what_is_no_mark_ends_in_one_error(text, why):
    with pytest.raises(flain.WeightsError, match="not as flain writes it") as raised:
        read_mark(text)
    assert why in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"flain": "1\x1b[31m"},
        {"flain": "1" * 100},
        {"flain": 3},
        {"verdict": "perfectly clean"},
        {"verdict": ["flipped"]},
        {"unpurified_sha256": "0" * 63},
        {"unpurified_sha256": None},
        {"layers": "fc1"},
        {"layers": [{"name": "fc1"}] * 1000},
        {"layers": ["fc1"]},
        {"layers": [{"name": 3}]},
        {"layers": [{"name": "x" * 101}]},
    ],
)
def test_a_forged_mark_ends_in_one_error(result, changes):
    with pytest.raises(flain.WeightsError, match="damaged or forged"):
        read_mark(forged(result, **changes))


def test_control_characters_of_a_forged_name_are_not_shown(result):
    shown = read_mark(forged(result, layers=[{"name": "\x1b[2Jfc1\n"}]))
    assert shown.isprintable()
