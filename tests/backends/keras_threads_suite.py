"""Threads that purify one Keras model; test_many_threads.py runs this for every engine."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from threading import Event, Thread

import numpy as np
import pytest
from alike_networks import FINAL, keras_model
from many_threads import check_threads

from flain_core.errors import ModelError
from flain_keras import open_network

# What Keras and its engines warn of is no affair of ours.
pytestmark = [pytest.mark.filterwarnings("ignore")]

# Few shapes of batches, as the engines trace the model for each.
SIZES = (64, 64, 80, 80, 100, 100, 200, 200)


@pytest.mark.parametrize(
    ("sizes", "opened"),
    [((100,) * 8, False), ((100,) * 8, True), (SIZES, True)],
    ids=["one size, model", "one size, network", "other sizes, network"],
)
def test_threads_do_not_disturb_each_other(sizes, opened):
    check_threads(keras_model, opened=opened, sizes=sizes)


def test_a_model_that_another_thread_changes_is_copied_as_it_was_at_one_moment_or_refused():
    model = keras_model(FINAL)
    done = Event()

    def change(number):
        for variable in model.weights:
            variable.assign(np.full(variable.shape, number, np.float32))

    def change_on_and_on():
        for number in count(2):
            if done.is_set():
                return
            change(number)

    change(1)
    thread = Thread(target=change_on_and_on)
    thread.start()
    opened = []
    try:
        for _ in range(30):
            with suppress(ModelError):
                opened.append(open_network(model))
    finally:
        done.set()
        thread.join()
    for network in opened:
        numbers = [float(each.flat[0]) for each in network.native.get_weights()]
        # What comes first has had as many changes as what comes later, or one more.
        assert numbers[0] - 1 <= numbers[-1] <= numbers[0]
        assert numbers == sorted(numbers, reverse=True)
    assert open_network(model).layers()["fc1"].weight.flat[0] > 0
