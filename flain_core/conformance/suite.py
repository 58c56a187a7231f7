"""The checks, and how they are run on each case."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from flain_core.errors import FlainError, FlainWarning, LayerError, OutputError, WeightsError
from flain_core.flipping import flip
from flain_core.main_call import purify
from flain_core.network import Array, Batch, Cut, Layer, Network, is_network
from flain_core.outcome.layer import LayerOutcome
from flain_core.purification import Purification
from flain_core.settings import Settings

from .cases import CASES, Case
from .expect import expect, expect_error, expect_same
from .networks import Conv, Dense, Reference
from .never_cut import never_cut
from .parameters import (
    changed_weight,
    copied_weights,
    expect_biases,
    expect_weights,
    layer_pairs,
    other_biases,
    other_weights,
    shown_biases,
    wide,
    with_arrays,
)

_CUT = ("inputs", "calls", "output", "linear", "tail")
_FEW = 7
_BY_NEURONS = Settings(measure="score", flip="neurons", tolerance=0.6)
_OF_FILES = ("test_saved_models_load_exactly", "test_saved_models_keep_replaced_biases")
_OF_BIASES = (
    "test_layers_show_their_bias",
    "test_replace_writes_the_bias",
    "test_a_cut_has_the_replaced_bias",
    "test_replaced_biases_leave_the_original_alone",
    "test_replace_refuses_a_bias_that_does_not_fit",
    "test_saved_models_keep_replaced_biases",
)
_REFUSALS = (AssertionError, FlainError, NotImplementedError)

_Check = Callable[["Conformance", Case], None]


def _check(method: _Check) -> _Check:
    """Mark a method as a check on each case, and note on which it passed."""

    @wraps(method)
    def noted(self: Conformance, case: Case) -> None:
        method(self, case)
        self._passed.add((method.__name__, case.name))  # pyright: ignore[reportPrivateUsage]

    noted.is_check = True  # type: ignore[attr-defined]
    return noted


class Conformance:
    """The promises of a backend, as checks.

    Attributes:
        checks: How many checks have to pass, counted once for each case. State the number, so that
            a suite that silently checks less fails.
        exceptions: The cases that the framework cannot express or the backend refuses, by name,
            with the reason. Strict: a case that would pass must not be listed.
        formats: Suffixes of the files that :meth:`save` writes and :meth:`load` reads.
        biases: Whether layers show their biases and :meth:`~flain_core.Network.replace` takes
            others. False for a backend whose layers all have a bias of None; then the checks of
            biases and the case of layers without one are left out.
        tolerance: Allowed error of a score, relative to the largest score of the batch.
        to_the_bit: Whether equal weights give equal scores exactly. False for an engine that
            computes otherwise with a weight stored in the model than with one it is given.
    """

    checks: ClassVar[int]
    exceptions: ClassVar[Mapping[str, str]] = {}
    formats: ClassVar[Sequence[str]] = ()
    biases: ClassVar[bool] = False
    tolerance: ClassVar[float] = 1e-5
    to_the_bit: ClassVar[bool] = True

    _passed: ClassVar[set[tuple[str, str]]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._passed = set()

    # What a subclass provides.

    def build(self, reference: Reference) -> Any:
        """Return a new model of the framework that computes what ``reference`` does.

        Its weights are canonical and its images channels first; transpose both where the framework
        lays them out otherwise.

        Raises:
            NotImplementedError: The framework has no such part.
        """
        raise NotImplementedError

    def open_network(self, model: Any) -> Network:
        """Return the model as the backend opens it."""
        raise NotImplementedError

    def batch(self, x: Array) -> Batch:
        """Return samples ``(n, *sample)`` in the layout of the framework, such as channels last."""
        return x

    def array(self, output: Any) -> Array:
        """Return a pre-activation, in the backend's own type and layout, as a NumPy array."""
        return np.asarray(output)

    def save(self, model: Any, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write a model to a file; asked only if there are :attr:`formats`."""
        raise NotImplementedError

    def load(self, path: str | os.PathLike[str], reference: Reference) -> Any:
        """Read it again; ``reference`` has the same parts, but other weights."""
        raise NotImplementedError

    # What is checked.

    @_check
    def test_layers_are_canonical(self, case: Case) -> None:
        """Layers come in the order of the model, with canonical weights that are read only."""
        for reference in (case.initial, case.final):
            network = self.open_network(self.build(reference))
            expect(is_network(network), "the methods of flain_core.Network", network)
            found, truths = network.layers(), reference.layers().values()
            expect(len(found) == len(truths), repr(case), found)
            for (name, layer), truth in zip(found.items(), truths, strict=True):
                groups = truth.groups if isinstance(truth, Conv) else 1
                kind = "conv" if isinstance(truth, Conv) else "dense"
                wanted = name, kind, groups, truth.weight.shape[1] * groups
                given = layer.name, layer.kind, layer.groups, layer.neurons
                expect(given == wanted, f"name, kind, groups, neurons {wanted}", given)
                expect_same(layer.weight, truth.weight, f"the canonical weight of {truth.name!r}")
                expect(layer.weight.dtype.kind == "f", "a float weight", layer.weight.dtype)
                expect(not layer.weight.flags.writeable, "a read-only weight", "a writable one")
                expect(0 < layer.epsilon < 0.01, "a machine epsilon", layer.epsilon)
                shown = self.biases or layer.bias is None
                expect(shown, "no bias to be shown, or a suite with biases = True", layer.bias)

    @_check
    def test_layers_show_their_bias(self, case: Case) -> None:
        """Biases are ``(out,)``, read only, with the model's values; None where there is none."""
        for reference in (case.initial, case.final):
            network = self.open_network(self.build(reference))
            expect_biases(network, reference, "of the model")
            for layer in network.layers().values():
                if layer.bias is not None:
                    expect(layer.bias.dtype.kind == "f", "a float bias", layer.bias.dtype)
                    expect(not layer.bias.flags.writeable, "a read-only bias", "a writable one")

    @_check
    def test_scores_are_those_of_the_model(self, case: Case) -> None:
        """Scores are ``(n, classes)`` floats, as the model computes them."""
        for reference in (case.initial, case.final):
            scores = self.open_network(self.build(reference)).predict(self.batch(case.x))
            expect(isinstance(scores, np.ndarray), "scores in a NumPy array", type(scores))
            expect(scores.dtype.kind == "f", "floating-point scores", scores.dtype)
            self._close(scores, reference.run(case.x)[0], "the scores")

    @_check
    def test_batches_may_have_any_size(self, case: Case) -> None:
        """A sample scores the same alone, in a ragged last batch and among all."""
        network = self.open_network(self.build(case.final))
        batches = np.split(case.x, [1, 1 + _FEW, 2 + _FEW])
        scores = np.concatenate([network.predict(self.batch(x)) for x in batches])
        self._close(scores, network.predict(self.batch(case.x)), "the scores of single batches")

    @_check
    def test_inputs_are_what_enters_the_layer(self, case: Case) -> None:
        """Inputs are ``(n, in, *positions)``; several calls are counted and become positions."""
        for x, cut, _, truth in self._cuts(case, _FEW, 1):
            expected = case.final.run(x)[1][truth.name]
            expect(cut.calls == len(expected), f"{len(expected)} calls", cut.calls)
            if cut.calls == 1:
                complete = all(hasattr(cut, name) for name in _CUT)
                expect(complete, "the methods of flain_core.Cut", cut)
                self._close(cut.inputs, expected[0], f"what enters {truth.name!r}")
            else:
                # Backends may list the calls in any order.
                stacked = np.stack(expected, axis=-1).reshape(*expected[0].shape[:2], -1)
                inputs = cut.inputs.reshape(*cut.inputs.shape[:2], -1)
                self._close(np.sort(inputs), np.sort(stacked), f"the inputs of {truth.name!r}")

    @_check
    def test_contributions_and_bias_are_the_pre_activation(self, case: Case) -> None:
        """Summed over all neurons, in any order and any parts, they leave the bias alone."""
        for _, cut, layer, truth in self._cuts(case, _FEW, once=True):
            shuffled = np.random.default_rng(0).permutation(layer.neurons)
            some, others = np.split(shuffled, [layer.neurons // 3])
            rest = cut.output - cut.linear(wide(layer.weight), some)
            rest = self.array(rest - cut.linear(wide(layer.weight), others))
            scale = float(np.abs(self.array(cut.output)).max())
            own = np.zeros(len(truth.weight)) if truth.bias is None else truth.bias
            bias = np.sort(np.resize(own, rest.size))
            whole = rest.size % own.size == 0
            close = bool(np.abs(np.sort(rest.ravel()) - bias).max() <= self.tolerance * scale)
            what = f"pre-activation minus contributions to be the bias of {truth.name!r}"
            expect(whole and close, what, f"{rest.ravel()[: own.size]} and so on")
            none = self.array(cut.linear(wide(layer.weight), shuffled[:0]))
            expect(not none.any(), "no contribution of no neurons", none)

    @_check
    def test_tail_goes_on_where_the_cut_was(self, case: Case) -> None:
        """The tail gives the model's scores, each time, and leaves the pre-activation alone."""
        for x, cut, layer, _ in self._cuts(case, _FEW, 1, once=True):
            name, before = layer.name, self.array(cut.output).copy()
            answers = [cut.tail(cut.output) for _ in range(3)]
            self._close(answers[0], case.final.run(x)[0], f"the tail behind {name!r}")
            for answer in answers[1:]:
                expect_same(answer, answers[0], f"the same answer of the tail of {name!r}")
            answers[0].fill(np.nan)
            expect_same(self.array(cut.output), before, f"the output of {name!r} unchanged")
            again = cut.tail(cut.output)
            expect_same(again, answers[1], "a tail that hands out arrays of its own")

    @_check
    def test_tail_by_sample_takes_any_samples(self, case: Case) -> None:
        """A cut's ``tail_by_sample`` scores samples alone, repeated, in any order as the tail does.

        A tail that reads more of the samples than the pre-activation has to be without.
        """
        for _, cut, layer, _ in self._cuts(case, _FEW, once=True):
            tail = getattr(cut, "tail_by_sample", None)
            if tail is None:
                continue
            output = self.array(cut.output).reshape(_FEW, -1)
            for samples in ([0], [_FEW - 1, 0, 2], [1, 1], range(_FEW), [*range(_FEW)] * 2):
                picked = output[list(samples)]
                before = picked.copy()
                scores = tail(picked)
                expected = cut.tail(cut.output)[list(samples)]
                self._close(scores, expected, f"samples {[*samples]} behind {layer.name!r}")
                expect_same(picked, before, "the pre-activation unchanged")

    @_check
    def test_tail_follows_a_changed_weight(self, case: Case) -> None:
        """Taking contributions away has the effect of really changing the model's weight."""
        network = self.open_network(self.build(case.final))
        for x, cut, layer, _ in self._cuts(case, _FEW, 1, once=True):
            for neurons in _selections(layer):
                weight, change = changed_weight(layer, neurons)
                truth = network.replace({layer.name: weight}).predict(self.batch(x))
                answer = cut.tail(cut.output - cut.linear(change, neurons))
                what = f"the scores with {len(neurons)} neurons of {layer.name!r} changed"
                self._close(answer, truth, what)

    @_check
    def test_replace_writes_the_weight(self, case: Case) -> None:
        """The copy has exactly the new weights and computes with them."""
        network = self.open_network(self.build(case.final))
        weights = other_weights(network)
        for (name, weight), truth in zip(weights.items(), case.final.layers(), strict=True):
            scores = network.replace({name: weight}).predict(self.batch(case.x))
            expected, _ = case.final.replace({truth: weight}).run(case.x)
            self._close(scores, expected, f"the scores with the weight of {name!r} replaced")
        copy = network.replace(weights)
        expect_weights(copy, weights, "after replacing it")
        back = copy.replace({name: layer.weight for name, layer in network.layers().items()})
        x = self.batch(case.x)
        self._same(back.predict(x), network.predict(x), "the former scores")
        self._close(network.replace({}).predict(x), network.predict(x), "the scores of a copy")

    @_check
    def test_replace_writes_the_bias(self, case: Case) -> None:
        """The copy has exactly the new biases, computes with them, and keeps all else."""
        network, x = self.open_network(self.build(case.final)), self.batch(case.x)
        for name, bias in other_biases(network).items():
            copy = network.replace({}, {name: bias})
            expected = with_arrays(case.final, network, {}, {name: bias})
            what = f"with the bias of {name!r} replaced"
            self._close(copy.predict(x), expected.run(case.x)[0], f"the scores {what}")
            expect_biases(copy, expected, what)
            expect_weights(copy, copied_weights(network), what)
        weights, biases = other_weights(network), other_biases(network)
        expected = with_arrays(case.final, network, weights, biases)
        both = network.replace(weights, biases)
        scores = both.predict(x)
        self._close(scores, expected.run(case.x)[0], "the scores with all weights and biases new")
        first_biases = network.replace({}, biases).replace(weights)
        first_weights = network.replace(weights).replace({}, biases)
        native = self.open_network(both.native)
        for each in (first_biases, first_weights, native):
            expect_biases(each, expected, "replaced in another way")
            self._same(each.predict(x), scores, "the scores, replaced in another way")
        back = both.replace(copied_weights(network), shown_biases(network))
        self._same(back.predict(x), network.predict(x), "the former scores")

    @_check
    def test_a_cut_has_the_replaced_bias(self, case: Case) -> None:
        """The pre-activation moves by the difference of the biases, and the tail goes on there."""
        network = self.open_network(self.build(case.final))
        for x, before, layer, truth in self._cuts(case, _FEW, once=True):
            if layer.bias is None or truth.bias is None:
                continue
            bias = other_biases(network)[layer.name]
            copy = network.replace({}, {layer.name: bias})
            after = copy.cut(layer.name, self.batch(x))
            self._close(after.inputs, before.inputs, f"what enters {layer.name!r}")
            moved = self.array(after.output) - self.array(before.output)
            # Layouts differ between backends; that no number is at a wrong place, the scores tell.
            moves = np.sort(np.resize(bias - truth.bias, moved.size))
            error = float(np.abs(np.sort(moved.ravel()) - moves).max())
            scale = float(np.abs(self.array(after.output)).max())
            what = f"the pre-activation of {layer.name!r} to move by the difference of the biases"
            expect(error <= self.tolerance * scale, what, f"an error of {error:.1e}")
            scores, _ = with_arrays(case.final, network, {}, {layer.name: bias}).run(x)
            self._close(after.tail(after.output), scores, f"the tail behind {layer.name!r}")
            self._close(before.tail(after.output), scores, f"the former tail of {layer.name!r}")

    @_check
    def test_replaced_biases_leave_the_original_alone(self, case: Case) -> None:
        """Neither the network nor the caller's model nor the given biases change, to the bit."""
        model, x = self.build(case.final), self.batch(case.x)
        network = self.open_network(model)
        scores, biases = network.predict(x), other_biases(network)
        given = {name: bias.copy() for name, bias in biases.items()}
        changed = network.replace({}, given)
        before = changed.predict(x)
        for bias in given.values():
            bias.fill(np.nan)
        expect_same(changed.predict(x), before, "scores that do not depend on the given array")
        for name in biases:
            cut = changed.cut(name, x)
            if cut.calls == 1:
                cut.tail(cut.output)
        for which in (network, self.open_network(network.native), self.open_network(model)):
            expect_same(which.predict(x), scores, "the scores of the original")
            expect_biases(which, case.final, "of the original")

    @_check
    def test_replace_refuses_a_bias_that_does_not_fit(self, case: Case) -> None:
        """Wrong shapes, NaN, infinity, overflow and layers without bias raise WeightsError."""
        network = self.open_network(self.build(case.final))
        for name, layer in network.layers().items():
            bias = np.ones(len(layer.weight))
            damaged = bias.copy()
            damaged[-1] = np.nan
            unfit = [bias[:-1], bias[:, None], bias[0], damaged, damaged * np.inf]
            if np.finfo(layer.weight.dtype).bits < 64:
                unfit.append(bias * 1e300)
            if layer.bias is None:
                unfit = [bias, np.zeros_like(bias)]
            for each in unfit:
                expect_error(WeightsError, partial(network.replace, {}, {name: each}))
        unknown = {"no such layer": np.zeros(3, np.float32)}
        expect_error(LayerError, partial(network.replace, {}, unknown))

    @_check
    def test_the_original_is_left_alone(self, case: Case) -> None:
        """Neither the network nor the caller's model nor the samples change, to the bit."""
        model, x = self.build(case.final), case.x.copy()
        network = self.open_network(model)
        before, scores = copied_weights(network), network.predict(self.batch(x))
        for name, weight in other_weights(network).items():
            changed = network.replace({name: weight})
            changed.predict(self.batch(x))
            cut = changed.cut(name, self.batch(x))
            if cut.calls == 1:
                cut.tail(cut.output)
        for which in (network, self.open_network(network.native), self.open_network(model)):
            expect_same(which.predict(self.batch(x)), scores, "the scores of the original")
            expect_weights(which, before, "of the original")
        expect_same(x, case.x, "the samples unchanged")

    @_check
    def test_replace_refuses_what_does_not_fit(self, case: Case) -> None:
        """Wrong shapes, NaN, infinity, overflow and unknown layers raise the fitting error."""
        network = self.open_network(self.build(case.final))
        for name, layer in network.layers().items():
            weight = layer.weight.astype(np.float64)
            damaged = weight.copy()
            damaged.flat[0] = np.nan
            unfit = [weight[:-1], weight[:, :, None], np.swapaxes(weight, 0, 1)]
            unfit += [damaged, damaged * np.inf]
            if np.finfo(layer.weight.dtype).bits < 64:
                unfit.append(weight * 1e300)
            for each in unfit:
                expect_error(WeightsError, partial(network.replace, {name: each}))
        nothing, x = np.zeros((3, 2), np.float32), self.batch(case.x)
        expect_error(LayerError, partial(network.replace, {"no such layer": nothing}))
        expect_error(LayerError, partial(network.cut, "no such layer", x))

    @_check
    def test_native_is_a_model_of_the_callers_type(self, case: Case) -> None:
        """The result can be used, and opened again, like the caller's model."""
        model = self.build(case.final)
        network = self.open_network(model)
        for each in (network, network.replace(other_weights(network))):
            expect(type(each.native) is type(model), f"a native {type(model)}", type(each.native))
            again = self.open_network(each.native)
            expect_weights(again, copied_weights(each), "in the native model")
            x = self.batch(case.x)
            self._same(again.predict(x), each.predict(x), "the scores of the native model")

    @_check
    def test_purification(self, case: Case) -> None:
        """Each layer is purified at a proved cut, as by running the whole network each time."""
        final = self.open_network(self.build(case.final))
        initial = self.open_network(self.build(case.initial))
        _, entering = case.final.run(case.x)
        for name, truth in zip(final.layers(), case.final.layers().values(), strict=True):
            once = len(entering[truth.name]) == 1
            result = self._purified(final, initial, name, case)
            (outcome,) = result.layers
            method = "incremental" if once else "whole network"
            expect(outcome.method == method, f"{name!r} searched by {method!r}", outcome)
            before, layer = initial.layers()[name].weight, final.layers()[name]
            flipped = flip(before, layer.weight, outcome.flipped, groups=layer.groups)
            expect_weights(self.open_network(result.model), {name: flipped}, "after flipping")
            (slow,) = self._purified(never_cut(final), initial, name, case).layers
            expect(slow.method == "whole network", "a search by the whole network", slow)
            given, wanted = _decisions(outcome), _decisions(slow)
            what = f"the decisions of a search by the whole network, {wanted}"
            expect(given == wanted, what, given)

    @_check
    def test_saved_models_load_exactly(self, case: Case) -> None:
        """A saved model loads with the same weights and scores; no file is overwritten unasked."""
        model, x = self.build(case.final), self.batch(case.x)
        network = self.open_network(model)
        with tempfile.TemporaryDirectory() as folder:
            for suffix in self.formats:
                path = Path(folder) / f"model{suffix}"
                self.save(network.native, path)
                written = path.read_bytes()
                loaded = self.open_network(self.load(path, case.initial))
                expect_weights(loaded, copied_weights(network), f"in {suffix}")
                expect_same(loaded.predict(x), network.predict(x), f"the scores of a {suffix} file")
                expect_error(OutputError, partial(self.save, self.build(case.initial), path))
                expect(path.read_bytes() == written, "the file as it was", "another one")
                self.save(self.build(case.initial), path, overwrite=True)
                again = self.open_network(self.load(path, case.final))
                self._close(again.predict(x), case.initial.run(case.x)[0], "the overwritten file")

    @_check
    def test_saved_models_keep_replaced_biases(self, case: Case) -> None:
        """A file holds the biases that were put in place of the model's, and all else."""
        network, x = self.open_network(self.build(case.final)), self.batch(case.x)
        biases = other_biases(network)
        copy = network.replace({}, biases)
        with tempfile.TemporaryDirectory() as folder:
            for suffix in self.formats:
                path = Path(folder) / f"model{suffix}"
                self.save(copy.native, path)
                loaded = self.open_network(self.load(path, case.initial))
                expected = with_arrays(case.final, network, {}, biases)
                expect_biases(loaded, expected, f"in {suffix}")
                expect_weights(loaded, copied_weights(network), f"in {suffix}")
                self._same(loaded.predict(x), copy.predict(x), f"the scores of a {suffix} file")

    def test_exceptions_are_needed(self) -> None:
        """Every exception names a case, gives a reason, and is still needed."""
        known = {case.name: case for case in CASES}
        for name, reason in self.exceptions.items():
            expect(name in known, f"an exception among {', '.join(known)}", name)
            expect(bool(reason.strip()), f"a reason for the exception {name!r}", repr(reason))
            try:
                for check in self._checks():
                    getattr(self, check)(known[name])
            except _REFUSALS:
                continue
            raise AssertionError(f"the case {name!r} passes; remove it from the exceptions")

    def test_every_check_ran(self) -> None:
        """Exactly the promised number of checks pass; any that has not run yet runs now."""
        planned = {(check, case.name): case for check in self._checks() for case in self._cases()}
        for check, name in planned.keys() - self._passed:
            getattr(self, check)(planned[check, name])
        passed = len(planned.keys() & self._passed)
        expect(passed == self.checks, f"checks = {self.checks} to pass", passed)

    @classmethod
    def run(cls) -> int:
        """Check everything without pytest, and return how many checks passed.

        Raises:
            AssertionError: A promise is not kept.
        """
        suite = cls()
        suite.test_exceptions_are_needed()
        suite.test_every_check_ran()
        return suite.checks

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Let pytest run each check on each case; pytest calls this by its name."""
        if "case" in metafunc.fixturenames:
            cases = self._cases() if metafunc.function.__name__ in self._checks() else []
            metafunc.parametrize("case", cases, ids=[case.name for case in cases])

    @classmethod
    def _checks(cls) -> list[str]:
        names = [name for name in dir(cls) if hasattr(getattr(cls, name), "is_check")]
        left_out = (() if cls.formats else _OF_FILES) + (() if cls.biases else _OF_BIASES)
        return [name for name in names if name not in left_out]

    @classmethod
    def _cases(cls) -> list[Case]:
        cases = [case for case in CASES if case.name not in cls.exceptions]
        return [case for case in cases if cls.biases or _all_have_a_bias(case.final)]

    def _cuts(
        self, case: Case, *sizes: int, once: bool = False
    ) -> Iterator[tuple[Array, Cut, Layer, Dense | Conv]]:
        """Yield, for the first few samples, the cut at each layer, or at those that run once."""
        for x in (case.x[:size] for size in sizes):
            network = self.open_network(self.build(case.final))
            _, entering = case.final.run(x)
            for layer, truth in layer_pairs(network, case.final):
                if len(entering[truth.name]) == 1 or not once:
                    yield x, network.cut(layer.name, self.batch(x)), layer, truth

    def _purified(self, final: Network, initial: Network, name: str, case: Case) -> Purification:
        scores, _ = case.final.run(case.x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FlainWarning)
            return purify(
                final,
                initial=initial,
                data=(self.batch(case.x), scores.argmax(axis=1)),
                layers=[name],
                settings=_BY_NEURONS,
                batch_size=len(case.x) // 2 + 1,
            )

    def _same(self, given: Array, expected: Array, what: str) -> None:
        if self.to_the_bit:
            expect_same(given, expected, what)
        else:
            self._close(given, expected, what)

    def _close(self, given: Array, expected: Array, what: str) -> None:
        expect(given.shape == expected.shape, f"{what} of shape {expected.shape}", given.shape)
        scale = float(np.abs(expected).max())
        error = float(np.abs(given.astype(np.float64) - expected).max())
        allowed = f"{what} within a relative error of {self.tolerance:.0e}"
        expect(error <= self.tolerance * scale, allowed, f"an error of {error:.1e} at {scale:.1e}")


def _selections(layer: Layer) -> Iterator[Array]:
    """Yield half of the neurons, each alone, all and none, in random order."""
    shuffled = np.random.default_rng(1).permutation(layer.neurons)
    yield shuffled[: (layer.neurons + 1) // 2]
    yield from shuffled[:, None]
    yield shuffled
    yield shuffled[:0]


def _all_have_a_bias(reference: Reference) -> bool:
    return all(layer.bias is not None for layer in reference.layers().values())


def _decisions(outcome: LayerOutcome) -> tuple[Any, ...]:
    tried = [(step.threshold, step.neurons_flipped) for step in outcome.steps]
    return outcome.threshold, outcome.flipped.tolist(), outcome.stop_reason, tried
