"""A model that another thread trains is purified as it was at one moment, or refused."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from itertools import islice
from threading import Event, Thread

import numpy as np
import pytest
from alike_networks import FINAL, INITIAL, X, Y, purified, torch_module
from many_threads import check_same

import flain_core as flain
from flain_core.backend_kit import CHANGED_MEANWHILE

torch = pytest.importorskip("torch")
REFUSED = re.escape(CHANGED_MEANWHILE)


class TrainsWhileCopied:
    """Part of a model; while it is copied, another thread takes a step of training."""

    def __init__(self, step):
        self.step = step

    def __deepcopy__(self, memo):
        thread = Thread(target=self.step)
        thread.start()
        thread.join()
        return TrainsWhileCopied(lambda: None)


def test_a_module_that_changes_while_it_is_copied_is_refused():
    module = torch_module(FINAL)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)

    def step():
        torch.nn.functional.cross_entropy(
            module(torch.from_numpy(X)), torch.from_numpy(Y)
        ).backward()
        optimizer.step()

    module.data_loader = TrainsWhileCopied(step)
    with pytest.raises(flain.ModelError, match=REFUSED):
        purified(module, torch_module(INITIAL))


def test_one_with_buffers_too():
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(12), torch.nn.Linear(12, 3))
    module.data_loader = TrainsWhileCopied(lambda: module[0](torch.from_numpy(X)))
    with pytest.raises(flain.ModelError, match=f"'0.running_mean' {REFUSED}"):
        purified(module, torch.nn.Sequential(torch.nn.BatchNorm1d(12), torch.nn.Linear(12, 3)))


def test_nan_is_no_change():
    module = torch_module(FINAL)
    module.register_buffer("unused", torch.full((3,), torch.nan))
    module.register_buffer("empty", torch.zeros((0, 2), dtype=torch.int8))
    assert purified(module, torch_module(INITIAL)).layers[0].share


def test_an_estimator_that_changes_while_it_is_copied_is_refused():
    neural = pytest.importorskip("sklearn.neural_network")
    model = neural.MLPClassifier((9,)).partial_fit(X, Y, classes=np.arange(3))
    model.logger = TrainsWhileCopied(lambda: model.partial_fit(X, Y))
    with pytest.raises(flain.ModelError, match=f"'coefs_0' {REFUSED}"):
        purified(model, neural.MLPClassifier((9,)).partial_fit(X, Y, classes=np.arange(3)))


def purified_or_refused(module, initial):
    try:
        return purified(module, initial)
    except flain.ModelError as error:
        if CHANGED_MEANWHILE not in str(error):
            raise
        return None


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_what_comes_of_a_module_in_training_is_what_comes_of_it_as_it_stood_then():
    module, initial = torch_module(FINAL), torch_module(INITIAL)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    states, done = [], Event()

    def train():
        while not done.is_set():
            states.append(OrderedDict((k, v.clone()) for k, v in module.state_dict().items()))
            scores = module(torch.from_numpy(X))
            torch.nn.functional.cross_entropy(scores, torch.from_numpy(Y)).backward()
            time.sleep(0.01)  # the step takes little of the time, as with larger models
            optimizer.step()

    thread = Thread(target=train)
    thread.start()
    try:
        tried = (purified_or_refused(module, initial) for _ in range(200))
        results = list(islice((each for each in tried if each is not None), 8))
    finally:
        done.set()
        thread.join()
    assert len(states) > 3
    compared = 0
    for result in results:
        last = result.model.fc2.weight
        then = [state for state in states if torch.equal(state["fc2.weight"], last)]
        # A step that was under way has moved some tensors and not yet others.
        for state in then[:1]:
            snapshot = torch_module(FINAL)
            snapshot.load_state_dict(state)
            again = flain.purify(snapshot, initial=initial, data=(X, Y))
            if again.unpurified == result.unpurified:
                check_same(result, again)
                compared += 1
    assert compared
