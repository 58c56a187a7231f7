"""Audits, dry runs, and what is shown: in words, as one object, or not at all."""

import json

import numpy as np
import pytest

import flain_numpy


def test_an_audit_writes_nothing_but_the_report(files, flain):
    before = files.there()
    probes = ("--trigger", f"ASR={files.triggered}", "--holdout", f"held={files.clean}")
    ran = flain("audit", *files.searching, *probes)
    assert ran.code == 0, ran.err
    assert "verdict: flipped" in ran.out
    assert "held (held out)" in ran.out
    assert files.there() == before
    ran = flain("audit", *files.searching, *probes, "--report", "r.json")
    assert ran.code == 0, ran.err
    assert set(files.there()) - set(before) == {files.folder / "r.json"}
    told = json.loads((files.folder / "r.json").read_text())
    assert told["before"]["probes"] == {"ASR": 1.0, "held": 1.0}
    assert told["after"]["probes"]["ASR"] <= 0.02
    assert len(told["files"]) == 5


def test_an_audit_reports_the_search_of_purify(files, flain):
    audited = json.loads(flain("audit", *files.searching, "--json").out)
    purified = json.loads(flain("purify", *files.searching, "-o", "out.npz", "--json").out)
    for name in ("before", "after", "verdict", "promise", "notes", "warnings", "files", "settings"):
        assert audited[name] == purified[name]
    assert audited["written"] == []
    assert purified["written"] == ["out.npz"]


def test_an_audit_has_no_output(files, flain):
    assert flain("audit", *files.searching, "-o", "out.npz").code == 2
    assert flain("audit", *files.searching, "--dry-run").code == 2


def test_a_dry_run_checks_and_writes_nothing(files, flain):
    before = files.there()
    options = ("-o", "out.npz", "--report", "r.json", "--require", "ACC>=0.9", "--layer", "all")
    ran = flain("purify", *files.searching, *options, "--dry-run")
    assert ran.code == 0, ran.err
    assert "would purify fc1, fc2, fc3" in ran.out
    assert "would require ACC>=0.9" in ran.out
    assert "would write out.npz\nwould write r.json\n" in ran.out
    assert files.there() == before
    told = json.loads(flain("purify", *files.searching, *options, "--dry-run", "--json").out)
    assert told["layers"] == ["fc1", "fc2", "fc3"]
    assert told["would_write"] == ["out.npz", "r.json"]
    assert told["candidates_at_most"] > 1
    assert files.there() == before


def test_a_dry_run_finds_what_a_search_would_stumble_over(files, flain):
    with np.load(files.auxiliary) as data:
        np.savez(files.folder / "narrow.npz", x=data["x"][:, :5], y=data["y"])
    (files.folder / "there.npz").write_bytes(b"")
    words = ("purify", files.final, "--initial", files.initial, "--dry-run", "--data")
    for rest in (
        ("narrow.npz", "-o", "out.npz"),
        ("auxiliary.npz", "-o", "there.npz"),
        ("auxiliary.npz", "-o", "out.npz", "--layer", "fc9"),
        ("auxiliary.npz", "-o", "out.onnx"),
    ):
        ran = flain(*words, *rest)
        assert ran.code == 1, rest
        assert ran.err.startswith("error: ")
    assert not (files.folder / "out.npz").exists()


