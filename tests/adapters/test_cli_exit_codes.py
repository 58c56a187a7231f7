"""What the command returns, and which files are there when it did."""

import json
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

import flain_core
from flain_cli.exit_codes import MEANINGS, ExitCode
from flain_cli.gates import CheckedGate, Gate, checked
from flain_core import Purification
from flain_core.opening.registry import open_network


def test_every_code_has_a_meaning():
    assert set(MEANINGS) == set(ExitCode)
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 4, 130]


def test_0_purified_and_every_gate_met(files, flain):
    ran = flain(
        *("purify", *files.searching, "-o", "out.npz", "--trigger", f"ASR={files.triggered}"),
        *("--require", "ASR<=0.02", "--require", "ACC >= 0.9", "--require-promise", "0.05"),
    )
    assert ran.code == 0, ran.err
    assert open_network("out.npz").layers()
    assert "gate met: ASR<=0.02 (ASR is 0)" in ran.out
    assert "gate met: promise<=0.05" in ran.out
    assert ran.err == ""


def test_1_an_error(files, flain):
    ran = flain("purify", "nowhere.npz", *files.searching[1:], "-o", "out.npz")
    assert ran == (1, "", "error: cannot open nowhere.npz: there is no such file\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["purify"], "Missing argument 'FINAL' (flain purify --help"),
        (["purfy"], "No such command 'purfy'"),
        (["audit", "final.npz", "--data", "a.npz"], "Missing option '--initial'"),
        (["audit", "f", "--initial", "i", "--data", "d", "--batch-size", "0"], "x>=1"),
        (["audit", "f", "--initial", "i", "--data", "d", "--seed", "-1"], "x>=0"),
        (["audit", "f", "--initial", "i", "--data", "d", "-q", "-v"], "leave out one of the two"),
        (["audit", "f", "--initial", "i", "--data", "d", "--holdout", "H"], "NAME=FILE"),
        (["audit", "f", "--initial", "i", "--data", "d", "--report", "r.txt"], ".html or .json"),
        (["audit", "f", "--initial", "i", "--data", "d", "--holdout", "H=d"], "hold out others"),
        (["compare", "final.npz"], "Missing argument 'B'"),
        (["compare", "final.npz", "initial.npz", "-o", "x"], "No such option"),
    ],
)
def test_2_wrong_usage(files, flain, words, told):
    before = files.there()
    ran = flain(*words)
    assert ran.code == 2
    assert told in ran.err
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1
    assert ran.out == ""
    assert files.there() == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--promise", "2"), "greater than 0 and less than 1"),
        (("--tolerance", "3"), "a tolerance from 0 to 1"),
        (("--flip", "directions", "--match-norm"), "goes with neurons only"),
        (("--measure", "score", "--promise", "0.1"), "held back"),
    ],
)
def test_2_a_setting_that_is_out_of_range(files, flain, options, told):
    ran = flain("audit", *files.searching, *options)
    assert ran.code == 2
    assert told in ran.err


def test_2_a_name_that_is_given_twice(files, flain):
    named = ("--trigger", f"A={files.triggered}", "--holdout", f"A={files.clean}")
    ran = flain("audit", *files.searching, *named)
    assert ran.code == 2
    assert "got 'A' twice" in ran.err


@pytest.mark.parametrize("name", ["A<", "A>B", " A", "A "])
def test_2_a_name_that_no_gate_could_say(files, flain, name):
    ran = flain("audit", *files.searching, "--trigger", f"{name}={files.triggered}")
    assert ran.code == 2
    assert "so that --require can name it" in ran.err


def test_1_what_to_do_is_said_in_options(files, flain):
    (files.folder / "out.npz").write_text("mine")
    ran = flain("purify", *files.searching, "-o", "out.npz")
    assert ran.code == 1
    assert "it exists already; choose another name, remove it, or say --overwrite\n" in ran.err
    assert flain("purify", *files.searching, "-o", "out.npz", "--overwrite").code == 0
    again = ("out.npz", "--initial", files.initial, "--data", files.auxiliary, "-o", "b.npz")
    ran = flain("purify", *again)
    assert ran.code == 1
    assert ran.err.endswith("or, if you mean it, say --again\n")


def test_3_nothing_flipped_and_no_model_written(files, flain):
    options = ("--promise", "0.001", "--report", "r.json")
    ran = flain("purify", *files.searching, *options, "-o", "out.npz")
    assert ran.code == 3
    assert not (files.folder / "out.npz").exists()
    assert "out.npz was not written: nothing was flipped" in ran.out
    assert json.loads((files.folder / "r.json").read_text())["verdict"] == "not flipped"
    quiet = flain("audit", *files.searching, "--promise", "0.001", "--quiet")
    assert (quiet.code, quiet.out) == (3, "")
    assert quiet.err.endswith("verdict: not flipped\n")


