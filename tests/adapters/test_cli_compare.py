"""What differs between two models: their tensors, and their answers."""

import json
import pickle

import backdoored
import numpy as np
import pytest

import flain_numpy
from flain_cli.tensors import compared


@pytest.fixture
def purified(files, flain):
    assert flain("purify", *files.searching, "-o", "purified.npz", "-q").code == 0
    return files.folder / "purified.npz"


def by_name(told):
    return {each["name"]: each for each in told["differences"]}


def test_a_purified_model_differs_in_the_layer_that_was_purified(files, purified, flain):
    ran = flain("compare", files.final, purified)
    assert ran.code == 0, ran.err
    assert "2 tensors differ, 4 equal" in ran.out
    rows = [line.split() for line in ran.out.splitlines()]
    assert [row[0] for row in rows if "×" in row or "/" in "".join(row)] == [
        "fc1.weight",
        "fc1.bias",
    ]
    before, after = (
        flain_numpy.load(path).layers()["fc1"].weight for path in (files.final, purified)
    )
    told = by_name(json.loads(flain("compare", files.final, purified, "--json").out))
    difference = told["fc1.weight"]
    assert difference["changed"] == np.count_nonzero(before != after)
    assert difference["entries"] == before.size
    assert difference["shape"] == [10, 12]
    assert difference["largest"] == pytest.approx(np.abs(before - after).max())
    relative = np.linalg.norm(before - after) / np.linalg.norm(before)
    assert difference["relative"] == pytest.approx(relative)
    assert told["fc2.weight"]["changed"] == 0


def test_equal_models_are_the_same(files, flain):
    ran = flain("compare", files.final, files.final, "--data", files.clean)
    assert ran.code == 0, ran.err
    assert "0 tensors differ, 6 equal" in ran.out
    assert "0 samples (0.00%) are given another class" in ran.out
    told = json.loads(flain("compare", files.final, files.final, "--json").out)
    assert told["same"] is True
    assert told["answers"] is None
    assert "fc3.bias" in flain("compare", files.final, files.final, "--verbose").out
    assert flain("compare", files.final, files.initial, "--quiet") == (0, "", "")


def test_answers_are_compared_on_samples(files, purified, flain):
    told = json.loads(
        flain("compare", files.final, purified, "--data", files.triggered, "--json").out
    )["answers"]
    x, y = backdoored.triggered(400, seed=13)
    scores = [flain_numpy.load(path).predict(x) for path in (files.final, purified)]
    classes = [each.argmax(axis=1) for each in scores]
    assert told["samples"] == len(y)
    assert told["different"] == np.count_nonzero(classes[0] != classes[1]) > 0
    assert told["accuracy"] == [float((each == y).mean()) for each in classes]
    assert told["newly_wrong"] == np.count_nonzero((classes[0] == y) & (classes[1] != y))
    assert told["newly_right"] == 0
    assert told["largest"] == pytest.approx(np.abs(scores[0] - scores[1]).max())
    odds = [np.exp(each - each.max(1, keepdims=True)) for each in scores]
    shares = [each[:, 2] / each.sum(1) for each in odds]
    assert told["probability"] == pytest.approx([float(each.mean()) for each in shares], rel=1e-5)
    ran = flain("compare", files.final, purified, "--data", files.triggered, "--batch-size", 7)
    assert f"{told['newly_wrong']} are newly wrong in B, 0 newly right" in ran.out


def test_other_shapes_and_names_are_told(files, flain):
    network = flain_numpy.Network(
        [
            flain_numpy.Dense("fc1", np.zeros((10, 12), np.float32)),
            flain_numpy.Dense("fc2", np.zeros((4, 10), np.float32)),
            flain_numpy.Dense("head", np.zeros((3, 4), np.float32)),
        ]
    )
    flain_numpy.save(network, files.folder / "other.npz")
    ran = flain("compare", files.final, "other.npz")
    assert "fc2.weight has the shape 7 × 10 in A and 4 × 10 in B" in ran.out
    assert "fc3.weight is only in A" in ran.out
    assert "head.weight is only in B" in ran.out
    told = json.loads(flain("compare", files.final, "other.npz", "--json").out)
    assert told["same"] is False
    assert told["shapes"] == {"fc2.weight": [[7, 10], [4, 10]]}
    assert told["only_in_b"] == ["head.weight"]


