"""A verdict on what was flipped."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from flain_core.errors import FlainWarning
from flain_core.outcome import notes as notes_module
from flain_core.outcome.layer import LayerOutcome, Step
from flain_core.outcome.measurement import ClassOutcome, Measurement
from flain_core.outcome.verdict import reason_for, verdict_on
from flain_core.purification import Purification
from flain_core.settings import Settings


def outcome(share, name="fc1", why="proved", class_share=None):
    return LayerOutcome(
        name=name,
        flip="directions",
        threshold=1.0 if share else None,
        flipped=np.zeros(3, bool),
        share=share,
        class_share=class_share,
        most_flipped_class=None if class_share is None else 7,
        stop_reason="tolerance",
        steps=(),
        activation=np.ones(3),
        grouped=1,
        method="incremental",
        why_method=why,
        seconds=0.0,
    )


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ([0.0], "not flipped"),
        ([0.0, 0.0], "not flipped"),
        ([1e-9], "hardly flipped"),
        ([0.0999], "hardly flipped"),
        ([0.1], "flipped"),
        ([1.0], "flipped"),
        ([0.0, 0.02, 0.5, 0.0], "flipped"),
        ([0.04, 0.04], "hardly flipped"),
        ([(0.0999, 0.0999)], "hardly flipped"),
        ([(0.04, 0.1)], "partly flipped"),
        ([(0.04, 0.02), 0.0, (0.03, 0.3)], "partly flipped"),
        ([(0.1, 0.3)], "flipped"),
    ],
)
def test_the_layer_that_was_flipped_most_decides(shares, verdict):
    both = [share if isinstance(share, tuple) else (share, None) for share in shares]
    outcomes = [
        outcome(share, f"fc{index}", class_share=of_a_class)
        for index, (share, of_a_class) in enumerate(both)
    ]
    assert verdict_on(outcomes) == verdict
    assert reason_for(outcomes).startswith(f"{verdict}: ")
    result = Purification(
        model=SimpleNamespace(),
        before=Measurement(1.0),
        after=Measurement(1.0),
        layers=tuple(outcomes),
        settings=Settings(),
        seconds=0.0,
    )
    assert result.verdict == result.to_dict()["verdict"] == verdict
    assert f"verdict={verdict!r}" in repr(result)


def test_the_reason_names_the_layer_and_its_share():
    told = reason_for([outcome(0.01, "fc1"), outcome(0.123, "fc2")])
    assert "of 'fc2', 12.3% of the update was flipped" in told
    told = reason_for([outcome(0.031, "fc1"), outcome(0.01, "fc2")])
    assert "hardly flipped: of 'fc1', 3.1% of the update was flipped" in told
    assert "still there" in told


def test_the_reason_tells_what_was_flipped_for_one_class_from_the_whole():
    told = reason_for([outcome(0.04, class_share=0.31)])
    assert "4.0% of the update (31.0% of what it says for class 7) was flipped" in told
    assert "A backdoor that leads to that class may be left in part. One that leads to an" in told
    told = reason_for([outcome(0.04, class_share=0.35)])
    assert (
        "A backdoor that leads to that class is usually mostly gone. One that leads to another"
        in told
    )


def test_of_two_classes_none_is_named():
    partly, fully = (
        replace(outcome(s, class_share=0.31), most_flipped_class=None) for s in (0.04, 0.4)
    )
    told = reason_for([partly])
    assert "4.0% of the update (31.0% of what tells the classes apart) was flipped. A back" in told
    assert "A backdoor in this layer may be left in part. Only a probe" in told
    assert "A backdoor elsewhere stays; only a probe" in reason_for([fully])
    told = reason_for([outcome(0.4, class_share=0.6)])
    assert "A backdoor elsewhere stays, and one that leads to another class may; only" in told


def test_a_partly_flipped_model_is_told_of_the_layer_that_makes_it_one():
    told = reason_for(
        [
            outcome(0.05, "conv"),
            outcome(0.04, "fc1", class_share=0.02),
            outcome(0.03, "fc2", class_share=0.3),
        ]
    )
    assert "partly flipped: of 'fc2', 3.0% of the update (30.0% of what" in told


def test_layers_that_move_no_scores_are_the_reason():
    idle = "flipping the layer's weights does not move the scores"
    assert "does not move the scores" in reason_for([outcome(0.0, why=idle)])
    assert "does not move" not in reason_for([outcome(0.0, why=idle), outcome(0.0)])


def test_what_does_not_move_the_scores_is_no_removal():
    idle = "flipping the layer's weights does not move the scores"
    assert verdict_on([outcome(1.0, why=idle)]) == "hardly flipped"
    assert verdict_on([outcome(0.05, class_share=0.9, why=idle)]) == "hardly flipped"
    assert "too small to matter" in reason_for([outcome(1.0, why=idle)])
    assert "too small to matter" in reason_for([outcome(0.0), outcome(1.0, "fc2", why=idle)])
    assert verdict_on([outcome(1.0, why=idle), outcome(0.2)]) == "flipped"


def test_a_promise_that_allows_nothing_is_the_reason():
    kept = replace(outcome(0.0), stop_reason="promise")
    assert "promise" in reason_for([kept])
    assert "promise" not in reason_for([outcome(0.0)])


@pytest.mark.parametrize(("loss", "tolerance"), [(0.001, "0.04"), (None, "0.01")])
def test_the_larger_tolerance_that_is_advised_is_one_of_what_steered(loss, tolerance):
    step = Step(0.1, neurons_flipped=1, clean=1.0, probes={}, loss=loss)
    told = reason_for([replace(outcome(0.02), steps=(step,))])
    assert f"such as tolerance={tolerance} in" in told


@pytest.mark.parametrize(
    ("flip", "stop_reason", "loss", "verdict"),
    [
        ("directions", "exhausted", 0.002, "hardly flipped"),
        ("directions", "exhausted", None, "flipped"),  # not known
        ("directions", "exhausted", -0.02, "flipped"),  # samples gained, so it matters
        ("directions", "exhausted", 0.05, "flipped"),  # as far as a large tolerance allows
        ("directions", "tolerance", 0.002, "flipped"),
        ("neurons", "exhausted", 0.002, "flipped"),  # thresholds may end anywhere
    ],
)
def test_a_layer_that_clean_samples_hardly_miss_is_not_where_a_backdoor_was(
    flip, stop_reason, loss, verdict
):
    step = Step(8.0, neurons_flipped=3, clean=1.0, probes={}, loss=loss)
    gate = replace(outcome(0.7), flip=flip, stop_reason=stop_reason, steps=(step,))
    assert verdict_on([gate]) == verdict
    assert ("Choose another layer" in reason_for([gate])) == (verdict == "hardly flipped")
    assert verdict_on([gate, outcome(0.3, "fc2")]) == "flipped"
    if verdict == "hardly flipped":
        assert "of 'fc2', 30.0%" in reason_for([gate, outcome(0.3, "fc2")])
        assert reason_for([gate, outcome(0.02, "fc2")]).startswith("hardly flipped: of 'fc2', 2.0%")


@pytest.mark.parametrize(
    ("label", "samples", "told", "kind"),
    [
        (7, {3: 30, 7: 9}, "speaks for class 7 in 'fc1' .* saw only 9 of class 7", str),
        (7, {3: 9, 7: 10}, None, None),
        # Of two classes, what speaks for one speaks against the other.
        (None, {0: 9, 1: 91}, "tells two classes apart .* only 9 of class 0", FlainWarning),
        (None, {0: 10, 1: 90}, None, None),
        (None, {0: 9, 1: 50, 2: 41}, None, None),
    ],
)
def test_a_class_of_which_few_samples_searched_is_told_of(label, samples, told, kind):
    flipped = replace(outcome(0.5, class_share=0.5), most_flipped_class=label)
    by_class = [ClassOutcome(each, count, count, count) for each, count in samples.items()]
    notes = list(notes_module._on_few_of_a_class([flipped], by_class))
    if told is None:
        assert notes == []
    else:
        (note,) = notes
        assert type(note) is kind
        assert re.search(told, str(note))
