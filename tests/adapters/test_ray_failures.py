"""Actors on a Ray cluster that die, and errors that arrive as what they are."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import ray_parts
from in_process import as_elsewhere

import flain_core as flain
from flain_core import Settings

ray = pytest.importorskip("ray")
pytest.importorskip("flain_ray")

from ray_cases import (  # noqa: E402
    CLEAN,
    FINAL,
    INITIAL,
    assert_same,
    assert_same_weights,
    cluster,  # noqa: F401
    here,
    shards,
)

pytestmark = pytest.mark.slow


# Actors that die.


def test_an_actor_that_dies_is_started_anew_and_the_answer_stays_right(tmp_path):
    dies = ray_parts.Dies(tmp_path, at_call=5, times=2)
    settings = Settings(tolerance=0.05)
    with shards(score=dies) as held:
        result = flain.purify(FINAL, initial=INITIAL, data=held, settings=settings)
    assert len(list(tmp_path.iterdir())) == 2
    never = ray_parts.Dies(tmp_path, at_call=-1, times=0)
    size = held.batch_size
    expected = flain.purify(
        FINAL,
        initial=INITIAL,
        data=CLEAN,
        settings=as_elsewhere(settings),
        score=never,
        batch_size=size,
    )
    assert_same(result, expected)
    assert_same_weights(result.model, expected.model)


def test_an_actor_that_dies_again_and_again_is_an_error(tmp_path):
    dies = ray_parts.Dies(tmp_path, at_call=5, times=1000)
    with (
        shards(score=dies, options={"max_restarts": 1}) as held,
        pytest.raises(flain.DataError, match=r"actor \d of 2 is lost, and the samples it holds"),
    ):
        flain.purify(FINAL, initial=INITIAL, data=held)
    assert 2 <= len(list(tmp_path.iterdir())) <= 4


def killed(held, *, at_step, no_restart):
    """Kills the first actor when the search has come so far."""
    steps = []

    def on_progress(progress):
        steps.append(progress)
        if len(steps) == at_step:
            actor, _ = held._pool.actors[0]
            ray.kill(actor, no_restart=no_restart)

    return on_progress


def test_an_actor_that_is_killed_is_started_anew():
    with shards(lookahead=1) as held:
        kill = killed(held, at_step=3, no_restart=False)
        result = flain.purify(FINAL, initial=INITIAL, data=held, progress=kill)
    assert_same(
        result,
        here(),
    )


def test_an_actor_that_is_killed_for_good_is_an_error():
    with (
        shards(lookahead=1) as held,
        pytest.raises(flain.DataError, match="actor 1 of 2 is lost"),
    ):
        kill = killed(held, at_step=3, no_restart=True)
        flain.purify(FINAL, initial=INITIAL, data=held, progress=kill)


def wait_until_gone(pids):
    for _ in range(100):
        alive = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        if not alive:
            return
        time.sleep(0.1)
    raise AssertionError(f"{alive} still run")


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_ctrl_c_stops_the_actors(tmp_path):
    def interrupt():
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    with (
        pytest.raises(KeyboardInterrupt),
        shards(score=ray_parts.Notes(tmp_path, seconds=5)) as held,
    ):
        threading.Thread(target=interrupt, daemon=True).start()
        flain.purify(FINAL, initial=INITIAL, data=held)
    wait_until_gone([int(path.name) for path in tmp_path.iterdir()])


def test_an_answer_that_takes_too_long_is_an_error(tmp_path):
    slow = ray_parts.Notes(tmp_path, seconds=60)
    with (
        shards(score=slow, timeout=8) as held,
        pytest.raises(flain.DataError, match=r"did not answer within 8\.0 s"),
    ):
        flain.purify(FINAL, initial=INITIAL, data=held)


# Errors arrive as what they are.


def test_a_label_beyond_the_classes_is_the_same_error_as_here():
    x, y = CLEAN
    wrong = x, np.where(np.arange(len(y)) == 200, 3, y)
    with pytest.raises(flain.DataError) as here:
        flain.purify(FINAL, initial=INITIAL, data=wrong)
    with shards(wrong) as held, pytest.raises(flain.DataError) as there:
        flain.purify(FINAL, initial=INITIAL, data=held)
    assert str(there.value) == str(here.value)


def test_what_a_score_function_raises_is_raised():
    with shards(score=ray_parts.fails) as held, pytest.raises(ZeroDivisionError) as raised:
        flain.purify(FINAL, initial=INITIAL, data=held)
    assert type(raised.value) is ZeroDivisionError


def test_what_cannot_be_sent_back_is_told():
    with (
        shards(score=ray_parts.fails_oddly) as held,
        pytest.raises(flain.DataError, match=r"Ray says: .*OddError"),
    ):
        flain.purify(FINAL, initial=INITIAL, data=held)


def test_a_model_that_cannot_be_sent_is_refused():
    with shards() as held, pytest.raises(flain.ModelError, match="cannot be pickled"):
        flain.purify(ray_parts.Locked(FINAL), initial=INITIAL, data=held)


def test_a_model_that_arrives_as_another_one_is_refused():
    with (
        shards() as held,
        pytest.raises(flain.ModelError, match="differently on an actor than here"),
    ):
        flain.purify(ray_parts.Changed(FINAL), initial=INITIAL, data=held)


def test_code_that_the_actors_lack_is_named(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def score(scores, y):\n    return scores[:, 0]\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    with shards(score=only_here.score) as held:
        (tmp_path / "only_here.py").unlink()
        with pytest.raises(flain.ModelError, match=r"No module named 'only_here'.*runtime_env"):
            flain.purify(FINAL, initial=INITIAL, data=held)


def test_more_actors_than_the_cluster_has_room_for_are_refused():
    with (
        pytest.raises(flain.SettingsError, match=r"3 actors need 3 CPUs, .* has 2"),
        shards(actors=3),
    ):
        pass


def test_shards_enter_one_with_statement_at_a_time():
    with shards() as once:
        with pytest.raises(flain.SettingsError, match="in a with statement already"), once:
            pass
        assert flain.purify(FINAL, initial=INITIAL, data=once).layers[0].flipped.any()
    with once:
        assert flain.purify(FINAL, initial=INITIAL, data=once).layers[0].flipped.any()