@pytest.mark.parametrize(("class_share", "verdict"), [(0.06, "hardly"), (0.3, "partly")])
def test_3_little_was_flipped_but_the_model_is_written(
    files, flain, monkeypatch, class_share, verdict
):
    original = flain_core.purify

    def little(*words, **options):
        result = original(*words, **options)
        layer = replace(result.layers[0], share=0.05, class_share=class_share)
        return replace(result, layers=(layer,))

    monkeypatch.setattr(flain_core, "purify", little)
    ran = flain("purify", *files.searching, "-o", "out.npz", "--report", "r.json")
    assert ran.code == 3
    assert json.loads((files.folder / "r.json").read_text())["verdict"] == f"{verdict} flipped"
    assert "wrote out.npz" in ran.out
    assert open_network("out.npz").layers()


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        (["--require", "ASR<=0.5"], "gate not met: ASR<=0.5, and ASR is 1"),
        (["--require", "held>1"], "gate not met: held>1, and held is 1"),
        (["--require", "ACC<0.5"], "gate not met: ACC<0.5, and ACC is 1"),
        (["--require-promise", "0.001"], "gate not met: promise<=0.001, and promise is 0.0"),
    ],
)
def test_4_a_gate_that_is_not_met_keeps_the_model_from_being_written(files, flain, gate, told):
    probes = ("--trigger", f"ASR={files.triggered}", "--holdout", f"held={files.clean}")
    # A factor that changes hardly anything leaves the backdoor in.
    ran = flain(
        *("purify", *files.searching, *probes, *gate, "--factor", "0.001"),
        *("-o", "out.npz", "--report", "r.json"),
    )
    assert ran.code == 4
    *warned, said = ran.err.splitlines()
    assert told in said
    assert all(line.startswith("warning: ") for line in warned)
    assert "out.npz was not written: a gate is not met" in ran.out
    assert not (files.folder / "out.npz").exists()
    assert (files.folder / "r.json").exists()


def test_a_gate_that_is_not_met_comes_before_nothing_flipped(files, flain):
    options = ("--promise", "0.001", "--require", "ACC<=0.5")
    assert flain("audit", *files.searching, *options).code == 4


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ("ASR", "expected NAME<=NUMBER"),
        ("<=0.2", "expected NAME<=NUMBER"),
        ("ASR==0.2", "expected NAME<=NUMBER"),
        ("ASR<=<=0.2", "nothing called 'ASR<='"),
        ("ASR<=two", "expected a number from 0 to 1"),
        ("ASR<=nan", "expected a number from 0 to 1"),
        ("ASR<=2", "expected a number from 0 to 1"),
        ("ASR<=-1", "expected a number from 0 to 1"),
        ("ARS<=0.2", "nothing called 'ARS' to be measured. Did you mean 'ASR'?"),
        ("asr<=0.2", "Did you mean 'ASR'?"),
    ],
)
def test_gates_that_say_nothing_are_wrong_usage_before_any_work(files, flain, gate, told):
    # The models do not exist, so nothing can have been opened.
    ran = flain(
        *("purify", "no.npz", "--initial", "no.npz", "--data", "no.npz", "-o", "out.npz"),
        *("--trigger", f"ASR={files.triggered}", "--require", gate),
    )
    assert ran.code == 2
    assert told in ran.err


@pytest.mark.parametrize("share", ["0", "1", "-0.1", "nan", "2"])
def test_a_share_that_cannot_be_promised_is_wrong_usage(files, flain, share):
    ran = flain("audit", *files.searching, f"--require-promise={share}")
    assert ran.code == 2
    assert "greater than 0 and less than 1" in ran.err


def test_a_promise_that_was_not_made_meets_no_gate():
    gate = CheckedGate(Gate.promised(0.5), None)
    assert not gate.met
    assert str(gate) == "gate not met: promise<=0.5, and nothing can be promised of new samples"


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("ASR<=0.02", 0.02, True),
        ("ASR<0.02", 0.02, False),
        ("ASR>=0.02", 0.02, True),
        ("ASR>0.02", 0.02, False),
        (" my probe <= 2e-2 ", 0.01, True),
        ("a<b<=0.5", 0.6, False),
    ],
)
def test_comparisons(text, value, met):
    assert CheckedGate(Gate.of(text), value).met is met


def test_acc_is_the_score_of_a_probe_of_that_name_if_there_is_one(files):
    result = flain_core.purify(
        files.final, initial=files.initial, data=files.auxiliary, probes={"ACC": files.triggered}
    )
    (gate,) = checked([Gate.of("ACC<=0.1")], result)
    assert gate.met
    (gate,) = checked(
        [Gate.of("ACC<=0.1")], replace(result, after=flain_core.Measurement(clean=0.9))
    )
    assert not gate.met


# Files


