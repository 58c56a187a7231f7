"""Folders for files that are being written go away, whenever Ctrl-C is pressed."""

import os
import signal
import tempfile
import threading

import pytest

from flain_core.storage import scratch


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pressing_after(function):
    def pressed(*args, **options):
        result = function(*args, **options)
        signal.raise_signal(signal.SIGINT)
        return result

    return pressed


def pressing_before(function):
    def pressed(*args, **options):
        signal.raise_signal(signal.SIGINT)
        return function(*args, **options)

    return pressed


def test_while_a_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "mkdtemp", pressing_after(tempfile.mkdtemp))
    entered = []
    with pytest.raises(KeyboardInterrupt), scratch.scratch_folder(tmp_path) as folder:
        entered.append(folder)
    assert not entered
    assert not list(tmp_path.iterdir())


def test_while_it_is_used(tmp_path):
    with pytest.raises(KeyboardInterrupt), scratch.scratch_folder(tmp_path) as folder:
        (folder / "file").write_text("half")
        signal.raise_signal(signal.SIGINT)
    assert not list(tmp_path.iterdir())


def test_while_it_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "rmtree", pressing_before(scratch.rmtree))
    with pytest.raises(KeyboardInterrupt), scratch.scratch_folder(tmp_path) as folder:
        (folder / "file").write_text("whole")
    assert not list(tmp_path.iterdir())


def test_the_handler_is_put_back(tmp_path):
    pressed = []
    signal.signal(signal.SIGINT, lambda *_: pressed.append("own"))
    with scratch.scratch_folder(tmp_path):
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    assert pressed == ["own"] * 2


def test_another_thread_has_folders_too(tmp_path):
    seen = []

    def work():
        with scratch.scratch_folder(tmp_path) as folder:
            seen.append(os.listdir(folder))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [[]]
    assert not list(tmp_path.iterdir())
