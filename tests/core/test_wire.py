"""Questions that carry the trained model, for holders that keep nothing in between."""

from types import SimpleNamespace

import backdoored
import numpy as np
import pytest
from in_process import InProcess, as_elsewhere, split

import flain_core as flain
import flain_numpy
from flain_core.federated.coordinator import CoordinatedSamples
from flain_core.federated.holder import answered
from flain_core.federated.messages import ModelState, Question
from flain_core.federated.wire import read_answer, write_question, write_trained

CLEAN = backdoored.samples(300, seed=11)
UNTRAINED, FINAL = backdoored.networks()
QUESTION = Question("statistics", ModelState(layer="fc1"))


def asked(question):
    return write_question(question) | write_trained(FINAL)


class ByLetter(InProcess):
    """Holders that have the architecture and their samples, and nothing else."""

    def open(self, network):
        self.trained = write_trained(network)

    def ask(self, question):
        self.asked.append(question)
        letter = write_question(question) | self.trained
        size = len(self.parts[0][1])
        return {
            f"part {index:03}": read_answer(answered(letter, UNTRAINED, part, batch_size=size))
            for index, part in enumerate(self.parts)
        }


@pytest.mark.parametrize("layers", ["auto", "all"])
def test_the_answer_is_that_of_one_place(layers):
    parts, size = split(CLEAN, 3)
    before = flain_numpy.arrays_of(UNTRAINED)
    result = flain.purify(
        FINAL,
        initial=UNTRAINED,
        data=CoordinatedSamples(ByLetter(parts, lookahead=50)),
        layers=layers,
    )
    expected = flain.purify(
        FINAL,
        initial=UNTRAINED,
        data=CLEAN,
        batch_size=size,
        layers=layers,
        settings=as_elsewhere(),
    )
    for ours, theirs in zip(result.layers, expected.layers, strict=True):
        np.testing.assert_array_equal(ours.flipped, theirs.flipped)
    for name, each in flain_numpy.arrays_of(UNTRAINED).items():
        np.testing.assert_array_equal(each, before[name])


def test_a_model_of_another_architecture_is_refused():
    other = flain_numpy.Network([flain_numpy.Dense("fc1", np.zeros((3, 12)))])
    with pytest.raises(flain.WeightsError, match="the trained model: expected 1 arrays"):
        answered(asked(QUESTION), other, CLEAN)
    letter = asked(QUESTION)
    letter["trained 0"] = np.zeros((10, 13), np.float32)
    with pytest.raises(flain.WeightsError, match=r"shape \(10, 13\), the model's \(10, 12\)"):
        answered(letter, UNTRAINED, CLEAN)


def test_weights_that_are_not_finite_are_refused():
    letter = asked(QUESTION)
    letter["trained 2"] = np.full_like(letter["trained 2"], np.nan)
    with pytest.raises(flain.WeightsError, match=r"fc2.weight.* NaN"):
        answered(letter, UNTRAINED, CLEAN)


def test_a_question_without_a_model_is_refused():
    with pytest.raises(flain.DataError, match="arrays of the trained model"):
        answered(write_question(QUESTION), UNTRAINED, CLEAN)


def test_an_unknown_layer_is_refused():
    letter = asked(Question("statistics", ModelState(layer="fc9")))
    with pytest.raises(flain.LayerError, match="fc9"):
        answered(letter, UNTRAINED, CLEAN)


def test_a_model_that_cannot_be_had_as_arrays_is_refused_before_anything_is_asked():
    with pytest.raises(flain.ModelError, match="arrays_of"):
        write_trained(SimpleNamespace(native=object()))
