"""Models of every kind are purified on a Ray cluster as they are here."""

import warnings

import numpy as np
import pytest

import flain_numpy
from flain_numpy import Dense

pytest.importorskip("ray")
pytest.importorskip("flain_ray")

from ray_cases import CLEAN, EXAMPLE, FINAL, INITIAL, assert_same, both, cluster  # noqa: F401

pytestmark = pytest.mark.slow


def test_a_torch_module_is_purified_as_here():
    torch = pytest.importorskip("torch")
    # One thread, as an actor with one CPU has: more add up in another order.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        final, initial = torch_example("final"), torch_example("initial")
        result, expected = both(EXAMPLE["data"], final, initial, spread={"shards": 7})
    finally:
        torch.set_num_threads(threads)
    assert_same(result, expected)
    for mine, other in zip(result.model.parameters(), expected.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def torch_example(name):
    import ray_torch
    import torch

    module = ray_torch.Example()
    network = flain_numpy.load(EXAMPLE[name])
    for operation in network.operations:
        if hasattr(operation, "weight"):
            layer = getattr(module, operation.name)
            layer.weight.data = torch.from_numpy(operation.weight.copy())
            layer.bias.data = torch.from_numpy(operation.bias.copy())
    return module.eval()


def onnx_pair(*outputs):
    """The backdoored network and its initial one as ONNX models, perhaps of several outputs."""
    onnx_models = pytest.importorskip("onnx_models")
    node, value = onnx_models.node, onnx_models.value

    def made(network):
        dense = [each for each in network.operations if isinstance(each, Dense)]
        nodes, tensors, x = [], {}, "x"
        for each in dense:
            tensors[f"{each.name}__weight"], tensors[f"{each.name}__bias"] = each.weight, each.bias
            names = [f"{each.name}.weight", f"{each.name}.bias"]
            last = each is dense[-1]
            z = "scores" if last else f"{each.name}_z"
            nodes.append(node("Gemm", [x, *names], [z], transB=1))
            if not last:
                x = f"{each.name}_a"
                nodes.append(node("Relu", [z], [x]))
        nodes.append(node("Neg", ["scores"], ["negated"]))
        shapes = {"scores": 3, "negated": 3}
        return onnx_models.model(
            nodes,
            [value("x", "n", 12)],
            [value(name, "n", shapes[name]) for name in outputs],
            **tensors,
        )

    return made(INITIAL), made(FINAL)


def test_an_onnx_model_is_purified_as_here():
    initial, final = onnx_pair("scores")
    result, expected = both(CLEAN, final, initial)
    assert_same(result, expected)
    assert result.model == expected.model


def test_the_scores_of_an_onnx_model_stay_those_that_were_chosen():
    pytest.importorskip("onnxruntime")
    from flain_onnx import OnnxModel, open_network

    initial, final = onnx_pair("negated", "scores")
    chosen = OnnxModel(final, scores="scores")
    assert_same(*both(CLEAN, chosen, OnnxModel(initial, scores="scores")))
    # A network that was told by another model which output it is.
    told = open_network(final, like=chosen)
    assert_same(*both(CLEAN, told, OnnxModel(initial, scores="scores")))


def test_a_perceptron_of_scikit_learn_is_purified_as_here():
    model = pytest.importorskip("sklearn.neural_network").MLPClassifier((10, 7), max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(*CLEAN)
    dense = [each for each in FINAL.operations if isinstance(each, Dense)]
    before = [each for each in INITIAL.operations if isinstance(each, Dense)]
    model.coefs_ = [each.weight.T.copy() for each in dense]
    model.intercepts_ = [each.bias.copy() for each in dense]
    initial = {"coefs_": [each.weight.T for each in before]}
    result, expected = both(CLEAN, model, initial)
    assert_same(result, expected)
    for mine, other in zip(result.model.coefs_, expected.model.coefs_, strict=True):
        np.testing.assert_array_equal(mine, other)
