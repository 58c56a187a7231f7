"""The suite that every backend passes fails where a backend is wrong."""

from __future__ import annotations

from dataclasses import replace as with_fields

import numpy as np
import pytest
import test_conformance_numpy as right

import flain_numpy as fn
from flain_core.conformance import Conv, Dense, Reference
from flain_core.conformance.cases import CASES


class Wrapped:
    """Passes everything on, except what a subclass gets wrong."""

    def __init__(self, wrapped):
        self.wrapped = wrapped

    def __getattr__(self, name):
        return getattr(self.wrapped, name)

    def replace(self, weights, biases=None):
        return type(self)(self.wrapped.replace(weights, biases))


class SwapsLayers(Wrapped):
    def layers(self):
        return dict(reversed(self.wrapped.layers().items()))


class MissesTransposes(Wrapped):
    def layers(self):
        return {
            name: with_fields(layer, weight=np.swapaxes(layer.weight, 0, 1))
            for name, layer in self.wrapped.layers().items()
        }


class ForgetsGroups(Wrapped):
    def layers(self):
        return {name: with_fields(each, groups=1) for name, each in self.wrapped.layers().items()}


class GivesProbabilities(Wrapped):
    def predict(self, x):
        return fn.Softmax()(self.wrapped.predict(x))


class KnowsTheBatch(Wrapped):
    def predict(self, x):
        return self.wrapped.predict(x) + len(x)


class ReplacesNothing(Wrapped):
    def replace(self, weights):
        self.wrapped.replace(weights)
        return self


class ReplacesInPlace(Wrapped):
    def replace(self, weights):
        self.wrapped = self.wrapped.replace(weights)
        return self


class TakesAnything(Wrapped):
    def replace(self, weights):
        weights = {name: np.nan_to_num(weight) for name, weight in weights.items()}
        return type(self)(self.wrapped.replace(weights))


class ShowsNoBias(Wrapped):
    def layers(self):
        return {name: with_fields(each, bias=None) for name, each in self.wrapped.layers().items()}


class ReplacesNoBias(Wrapped):
    def replace(self, weights, biases=None):
        self.wrapped.replace(weights, biases)
        return type(self)(self.wrapped.replace(weights))


class ForgetsReplacedBiases(Wrapped):
    def replace(self, weights, biases=None):
        return type(self)(self.wrapped.replace(weights, biases), self.first)

    def __init__(self, wrapped, first=None):
        super().__init__(wrapped)
        self.first = first or wrapped
        self.native = self.first.replace(_weights(wrapped))


class CutsBeforeTheReplacement(ForgetsReplacedBiases):
    def cut(self, layer, x):
        return self.native.cut(layer, x)


class ReplacesBiasesInPlace(Wrapped):
    def replace(self, weights, biases=None):
        self.wrapped = self.wrapped.replace(weights, biases)
        return self


class TakesAnyBias(Wrapped):
    def replace(self, weights, biases=None):
        layers = self.wrapped.layers()
        biases = {
            name: np.resize(np.nan_to_num(bias), len(layers[name].weight))
            for name, bias in (biases or {}).items()
            if name not in layers or layers[name].bias is not None
        }
        return type(self)(self.wrapped.replace(weights, biases))


def _weights(network):
    return {name: layer.weight for name, layer in network.layers().items()}


class KeepsItsCopy(Wrapped):
    def __init__(self, wrapped, first=None):
        super().__init__(wrapped)
        self.native = first or wrapped

    def replace(self, weights):
        return KeepsItsCopy(self.wrapped.replace(weights), self.native)


class Cuts(Wrapped):
    def cut(self, layer, x):
        return self.Cut(self.wrapped.cut(layer, x))


class CountsOnce(Cuts):
    class Cut(Wrapped):
        calls = 1


class MovesChannels(Cuts):
    class Cut(Wrapped):
        @property
        def inputs(self):
            return self.wrapped.inputs[:, ::-1]


class AddsBias(Cuts):
    class Cut(Wrapped):
        def linear(self, weight, neurons):
            return self.wrapped.linear(weight, neurons) + 0.1


class SortsNeurons(Cuts):
    class Cut(Wrapped):
        def linear(self, weight, neurons):
            return self.wrapped.linear(weight, np.arange(len(neurons)))


class OverwritesItsOutput(Cuts):
    class Cut(Wrapped):
        def __init__(self, wrapped):
            super().__init__(wrapped)
            self.output = np.array(wrapped.output) if wrapped.calls == 1 else None

        def tail(self, output):
            scores = self.wrapped.tail(output)
            np.maximum(output, 0, out=output)
            return scores


class SkipsTheLayer(Cuts):
    class Cut(Wrapped):
        def tail(self, output):
            return self.wrapped.tail(self.wrapped.output)


class ScoresBySampleAsInTheBatch(Cuts):
    class Cut(Wrapped):
        @property
        def tail_by_sample(self):
            place = np.arange(len(self.wrapped.inputs))[:, None]
            return lambda output: (
                self.wrapped.tail_by_sample(output) + np.resize(place, (len(output), 1))
            )


