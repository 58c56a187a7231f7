"""Threads that purify one Keras model; test_many_threads.py runs this for every engine."""

from __future__ import annotations

import pytest
from alike_networks import keras_model
from many_threads import SIZES, check_threads

# What Keras and its engines warn of is no affair of ours.
pytestmark = [pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize(
    ("sizes", "opened"),
    [(SIZES, False), (SIZES, True), ((16,) * 8, True)],
    ids=["other sizes, model", "other sizes, network", "one size, network"],
)
def test_threads_do_not_disturb_each_other(sizes, opened):
    check_threads(keras_model, opened=opened, sizes=sizes)
