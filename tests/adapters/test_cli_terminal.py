"""What reaches the terminal, of whatever kind it is."""

import json
import re
import subprocess

import numpy as np
import pytest
from terminals import BARE, COMMAND, SLOW, on_a_terminal, run

import flain_numpy
from flain_cli import progress
from flain_cli.terminal import one_line, plain
from flain_core import Progress, Step

ESCAPE = "\x1b[31m\x1b]0;title\x07"


# Names that others chose


def test_plain_text_is_left_alone():
    assert plain("größe × 3 – 层 …") == "größe × 3 – 层 …"
    assert plain("a\nb\tc") == "a\nb\tc"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("a\x9b31mb", r"a\x9b31mb"),
        ("a\rb", r"a\rb"),
        ("a\u202eb", r"a\u202eb"),
        ("a\u2028b", r"a\u2028b"),
        ("a\x00\x7f", r"a\x00\x7f"),
        ("a\udcff", r"a\udcff"),
    ],
)
def test_what_could_steer_a_terminal_is_written_as_an_escape(text, shown):
    assert plain(text) == shown


def test_an_error_is_one_line():
    assert one_line("Error(s):\n\tMissing key\r\n  x\x1b[0m") == r"Error(s): Missing key x\x1b[0m"


@pytest.fixture
def hostile(files):
    """The same models with escapes in the name of a layer."""
    for name in ("initial", "final"):
        network = flain_numpy.load(getattr(files, name))
        operations = [
            flain_numpy.Dense(f"fc1{ESCAPE}\u202e", each.weight, each.bias)
            if getattr(each, "name", "") == "fc1"
            else each
            for each in network.operations
        ]
        getattr(files, name).unlink()
        flain_numpy.save(flain_numpy.Network(operations), getattr(files, name))
    return files


def test_control_characters_in_names_never_reach_the_terminal(hostile, flain):
    files = hostile
    odd = files.folder / f"odd{ESCAPE}\n.npz"
    odd.write_bytes(files.auxiliary.read_bytes())
    probe = ("--trigger", f"A{ESCAPE}[bold]={files.triggered}")
    words = (files.final, "--initial", files.initial, "--data", odd)
    for typed in (
        ("layers", files.final),
        ("audit", *words, *probe, "--verbose"),
        ("purify", *words, "-o", f"out{ESCAPE}.npz", "--report", f"r{ESCAPE}.json"),
        ("purify", *words, "-o", "dry.npz", "--dry-run"),
        ("compare", files.initial, files.final, "--data", odd),
        ("audit", *words, "--require", f"{ESCAPE}<=0.5"),
        ("audit", *words, "--layer", f"fc9{ESCAPE}"),
        ("audit", f"no{ESCAPE}.npz", *words[1:]),
        (f"no{ESCAPE}",),
        ("audit", *words, f"--no{ESCAPE}"),
        ("audit", *words, "--measure", ESCAPE),
        ("audit", f"no{ESCAPE}.npz", *words[1:], "--debug"),
    ):
        ran = flain(*typed)
        assert ran.code in (0, 1, 2), ran
        for shown in (ran.out, ran.err):
            assert not set(shown) & {"\x1b", "\x07", "\u202e", "\r"}, (typed, shown)
    assert r"fc1\x1b[31m" in flain("layers", files.final).out
    # Markup in a name is text.
    assert "[bold]" in flain("audit", *words, *probe).out


def test_json_escapes_them(hostile, flain):
    ran = flain("layers", hostile.final, "--json")
    assert "\x1b" not in ran.out
    assert f"fc1{ESCAPE}\u202e" in json.loads(ran.out)["layers"]


# Terminals of every kind


@pytest.mark.slow
@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii", "TERM": "dumb"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "cp1252", "NO_COLOR": "1"},
        {"TERM": "dumb", "PYTHONUTF8": "1", "COLUMNS": "20"},
    ],
)
def test_what_a_terminal_cannot_show_is_written_in_ascii(files, env):
    named = "größe层\udcff.npz"
    (files.folder / named).write_bytes(files.final.read_bytes())
    words = (*files.searching[1:], "--trigger", f"攻击={files.triggered}", "-v")
    for typed, code in (
        (("purify", "--help"), 0),
        (("layers", named), 0),
        (("audit", named, *words), 0),
        (("compare", named, "initial.npz"), 0),
        (("layers", "没有.npz"), 1),
        (("no没有",), 2),
    ):
        ran = run(*typed, env=env)
        assert ran.returncode == code, ran.stderr
        assert b"Traceback" not in ran.stderr
        assert b"UnicodeEncodeError" not in ran.stderr
        if "ascii" in env.get("PYTHONIOENCODING", ""):
            (ran.stdout + ran.stderr).decode("ascii")


def test_signs_have_a_reading_in_ascii(files):
    ran = run("layers", "final.npz", env={"PYTHONIOENCODING": "ascii"})
    assert b"10 x 12" in ran.stdout
    assert b"weight (out, in, ...)" in ran.stdout