@pytest.mark.parametrize("words", [["audit"], ["purify", "-o", "out.npz"]])
def test_json_is_one_object_and_nothing_else(files, flain, words):
    # What a user's own module prints is no part of it.
    (files.folder / "chatty.py").write_text(
        "import flain_numpy\n"
        "print('loading')\n"
        "def final():\n"
        "    print('building')\n"
        "    return flain_numpy.load('final.npz')\n"
    )
    gate = ("--require", "held>=0.5", "--holdout", f"held={files.clean}")
    ran = flain(words[0], "chatty:final", *files.searching[1:], *words[1:], *gate, "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["exit_code"] == 0
    assert told["gates"] == [{"gate": "held>=0.5", "value": 1.0, "met": True}]
    assert told["held_out"] == ["held"]
    assert told["verdict"] == "flipped"
    assert "building" in ran.err


def test_json_says_nothing_where_no_search_was_done(files, flain):
    ran = flain("audit", "nowhere.npz", *files.searching[1:], "--json")
    assert ran.code == 1
    assert ran.out == ""


def test_quiet_shows_errors_and_warnings_only(files, flain):
    ran = flain("purify", *files.searching, "-o", "out.npz", "--quiet")
    assert ran == (0, "", "")
    assert (files.folder / "out.npz").exists()
    ran = flain("purify", *files.searching, "-o", "out.npz", "-q")
    assert ran.code == 1
    assert "exists already" in ran.err


def test_quiet_keeps_no_warning_of_its_own_back(files, flain):
    with np.load(files.auxiliary) as data:
        np.savez(files.folder / "others.npz", x=data["x"], y=(data["y"] + 1) % 3)
    ran = flain("audit", files.final, "--initial", files.initial, "--data", "others.npz", "-q")
    assert ran.out == ""
    assert "no better than chance" in ran.err


def test_verbose_shows_every_step_versions_and_hashes(files, flain):
    told = json.loads(flain("audit", *files.searching, "--json").out)
    ran = flain("audit", *files.searching, "--verbose")
    assert "steps of fc1" in ran.out
    for step in told["layers"][0]["steps"]:
        assert f"{step['threshold']:.4g}" in ran.out
    assert f"numpy {np.__version__}" in ran.out
    for digest in told["files"].values():
        assert f"sha256 {digest}" in ran.out


def test_seed_and_batch_size_reach_the_search(files, flain, monkeypatch):
    given = {}
    import flain_core

    original = flain_core.purify

    def purify(*words, **options):
        given.update(options)
        return original(*words, **options)

    monkeypatch.setattr(flain_core, "purify", purify)
    ran = flain("audit", *files.searching, "--seed", "7", "--batch-size", "33")
    assert ran.code == 0, ran.err
    assert (given["seed"], given["batch_size"]) == (7, 33)


def test_held_out_samples_do_not_steer(files, flain):
    alone = json.loads(flain("audit", *files.searching, "--json").out)
    with np.load(files.clean) as data:
        np.savez(files.folder / "wrong.npz", x=data["x"], y=(data["y"] + 1) % 3)
    beside = json.loads(
        flain("audit", *files.searching, "--holdout", "wrong=wrong.npz", "--json").out
    )
    assert beside["after"]["clean"] == alone["after"]["clean"]
    assert beside["layers"][0]["flipped"] == alone["layers"][0]["flipped"]
    assert beside["after"]["probes"]["wrong"] < 0.2


def test_a_model_may_come_from_a_factory(files, flain):
    (files.folder / "built.py").write_text(
        "import flain_numpy\n"
        "def final(): return flain_numpy.load('final.npz')\n"
        "def initial(): return flain_numpy.load('initial.npz')\n"
        "def broken(): raise RuntimeError('no weights here')\n"
        "def leaves(): raise SystemExit(0)\n"
        "class Leaving(flain_numpy.Network):\n"
        "    def predict(self, x): raise SystemExit(0)\n"
        "def leaving(): return Leaving(final().operations)\n"
        "def nothing(): return None\n"
    )
    words = ("--initial", "built:initial", "--data", files.auxiliary)
    ran = flain("purify", "built:final", *words, "-o", "out.npz", "--json")
    assert ran.code == 0, ran.err
    assert flain("purify", *files.searching, "-o", "expected.npz").code == 0
    for name, layer in flain_numpy.load("expected.npz").layers().items():
        np.testing.assert_array_equal(
            flain_numpy.load("out.npz").layers()[name].weight, layer.weight
        )
    # Only files have hashes.
    assert list(json.loads(ran.out)["files"]) == [str(files.auxiliary)]
    for name, told in {
        "built:broken": "could not be called without arguments to build a model (RuntimeError: no",
        "built:nothing": "got NoneType",
        "built:leaves": "could not be called without arguments to build a model (SystemExit: 0)",
        "built:leaving": "ended the command before it was done (SystemExit: 0)",
        "built:missing": "has no function or class 'missing'",
        "no_such_module:final": "cannot import 'no_such_module'",
    }.items():
        ran = flain("audit", name, *words)
        assert ran.code == 1
        assert told in ran.err
        assert "Traceback" not in ran.err


def test_a_perceptron_of_scikit_learn_can_be_audited_but_not_written(files, flain):
    pytest.importorskip("sklearn")
    (files.folder / "perceptrons.py").write_text(
        "import numpy as np\n"
        "from sklearn.neural_network import MLPClassifier\n"
        "data = np.load('auxiliary.npz')\n"
        "def trained(epochs):\n"
        "    model = MLPClassifier((10,), random_state=0)\n"
        "    for _ in range(epochs):\n"
        "        model.partial_fit(data['x'], data['y'], classes=[0, 1, 2])\n"
        "    return model\n"
        "def initial(): return trained(1)\n"
        "def final(): return trained(30)\n"
    )
    words = ("perceptrons:final", "--initial", "perceptrons:initial", "--data", files.auxiliary)
    assert flain("audit", *words).code in (0, 3)
    ran = flain("purify", *words, "-o", "out.npz")
    assert ran.code == 1
    assert "flain_sklearn writes no files" in ran.err
    ran = flain("compare", "perceptrons:initial", "perceptrons:final", "--data", files.clean)
    assert ran.code == 0, ran.err
    assert "coefs_0" in ran.out


def test_layers_as_json(files, flain):
    told = json.loads(flain("layers", files.final, "--json").out)
    assert told["layers"]["fc1"] == {
        "kind": "dense",
        "weight": [10, 12],
        "groups": 1,
        "input_neurons": 12,
    }
    assert told["refused"] == {}
