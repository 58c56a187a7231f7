"""Every file that carries a mark is refused, whoever reads it."""

import subprocess
import sys
import warnings

import backdoored
import numpy as np
import pytest

import flain_core as flain
from flain_core.provenance import purified_before
from flain_core.provenance.mark import KEY, MOST_BYTES

CLEAN = backdoored.samples(300, seed=11)
INITIAL, FINAL = backdoored.networks()
REFUSED = "purified it.*again=True"


def forget(monkeypatch):
    """As in another process."""
    monkeypatch.setattr(purified_before, "_made_here", {})


def purify(model, initial, **options):
    return flain.purify(model, initial=initial, data=CLEAN, **options)


def weights(network):
    return [(layer.weight, layer.bias) for layer in network.layers().values()]


def torch_module(network=None):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    module = nn.Sequential(
        nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 7), nn.ReLU(), nn.Linear(7, 3)
    )
    for layer, (weight, bias) in zip(module[::2], weights(network or FINAL), strict=True):
        layer.load_state_dict(
            {"weight": torch.tensor(np.array(weight)), "bias": torch.tensor(np.array(bias))}
        )
    return module


def onnx_model(network):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    nodes, tensors, entering = [], [], "x"
    for index, (weight, bias) in enumerate(weights(network)):
        tensors += [
            onnx.numpy_helper.from_array(np.array(array), f"fc{index}.{kind}")
            for kind, array in (("weight", weight), ("bias", bias))
        ]
        leaving = f"h{index}" if index < 2 else "scores"
        inputs = [entering, f"fc{index}.weight", f"fc{index}.bias"]
        nodes.append(onnx.helper.make_node("Gemm", inputs, [leaving], transB=1))
        if index < 2:
            nodes.append(onnx.helper.make_node("Relu", [leaving], [f"r{index}"]))
            entering = f"r{index}"
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "net", [value("x", 1, ["n", 12])], [value("scores", 1, ["n", 3])], tensors
    )
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_weights_of_pytorch(suffix, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    flain_torch = pytest.importorskip("flain_torch")
    path = tmp_path / f"purified{suffix}"
    result = purify(torch_module(), torch_module(INITIAL))
    result.save(path)
    forget(monkeypatch)
    loaded = flain_torch.load(path, torch_module)
    with pytest.raises(flain.ModelError, match=REFUSED):
        purify(loaded, torch_module(INITIAL))
    again = purify(loaded, torch_module(INITIAL), again=True)
    assert "again now, as was asked for" in again.notes[0]
    x = torch.tensor(CLEAN[0])
    assert torch.equal(loaded(x), result.model(x))
    if suffix != ".safetensors":
        # Readers that know nothing of marks find the state dict as ever.
        torch.load(path, weights_only=True, mmap=True)
    # Weights alone, in another process, are just weights.
    forget(monkeypatch)
    bare = torch_module()
    bare.load_state_dict(loaded.state_dict())
    purify(bare, torch_module(INITIAL))


def test_onnx_in_a_file_and_as_a_model(tmp_path, monkeypatch):
    model = onnx_model(FINAL)
    onnx = pytest.importorskip("onnx")
    flain_onnx = pytest.importorskip("flain_onnx")
    given = model.SerializeToString()
    result = purify(model, onnx_model(INITIAL))
    result.save(tmp_path / "purified.onnx")
    assert model.SerializeToString() == given
    assert not result.model.metadata_props
    forget(monkeypatch)
    path = tmp_path / "purified.onnx"
    onnx.checker.check_model(path)
    for again in (path, onnx.load(path), flain_onnx.load(path)):
        with pytest.raises(flain.ModelError, match=REFUSED):
            purify(again, onnx_model(INITIAL))
    twice = purify(path, onnx_model(INITIAL), again=True)
    twice.save(tmp_path / "twice.onnx")
    (mark,) = onnx.load(tmp_path / "twice.onnx").metadata_props
    assert mark.key == KEY
    # What the owner keeps there stays, once.
    model.metadata_props.add(key="author", value="somebody")
    flain_onnx.save(model, tmp_path / "named.onnx", mark="{}")
    props = onnx.load(tmp_path / "named.onnx").metadata_props
    assert {each.key: each.value for each in props} == {"author": "somebody", KEY: "{}"}
    forget(monkeypatch)
    with pytest.raises(flain.ModelError, match="damaged or forged"):
        purify(tmp_path / "named.onnx", onnx_model(INITIAL))


KERAS = """
import sys, warnings
import numpy as np, h5py, keras
import backdoored, flain_core as flain, flain_keras
from flain_core.provenance import purified_before
from flain_core.provenance.mark import KEY, MOST_BYTES

folder = sys.argv[1]
warnings.simplefilter("ignore", flain.FlainWarning)
initial, final = backdoored.networks()
clean = backdoored.samples(300, seed=11)

def model(network):
    widths = (10, 7, 3)
    kinds = ("relu", "relu", None)
    layers = [keras.layers.Dense(*each) for each in zip(widths, kinds)]
    built = keras.Sequential([keras.Input((12,)), *layers])
    weights = [(each.weight.T, each.bias) for each in network.layers().values()]
    built.set_weights([np.array(array) for pair in weights for array in pair])
    return built

def refused(given, match="purified it"):
    try:
        flain.purify(given, initial=start, data=clean)
    except flain.ModelError as error:
        assert match in str(error) and "again=True" in str(error), error
    else:
        raise AssertionError("it was purified again")

start = model(initial)
for suffix in (".keras", ".h5"):
    path = f"{folder}/purified{suffix}"
    result = flain.purify(model(final), initial=start, data=clean)
    result.save(path)
    purified_before._made_here.clear()
    refused(path)
    refused(flain_keras.load(path))
    refused(flain_keras.open_network(flain_keras.load(path)))
    loaded = keras.saving.load_model(path)
    scores = [each.predict(clean[0], verbose=0) for each in (loaded, result.model)]
    np.testing.assert_allclose(*scores)
    twice = flain.purify(path, initial=start, data=clean, again=True)
    assert twice.notes[0].startswith("the model was purified before")
for forged in ("a text of variable length", np.bytes_("x" * 60_000), np.zeros(3), np.bytes_("{}")):
    with h5py.File(path, "r+") as file:
        del file.attrs[KEY]
        file.attrs[KEY] = forged
    purified_before._made_here.clear()
    refused(path, "damaged or forged")
print("refused")
"""


@pytest.mark.slow
def test_keras(tmp_path):
    pytest.importorskip("keras")
    pytest.importorskip("tensorflow")
    ran = subprocess.run(
        [sys.executable, "-c", KERAS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            **__import__("os").environ,
            "PYTHONPATH": ":".join(sys.path),
            "KERAS_BACKEND": "tensorflow",
        },
    )
    assert ran.stdout.strip() == "refused", ran.stderr[-2000:]


def test_scikit_learn_estimators():
    neural = pytest.importorskip("sklearn.neural_network")
    model = neural.MLPClassifier((10,), random_state=0, learning_rate_init=0.01)
    x, y = backdoored.samples(600, seed=3)
    model.partial_fit(x, y, classes=[0, 1, 2])
    initial = {"coefs_": [each.copy() for each in model.coefs_]}
    for _ in range(60):
        model.partial_fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", flain.FlainWarning)
        result = purify(model, initial)
        with pytest.raises(flain.ModelError, match="this process purified"):
            purify(result.model, initial)
        result.model.partial_fit(x, y)
        purify(result.model, initial)


def test_the_most_bytes_fit_where_they_are_kept():
    """An attribute of an HDF5 file holds less than 64 KiB."""
    assert MOST_BYTES < 60_000