def test_a_pipe_gets_no_colours_and_no_bar(files):
    ran = run("audit", *files.searching, env={"TERM": "xterm-256color"})
    assert ran.returncode == 0
    assert b"\x1b" not in ran.stdout
    assert ran.stderr == b""


def test_a_reader_that_goes_away_is_no_traceback(files):
    words = map(str, ("purify", *files.searching, "-o", "out.npz", "--json"))
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=BARE
    )
    process.stdout.close()
    with process.stderr as stream:
        assert stream.read() == b""
    assert process.wait(60) == 1
    assert (files.folder / "out.npz").exists()


def test_a_terminal_shows_a_bar_with_the_time_that_is_left(files):
    (files.folder / "slow.py").write_text(SLOW.replace("{pause}", "0.05"))
    words = ("--layer", "all", "--tolerance", "0.9")
    code, shown = on_a_terminal(
        "audit", "slow:final", *files.searching[1:], *words, env={"TERM": "xterm", "COLUMNS": "150"}
    )
    assert code in (0, 3), shown
    assert "fc1" in shown
    assert re.search(r"at most 0:00:\d\d left", shown)


def test_a_dumb_terminal_gets_no_bar(files):
    code, shown = on_a_terminal("audit", *files.searching, env={"TERM": "dumb"})
    assert (code, shown) == (0, "")


def test_a_log_gets_a_line_now_and_then(files, flain, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    ran = flain("audit", *files.searching, "--trigger", f"ASR={files.triggered}")
    lines = ran.err.splitlines()
    pattern = (
        r"fc1: 1 of at most \d+ candidates, \d+ flipped, clean 100.0%, ASR .*%, at most .* left"
    )
    assert re.fullmatch(pattern, lines[0])
    assert len(lines) > 3
    assert flain("audit", *files.searching, "--quiet").err == ""


def test_the_time_that_is_left_follows_from_what_was_tried(capsys, monkeypatch):
    clock = iter([0.0, 0.0, 31.0, 40.0, 62.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    step = Step(threshold=1.0, neurons_flipped=3, clean=0.5)
    with progress.searching() as follow:
        for done in (1, 10, 12, 20):
            follow(Progress("fc1", step, done, 100))
    first, second = capsys.readouterr().err.splitlines()
    # Ten in 31 seconds, so ninety in 279; twenty in 62, so eighty in 248.
    assert first.endswith("at most 0:04:39 left")
    assert second.endswith("at most 0:04:08 left")


def test_debug_shows_the_traceback_of_an_error(files, flain):
    words = ("audit", "nowhere.npz", *files.searching[1:])
    assert "Traceback" not in flain(*words).err
    ran = flain(*words, "--debug")
    assert ran.code == 1
    assert "Traceback" in ran.err
    assert ran.err.endswith("error: cannot open nowhere.npz: there is no such file\n")
    # It is no setting that stays.
    assert "Traceback" not in flain(*words).err


def test_an_error_that_nobody_expected_is_one_line_too(files, flain, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("flain_core.purify", broken)
    ran = flain("audit", *files.searching)
    assert ran.code == 1
    assert ran.err.startswith("error: unexpected ZeroDivisionError: division by zero; --debug")
    assert ran.err.count("\n") == 1
    assert "Traceback" in flain("audit", *files.searching, "--debug").err


def test_a_warning_of_others_is_one_line(files, flain):
    (files.folder / "warns.py").write_text(
        "import warnings, flain_numpy\n"
        "def final():\n"
        "    warnings.warn('old\\n\\x1b[31mthing')\n"
        "    return flain_numpy.load('final.npz')\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.filters", [])
        ran = flain("audit", "warns:final", *files.searching[1:])
        quiet = flain("audit", "warns:final", *files.searching[1:], "--quiet")
    assert ran.code == 0, ran.err
    assert re.search(r"warning: .*UserWarning: old \\x1b\[31mthing\n", ran.err)
    assert quiet == (0, "", "")


# Completion


@pytest.mark.parametrize(
    ("typed", "offered"), [("flain pu", "purify"), ("flain purify --re", "--require-promise")]
)
def test_the_shell_can_complete_what_is_typed(typed, offered):
    env = {
        "_FLAIN_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    ran = run(env=env)
    assert ran.returncode == 0, ran.stderr
    assert offered in ran.stdout.decode().split()


def test_completion_can_be_shown_and_installed():
    shown = run("--help").stdout.decode()
    assert "--install-completion" in shown
    assert "--show-completion" in shown


def test_an_array_with_objects_is_never_unpickled(files, flain):
    np.savez(files.folder / "objects.npz", x=np.array([{}], dtype=object), y=np.zeros(1))
    words = (files.final, "--initial", files.initial, "--data", "objects.npz")
    ran = flain("audit", *words)
    assert ran.code == 1
    assert "plain arrays x and y" in ran.err
