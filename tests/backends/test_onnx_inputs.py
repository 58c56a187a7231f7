"""Samples enter ONNX models as their inputs ask, and the scores are found or chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_models as models
import pytest
from onnx import ModelProto, checker
from onnx_cases import CASES, N, close
from onnx_models import numbers, value

import flain_core as flain
from flain_core.backend_kit import AS_TRAINED
from flain_core.errors import LayerError, ModelError
from flain_onnx import OnnxModel, open_network


def test_several_inputs_are_a_tuple_or_a_dict() -> None:
    network = open_network(models.two_inputs())
    x, tokens = numbers(N, 2), np.random.default_rng(0).integers(0, 11, (N, 4))
    scores = network.predict((tokens, x))
    assert scores.shape == (N, 5)
    assert np.array_equal(network.predict({"x": x, "tokens": tokens.astype(np.int32)}), scores)
    cut = network.cut("fc1", (tokens, x))
    close(cut.tail(cut.output), scores)
    for bad in ({"x": x}, (tokens,), x):
        with pytest.raises(ModelError, match=r"inputs \['tokens', 'x'\]"):
            network.predict(bad)
    with pytest.raises(ModelError, match="reads int64; got float32"):
        network.predict((x, x))
    with pytest.raises(ModelError, match="one n of at least 1"):
        network.predict((tokens, x[:3]))


def test_samples_that_do_not_fit_are_refused() -> None:
    network = open_network(models.mlp())
    for bad in (numbers(N, 5), numbers(N, 2, 3)):
        with pytest.raises(ModelError, match="onnxruntime failed on inputs of shapes") as told:
            network.predict(bad)
        assert str(told.value).endswith("; " + AS_TRAINED)
    with pytest.raises(ModelError, match="expected numbers"):
        network.predict(np.array(["cat"]))


def with_outputs(*outputs: Any) -> ModelProto:
    def change(proto: ModelProto) -> None:
        del proto.graph.output[:]
        proto.graph.output.extend(outputs)

    return models.retouched(models.mlp(), change)


def test_the_scores_are_found_or_chosen() -> None:
    x = numbers(N, 6)
    truth = open_network(models.mlp()).predict(x)
    hidden, scores = value("a", "n", 9), value("scores", "n", 5)
    assert np.array_equal(open_network(with_outputs(hidden, scores)).predict(x), truth)

    def rename(proto: ModelProto) -> None:
        proto.graph.node[-1].output[0] = proto.graph.output[-1].name = "y"

    ambiguous = models.retouched(with_outputs(hidden, scores), rename)
    with pytest.raises(ModelError, match=r"\['a', 'y'\], of which 2 are floating point; choose"):
        open_network(ambiguous)
    assert np.array_equal(open_network(OnnxModel(ambiguous, scores="y")).predict(x), truth)
    assert list(open_network(ambiguous, like=OnnxModel(ambiguous, scores="y")).layers()) == [
        "fc1",
        "fc2",
    ]
    with pytest.raises(ModelError, match=r"no output 'z'; it has 'a', 'y'\."):
        open_network(OnnxModel(ambiguous, scores="z"))
    # Seen from the hidden values, the second layer does nothing.
    network = open_network(OnnxModel(ambiguous, scores="a"))
    assert list(network.layers()) == ["fc1"]
    with pytest.raises(LayerError, match="the scores 'a' do not depend on it"):
        network.cut("fc2", x)


def test_execution_providers_are_chosen_and_checked() -> None:
    chosen = OnnxModel(models.mlp(), providers=[("CPUExecutionProvider", {})])
    assert open_network(chosen).predict(numbers(N, 6)).shape == (N, 5)
    with pytest.raises(ModelError, match="got \\['NoExecutionProvider'\\]"):
        open_network(OnnxModel(models.mlp(), providers=["NoExecutionProvider"]))


@pytest.mark.parametrize("build", [models.baked_batch, models.needed_batch])
def test_samples_need_not_fit_a_fixed_batch(build: Callable[[], ModelProto]) -> None:
    network, x = open_network(build()), numbers(10, *CASES["baked batch"].shape)
    x = x if build is models.baked_batch else x[:, 0]
    whole = network.predict(x)
    assert whole.shape == (10, 5)
    for index in range(10):
        close(open_network(build()).predict(x[index : index + 1]), whole[index : index + 1])
    chunks = (1, 10) if build is models.baked_batch else (3, 4)
    last = list(network.layers())[-1]
    assert network.cut(last, x).output.shape == (*chunks, 5)


@pytest.mark.filterwarnings("ignore::flain_core.FlainWarning")
@pytest.mark.parametrize(("samples", "flip"), [(30, "neurons"), (32, "directions")])
def test_samples_that_fill_up_a_fixed_batch_are_flipped_in_directions(
    samples: int, flip: str
) -> None:
    final, x = open_network(models.needed_batch()), numbers(samples, 6)
    update = numbers(9, 6, seed=3) / 10
    initial = final.replace({"fc1": final.layers()["fc1"].weight - update})
    data = x, final.predict(x).argmax(axis=1)
    purified = flain.purify(final, initial=initial, data=data, layers="fc1", outputs="logits")
    assert purified.layers[0].flip == flip


def test_a_fixed_batch_is_kept_where_it_matters() -> None:
    network, x = open_network(models.mixing_batch()), numbers(6, 6)
    pairs = [open_network(models.mixing_batch()).predict(x[at : at + 2]) for at in (0, 2, 4)]
    assert np.array_equal(network.predict(x), np.concatenate(pairs))


def test_old_models_list_their_weights_as_inputs() -> None:
    def change(proto: ModelProto) -> None:
        proto.ir_version, proto.opset_import[0].version = 3, 9
        for each in proto.graph.initializer:
            proto.graph.input.append(value(each.name, *each.dims))

    old = models.retouched(models.mlp(), change)
    checker.check_model(old)
    network, x = open_network(old), numbers(N, 6)
    cut = network.cut("fc1", x)
    close(cut.tail(cut.output), open_network(models.mlp()).predict(x))
    assert open_network(network.replace({"fc1": np.zeros((9, 6))}).native).predict(x).shape == (
        N,
        5,
    )