def test_a_report_for_people_is_drawn_by_the_result(files, flain, monkeypatch):
    pytest.importorskip("jinja2", reason="the extra report is not installed")
    pytest.importorskip("matplotlib")
    drawn = []

    def report(self, path, *, overwrite=False):
        drawn.append((str(path), overwrite, self.verdict, len(self.files)))

    monkeypatch.setattr(Purification, "report", report, raising=False)
    for options in (("--report", "r.html"), ("--report", "r.html", "--overwrite")):
        ran = flain("audit", *files.searching, *options)
        assert ran.code == 0, ran.err
        assert "wrote r.html" in ran.out
    assert drawn == [("r.html", False, "flipped", 3), ("r.html", True, "flipped", 3)]


def test_a_file_that_vanishes_during_the_search_does_not_lose_the_result(files, flain, monkeypatch):
    original = flain_core.purify

    def purify(*words, **options):
        result = original(*words, **options)
        files.auxiliary.unlink()
        return result

    monkeypatch.setattr(flain_core, "purify", purify)
    ran = flain("purify", *files.searching, "-o", "out.npz", "--json")
    assert ran.code == 0, ran.err
    assert len(json.loads(ran.out)["files"]) == 3


def test_a_report_that_cannot_be_written_does_not_lose_the_model(files, flain, monkeypatch):
    def broken(self, path, *, overwrite=False):
        raise ValueError("the template is broken")

    monkeypatch.setattr(Purification, "to_json", broken)
    ran = flain("purify", *files.searching, "-o", "out.npz", "--report", "r.json")
    assert ran.code == 1
    assert "error: ValueError: the template is broken; written all the same: out.npz" in ran.err
    assert ran.err.count("\n") == 1
    assert open_network("out.npz").layers()
    assert "verdict: flipped" in ran.out


def test_a_folder_that_vanishes_during_the_search_does_not_lose_the_model(files, flain):
    (files.folder / "reports").mkdir()
    # The factory is called after the places were looked at.
    (files.folder / "vanish.py").write_text(
        "import flain_numpy, pathlib\ndef final():\n    return flain_numpy.load('final.npz')\n"
    )
    original = Purification.save

    def save(self, path, *, overwrite=False):
        (files.folder / "reports").rmdir()
        original(self, path, overwrite=overwrite)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Purification, "save", save)
        words = ("vanish:final", *files.searching[1:])
        ran = flain("purify", *words, "-o", "out.npz", "--report", "reports/r.json", "--json")
    assert ran.code == 1
    told = json.loads(ran.out)
    assert told["exit_code"] == 1
    assert told["written"] == ["out.npz"]
    assert "folder does not exist" in told["errors"][0]
    assert open_network("out.npz").layers()


def test_a_model_that_cannot_be_written_does_not_lose_the_report(files, flain, monkeypatch):
    def full(self, path, *, overwrite=False):
        raise flain_core.OutputError("cannot write out.npz: No space left on device")

    monkeypatch.setattr(Purification, "save", full)
    ran = flain("purify", *files.searching, "-o", "out.npz", "--report", "r.json")
    assert ran.code == 1
    assert "No space left on device; written all the same: r.json" in ran.err
    assert (files.folder / "r.json").exists()


@pytest.mark.parametrize("name", ["final", "initial", "auxiliary", "triggered"])
@pytest.mark.parametrize("option", ["-o", "--report"])
def test_overwrite_does_not_replace_what_is_read(files, flain, name, option):
    victim = getattr(files, name)
    link = files.folder / ("link.json" if option == "--report" else "link.npz")
    link.symlink_to(victim)
    before = files.there()
    output = () if option == "-o" else ("-o", "out.npz")
    probes = ("--trigger", f"ASR={files.triggered}")
    for target in [link] if option == "--report" else [victim, link, victim.name]:
        ran = flain("purify", *files.searching, *probes, *output, option, target, "--overwrite")
        assert ran.code == 1
        assert "it is one of the files that were read" in ran.err
        assert files.there() == before


@pytest.mark.parametrize(
    ("text", "value", "told"),
    [
        ("ACC>=0.9719", 0.97188, "ACC is 0.97188"),
        ("ACC>=0.9719", 0.97194, "ACC is 0.9719)"),
        ("ASR<=0.02", 0.02000001, "ASR is 0.02000001"),
        ("ASR<=0.02", 0.01, "ASR is 0.01)"),
    ],
)
def test_the_digits_of_a_value_show_on_which_side_of_a_gate_it_is(text, value, told):
    assert told in str(CheckedGate(Gate.of(text), value))


@pytest.mark.skipif(sys.platform == "win32", reason="no such redirections")
@pytest.mark.parametrize(
    ("into", "code", "told"),
    [(">&-", 0, ""), ("> /dev/full", 1, "error: no space is left where the output goes")],
)
def test_output_that_nobody_takes_is_no_fault_of_ours(into, code, told):
    ran = subprocess.run(
        f"{shlex.quote(sys.executable)} -m flain_cli --version {into}",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == code
    assert ran.stderr.startswith(told)
    assert "unexpected" not in ran.stderr
