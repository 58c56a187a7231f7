"""Ctrl-C ends the command with one line and exit code 130, whenever it is pressed."""

import os
import signal
import subprocess

import pytest
from terminals import BARE, COMMAND, SLOW, on_a_terminal

from flain_cli import entry


def interrupted(files, *words):
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=BARE,
    )
    assert process.stderr.readline() == b"stuck\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("options", [(), ("--json",), ("--debug",), ("--quiet",)])
def test_ctrl_c_ends_with_130_and_one_line(files, options):
    (files.folder / "slow.py").write_text(SLOW.replace("{pause}", "0"))
    before = set(files.there())
    code, out, err = interrupted(
        files, "purify", "slow:stuck", *files.searching[1:], "-o", "out.npz", *options
    )
    assert (code, out, err) == (130, "", "error: interrupted\n")
    assert {path for path in files.there() if "__pycache__" not in str(path)} == before


def test_ctrl_c_during_a_search_on_a_terminal(files):
    (files.folder / "slow.py").write_text(SLOW.replace("{pause}", "0.3"))
    code, shown = on_a_terminal(
        *("purify", "slow:final", *files.searching[1:], "-o", "out.npz", "--layer", "all"),
        env={"TERM": "xterm", "COLUMNS": "150"},
        until=b"flipped",
    )
    assert code == 130, shown
    assert "interrupted" in shown
    assert "Traceback" not in shown
    assert not (files.folder / "out.npz").exists()


# Errors


@pytest.mark.parametrize("code", [0, 4])
def test_ctrl_c_after_all_is_told_does_not_change_the_exit_code(monkeypatch, code):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("flain_cli.run.run", lambda: code)
    try:
        with pytest.raises(SystemExit) as ended:
            entry.main()
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == code


def test_ctrl_c_outside_of_the_commands_ends_with_one_line_too(monkeypatch, capsys):
    def stopped():
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("flain_cli.run.run", stopped)
    try:
        with pytest.raises(SystemExit) as ended:
            entry.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (ended.value.code, capsys.readouterr().err) == (130, "error: interrupted\n")


@pytest.mark.parametrize("pressed", [True, False])
def test_an_import_that_turns_ctrl_c_into_an_error_is_an_interrupt_all_the_same(
    monkeypatch, capsys, pressed
):
    def imports():
        try:
            if pressed:
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            pass
        raise ImportError("PyCapsule_Import could not import a module")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("flain_cli.run.run", imports)
    try:
        with pytest.raises(SystemExit if pressed else ImportError) as ended:
            entry.main()
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        assert (ended.value.code, capsys.readouterr().err) == (130, "error: interrupted\n")
