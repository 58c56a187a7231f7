"""What is easily given wrong of a framework's models, and what is said of it."""

import backdoored
import numpy as np
import pytest

import flain_core as flain
from flain_core.network import refused_layers
from flain_core.opening.registry import open_network

CLEAN = backdoored.samples(300, seed=11)


def purify(model, initial, **options):
    return flain.purify(model, initial=initial, data=CLEAN, **options)


# --- ONNX ----------------------------------------------------------------------------------------


def onnx_model(seed, batch="n", zipmap=False):
    """12 → 10 → 3; the weights are random, the batch axis is as given."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(seed)
    arrays = {"fc1.weight": (10, 12), "fc1.bias": (10,), "fc2.weight": (3, 10)}
    tensors = [
        onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in arrays.items()
    ]
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h"], transB=1),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "fc2.weight"], ["scores"], transB=1),
    ]
    outputs = [value("scores", 1, [batch, 3])]
    if zipmap:
        options = {"domain": "ai.onnx.ml", "classlabels_int64s": [0, 1, 2]}
        nodes += [
            node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
            node("ZipMap", ["scores"], ["probability"], **options),
        ]
        entry = onnx.helper.make_tensor_type_proto(1, [])
        kind = onnx.helper.make_sequence_type_proto(onnx.helper.make_map_type_proto(7, entry))
        outputs = [value("label", 7, [batch]), onnx.helper.make_value_info("probability", kind)]
    graph = onnx.helper.make_graph(nodes, "net", [value("x", 1, [batch, 12])], outputs, tensors)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)


def optimised(model, path):
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return path


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_an_axis_of_minus_one_takes_any_number_of_samples():
    network = open_network(onnx_model(1, batch=-1))
    np.testing.assert_array_equal(
        network.predict(CLEAN[0]), open_network(onnx_model(1)).predict(CLEAN[0])
    )
    assert purify(onnx_model(1, batch=-1), onnx_model(0, batch=-1)).layers[0].name == "fc1"


@pytest.mark.filterwarnings("ignore:(?!.auto. took):flain_core.FlainWarning")
def test_layers_that_onnxruntime_fused_are_named_and_not_passed_by_in_silence(tmp_path):
    paths = [optimised(onnx_model(seed), tmp_path / f"{seed}.onnx") for seed in (0, 1)]
    network = open_network(paths[1])
    assert list(network.layers()) == ["fc2"]
    assert "FusedGemm of com.microsoft" in refused_layers(network)["fc1"]
    with pytest.warns(flain.FlainWarning, match="took 'fc2'.*'fc1': onnxruntime fused it"):
        purify(paths[1], paths[0])
    with pytest.raises(flain.LayerError, match="give both models as they were exported"):
        purify(paths[1], paths[0], layers="fc1")


def test_dictionaries_of_probabilities_are_told_how_to_become_scores():
    flain_onnx = pytest.importorskip("flain_onnx")
    given = onnx_model(1, zipmap=True)
    for model in (given, flain_onnx.OnnxModel(given, scores="probability")):
        with pytest.raises(flain.ModelError, match="'zipmap': False"):
            purify(model, onnx_model(0, zipmap=True))
    # The tensor they are made of is no output, and says so.
    with pytest.raises(flain.ModelError, match="no output 'scores'"):
        purify(flain_onnx.OnnxModel(given, scores="scores"), onnx_model(0, zipmap=True))


# --- PyTorch -------------------------------------------------------------------------------------


def module(seed):
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    nn = torch.nn
    return nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 3))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_exported_programs_are_told_what_to_give_instead():
    torch = pytest.importorskip("torch")
    program = torch.export.export(module(1), (torch.zeros(4, 12),))
    with pytest.raises(flain.ModelError, match=r"give the nn.Module that was exported"):
        purify(program, program)
    traced = program.module()
    with pytest.raises(flain.LayerError, match=r"'linear': a traced graph computes it.*nn.Module"):
        purify(traced, traced)
    names = refused_layers(open_network(traced))
    assert list(names) == ["linear", "linear_1"]


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_traced_modules_keep_their_layers():
    fx = pytest.importorskip("torch").fx
    traced = open_network(fx.symbolic_trace(module(1)))
    assert list(traced.layers()) == ["0", "2"]
    assert not refused_layers(traced)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
def test_a_plain_state_dict_fits_the_module_in_a_wrapper():
    nn = pytest.importorskip("torch").nn

    class GradSampleModule(nn.Module):
        """As Opacus wraps a module."""

        def __init__(self, held):
            super().__init__()
            self._module = held

        def forward(self, x):
            return self._module(x)

    result = purify(GradSampleModule(module(1)), module(0).state_dict())
    assert result.layers[0].name == "_module.0"


# --- scikit-learn --------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:partly flipped:flain_core.FlainWarning")
def test_labels_of_scikit_learn_from_one_are_pointed_out_where_they_are_used():
    neural = pytest.importorskip("sklearn.neural_network")
    x, y = backdoored.samples(600, seed=3)
    model = neural.MLPClassifier((10,), random_state=0, learning_rate_init=0.01)
    model.partial_fit(x, y + 1, classes=[1, 2, 3])
    initial = {"coefs_": [each.copy() for each in model.coefs_]}
    for _ in range(40):
        model.partial_fit(x, y + 1)
    purify(model, initial)  # indices are right, and nothing is said of them
    with pytest.raises(flain.DataError, match=r"np.searchsorted\(classes, y\)"):
        flain.purify(model, initial=initial, data=(CLEAN[0], CLEAN[1] + 1))