def test_numbers_that_are_not_finite():
    nan, inf = float("nan"), float("inf")
    a = {"w": np.array([nan, 1.0, inf]), "i": np.array([1, 2]), "b": np.array([True, False])}
    b = {"w": np.array([nan, nan, inf]), "i": np.array([1, 4]), "b": np.array([True, True])}
    same, (w, i, flag) = compared(a, a), compared(a, b).differences
    assert same.same
    assert (w.changed, w.largest, w.relative) == (1, None, None)
    assert (i.changed, i.largest) == (1, 2.0)
    assert (flag.changed, flag.largest) == (1, 1.0)
    (empty,) = compared({"e": np.zeros((0, 3))}, {"e": np.zeros((0, 3))}).differences
    assert (empty.changed, empty.largest, empty.relative) == (0, 0.0, None)


def test_names_that_all_differ_are_paired_in_order_where_every_shape_fits():
    a = {"sequential/fc/kernel": np.zeros((2, 3)), "sequential/fc/bias": np.zeros(3)}
    b = {"sequential_1/fc/kernel": np.ones((2, 3)), "sequential_1/fc/bias": np.zeros(3)}
    pair = compared(a, b)
    assert [each.changed for each in pair.differences] == [6, 0]
    assert pair.only_in_a == ()
    b["sequential_1/more"] = np.zeros(1)
    assert compared(a, b).only_in_a == tuple(a)


# Other formats


def test_weights_are_compared_without_their_architecture(files, flain):
    torch = pytest.importorskip("torch")
    flain_torch = pytest.importorskip("flain_torch")
    module = torch.nn.Sequential(torch.nn.Linear(12, 10), torch.nn.BatchNorm1d(10))
    flain_torch.save(module, files.folder / "a.safetensors")
    with torch.no_grad():
        module[0].weight[3, 5] += 2
        module[1].num_batches_tracked += 1
    flain_torch.save(module, files.folder / "b.pt")
    told = json.loads(flain("compare", "a.safetensors", "b.pt", "--json").out)
    changed = {name: each["changed"] for name, each in by_name(told).items() if each["changed"]}
    assert changed == {"0.weight": 1, "1.num_batches_tracked": 1}
    assert by_name(told)["0.weight"]["largest"] == pytest.approx(2, rel=1e-5)
    ran = flain("compare", "a.safetensors", "b.pt", "--data", files.clean)
    assert ran.code == 1
    assert "--architecture module:factory" in ran.err


def test_a_factory_of_a_module_is_compared_with_a_file(files, flain):
    torch = pytest.importorskip("torch")
    flain_torch = pytest.importorskip("flain_torch")
    (files.folder / "shape.py").write_text(
        "import torch\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(12, 3))\n"
    )
    torch.manual_seed(0)
    flain_torch.save(torch.nn.Sequential(torch.nn.Linear(12, 3)), files.folder / "a.safetensors")
    told = json.loads(
        flain(
            *("compare", "shape:net", "a.safetensors", "--architecture", "shape:net"),
            *("--data", files.clean, "--json"),
        ).out
    )
    assert told["same"] is True
    assert told["answers"]["different"] == 0


def test_nothing_is_unpickled(files, flain):
    pytest.importorskip("torch")
    marker = files.folder / "was_run"

    class Evil:
        def __reduce__(self):
            return (marker.touch, ())

    (files.folder / "evil.pt").write_bytes(pickle.dumps(Evil()))
    np.savez(files.folder / "evil.npz", x=np.array([Evil()], dtype=object), y=np.zeros(1))
    for words in (
        ("compare", "evil.pt", "evil.pt"),
        ("compare", "evil.npz", files.final),
        ("compare", files.final, files.final, "--data", "evil.npz"),
    ):
        ran = flain(*words)
        assert ran.code == 1, ran
        assert ran.err.count("\n") == 1
    assert not marker.exists()