WRONG = (
    (SwapsLayers, "layers_are_canonical", "dense"),
    (MissesTransposes, "layers_are_canonical", "conv"),
    (ForgetsGroups, "layers_are_canonical", "grouped"),
    (GivesProbabilities, "scores_are_those_of_the_model", "dense"),
    (KnowsTheBatch, "batches_may_have_any_size", "dense"),
    (ReplacesNothing, "replace_writes_the_weight", "conv"),
    (ReplacesInPlace, "the_original_is_left_alone", "conv"),
    (TakesAnything, "replace_refuses_what_does_not_fit", "depthwise"),
    (ShowsNoBias, "layers_show_their_bias", "conv"),
    (ReplacesNoBias, "replace_writes_the_bias", "dense"),
    (ForgetsReplacedBiases, "replace_writes_the_bias", "residual"),
    (ForgetsReplacedBiases, "saved_models_keep_replaced_biases", "grouped"),
    (CutsBeforeTheReplacement, "a_cut_has_the_replaced_bias", "conv"),
    (ReplacesBiasesInPlace, "replaced_biases_leave_the_original_alone", "used twice"),
    (TakesAnyBias, "replace_refuses_a_bias_that_does_not_fit", "dense"),
    (TakesAnyBias, "replace_refuses_a_bias_that_does_not_fit", "without bias"),
    (KeepsItsCopy, "native_is_a_model_of_the_callers_type", "dense"),
    (CountsOnce, "inputs_are_what_enters_the_layer", "used twice"),
    (MovesChannels, "inputs_are_what_enters_the_layer", "residual"),
    (AddsBias, "contributions_and_bias_are_the_pre_activation", "conv"),
    (SortsNeurons, "tail_follows_a_changed_weight", "depthwise"),
    (OverwritesItsOutput, "tail_goes_on_where_the_cut_was", "residual"),
    (ScoresBySampleAsInTheBatch, "tail_by_sample_takes_any_samples", "dense"),
    (SkipsTheLayer, "tail_follows_a_changed_weight", "dense"),
    (SkipsTheLayer, "purification", "dense"),
)


@pytest.mark.parametrize(("network", "check", "case"), WRONG)
def test_what_is_wrong_fails(network, check, case):
    class Wrong(right.TestNumPy):
        def open_network(self, model):
            return network(model if isinstance(model, fn.Network) else model.wrapped)

    (case,) = (each for each in CASES if each.name == case)
    getattr(right.TestNumPy(), f"test_{check}")(case)
    with pytest.raises(AssertionError, match=r"^expected .*; got"):
        getattr(Wrong(), f"test_{check}")(case)


def test_files_that_lose_something_fail():
    class Rounds(right.TestNumPy):
        def load(self, path, reference):
            network = super().load(path, reference)
            rounded = {n: each.weight.round(3) for n, each in network.layers().items()}
            return network.replace(rounded)

    class Overwrites(right.TestNumPy):
        def save(self, model, path, *, overwrite=True):
            fn.save(model, path, overwrite=True)

    with pytest.raises(AssertionError, match=r"expected the weight of 'fc1' in \.npz, exactly"):
        Rounds().test_saved_models_load_exactly(CASES[0])
    with pytest.raises(AssertionError, match="expected OutputError to be raised"):
        Overwrites().test_saved_models_load_exactly(CASES[0])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"exceptions": {}}, None),
        ({"exceptions": right.TestNumPy.exceptions | {"dense": "no"}}, "'dense' passes; remove it"),
        ({"exceptions": {"transposed": " "}}, "a reason for the exception 'transposed'"),
        ({"exceptions": {"deconv": "no"}}, "an exception among dense, conv, .*; got deconv"),
        ({"checks": 141}, "expected checks = 141 to pass; got 140"),
        ({"formats": ()}, "expected checks = 140 to pass; got 126"),
    ],
)
def test_exceptions_and_the_number_of_checks_are_strict(attributes, message):
    suite = type("Suite", (right.TestNumPy,), attributes)
    with pytest.raises(AssertionError if message else NotImplementedError, match=message):
        suite.run()


def test_checks_that_have_passed_are_not_run_again():
    class Counts(right.TestNumPy):
        built = 0

        def build(self, reference):
            Counts.built += 1
            return super().build(reference)

    assert Counts.run() == 140
    first, Counts.built = Counts.built, 0
    Counts().test_every_check_ran()
    assert first > 0 == Counts.built


def test_every_search_in_the_cases_flips_something():
    suite = right.TestNumPy()
    for case in suite._cases():
        final, initial = (suite.build(each) for each in (case.final, case.initial))
        for name in final.layers():
            (outcome,) = suite._purified(final, initial, name, case).layers
            assert outcome.flipped.any(), (case, name)
            assert len(outcome.steps) > 1


def test_a_reference_convolves_by_hand():
    x = np.array([[[[1.0, 2.0, 3.0]]]])
    weight, bias = np.array([[[[10.0, 1.0]]]]), np.array([0.5])

    def run(**options):
        return Reference((Conv("c", weight, bias, **options),), (1, 1, 3)).run(x)[0].tolist()

    assert run() == [[[[12.5, 23.5]]]]
    assert run(padding=(0, 1), stride=(1, 2)) == [[[[1.5, 23.5]]]]
    assert run(transposed=True) == [[[[10.5, 21.5, 32.5, 3.5]]]]
    assert run(transposed=True, stride=(1, 2)) == [[[[10.5, 1.5, 20.5, 2.5, 30.5, 3.5]]]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_layer_is_square(case):
    for layer in case.final.layers().values():
        out, per_group, *kernel = layer.weight.shape
        groups = 1 if isinstance(layer, Dense) else layer.groups
        assert out not in (per_group, per_group * groups)
        assert len(set(kernel)) == len(kernel)