def test_onnx_models_are_compared_tensor_by_tensor_and_with_other_formats_by_layer(flain, tmp_path):
    pytest.importorskip("onnxruntime")
    from flain_cli import example

    copy = example.copy_to(tmp_path, ".onnx")
    initial, final, _, clean, _ = copy.paths
    told = json.loads(flain("compare", initial, final, "--data", clean, "--json").out)
    assert len(by_name(told)) == 8
    assert told["answers"]["accuracy"][1] > told["answers"]["accuracy"][0]
    told = json.loads(flain("compare", final, final.with_suffix(".npz"), "--json").out)
    assert told["same"] is True
    assert "conv1.weight" in by_name(told)


# Bad input


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("final.npz", "nowhere.npz"), "cannot open nowhere.npz: there is no such file"),
        (("final.npz", "nowhere.safetensors"), "nowhere.safetensors"),
        (("final.npz", "auxiliary.npz"), "expected a network that flain_numpy.save wrote"),
        (("final.npz", "text.bin"), "text.bin"),
        (("final.npz", "."), "folder"),
        (("final.npz", "initial.npz", "--data", "nowhere.npz"), "there is no file nowhere.npz"),
        (("final.npz", "initial.npz", "--data", "final.npz"), "expected arrays x and y"),
        (("final.npz", "initial.npz", "--data", "narrow.npz"), "error: "),
        (("final.npz", "initial.npz", "--data", "labels.npz"), "expected labels from 0 to 2"),
        (("final.npz", "two.npz", "--data", "clean.npz"), "score the same classes"),
        (("final.npz", "initial.npz", "--outputs", "logits"), "give samples too"),
        (
            ("final.npz", "initial.npz", "--data", "clean.npz", "--outputs", "probabilities"),
            "expected probabilities",
        ),
        (("final.npz", "initial.npz", "--custom-objects", "os:path"), ".keras and .h5 files"),
    ],
)
def test_bad_input_gets_one_error_and_nothing_is_written(files, flain, words, told):
    if any("safetensors" in word for word in words):
        pytest.importorskip("torch")
    (files.folder / "text.bin").write_bytes(b"text")
    x, y = backdoored.samples(30, seed=1)
    np.savez(files.folder / "narrow.npz", x=x[:, :4], y=y)
    np.savez(files.folder / "labels.npz", x=x, y=y + 1)
    two = flain_numpy.Network([flain_numpy.Dense("fc1", np.zeros((2, 12), np.float32))])
    flain_numpy.save(two, files.folder / "two.npz")
    before = files.there()
    for extra in ((), ("--json",)):
        ran = flain("compare", *words, *extra)
        assert ran.code == (2 if told == "give samples too" else 1), ran
        assert told in ran.err
        assert ran.err.startswith("error: ")
        assert ran.err.count("\n") == 1
        assert ran.out == ""
    assert files.there() == before


@pytest.mark.parametrize(
    ("one", "other", "largest"),
    [([1 + 1j], [1 - 9j], "10"), ([2**53], [2**53 + 1], "1"), ([2**62], [2**62 + 1], "1")],
)
def test_tensors_that_double_precision_cannot_tell_apart_differ(one, other, largest, files, flain):
    torch = pytest.importorskip("torch")
    for name, values in (("a.pt", one), ("b.pt", other)):
        torch.save({"w": torch.tensor(values)}, files.folder / name)
    told = json.loads(flain("compare", "a.pt", "b.pt", "--json").out)
    (difference,) = told["differences"]
    assert not told["same"]
    assert (difference["changed"], f"{difference['largest']:g}") == (1, largest)


@pytest.mark.parametrize(("device", "kind"), [("meta", "without numbers"), ("cpu", "sparse")])
def test_tensors_without_numbers_of_their_own_are_refused(device, kind, files, flain):
    torch = pytest.importorskip("torch")
    tensor = torch.ones(2, device=device)
    torch.save({"w": tensor if kind != "sparse" else tensor.to_sparse()}, files.folder / "a.pt")
    torch.save({"w": torch.ones(2)}, files.folder / "b.pt")
    ran = flain("compare", "b.pt", "a.pt")
    assert ran.code == 1
    assert f"the tensor 'w' is {kind}" in ran.err
