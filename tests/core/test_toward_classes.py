"""How outputs move the scores of classes, against networks of which that is known."""

import numpy as np
import pytest

from flain_core.in_memory import toward_classes as pushing
from flain_core.in_memory.cut_batch import pre_activation
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples
from flain_numpy import Dense, Network, ReLU, Sigmoid, Softmax

OUT, IN, CLASSES = 6, 4, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, IN)).astype(np.float32)
Y = np.arange(90) % CLASSES
FIRST = RNG.normal(size=(OUT, IN)).astype(np.float32)
LAST = RNG.normal(size=(CLASSES, OUT)).astype(np.float32)


def network(*between, last=LAST, after=()):
    return Network([Dense("first", FIRST), *between, Dense("last", last), *after])


def found(model, y=Y, x=X, updates=None, **options):
    scorer = LocalScorer(LocalSamples.of((x, y), **options), measure="auto", keeps_inputs=True)
    scorer.study(model, "first")
    return scorer.toward_classes(np.ones(OUT) if updates is None else updates)


def toward_of(model, *given, **options):
    return found(model, *given, **options)[0]


def expected(last):
    centred = last - last.mean(axis=0)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def test_a_linear_tail_is_found_but_for_a_little_noise():
    toward = toward_of(network())
    np.testing.assert_allclose(np.linalg.norm(toward, axis=1), 1.0)
    np.testing.assert_allclose(toward, expected(LAST), rtol=0, atol=0.02)


def test_probabilities_are_read_as_logits():
    np.testing.assert_allclose(
        toward_of(network(after=[Softmax()])), expected(LAST), rtol=0, atol=0.02
    )


def test_an_output_that_no_sample_activates_counts():
    """A trigger activates it, and a gradient on clean samples would be zero."""
    bias = np.zeros(OUT, dtype=np.float32)
    bias[2] = -1.05 * np.abs(X @ FIRST.T)[:, 2].max()
    model = Network([Dense("first", FIRST, bias), ReLU(), Dense("last", LAST)])
    assert (X @ FIRST.T + bias)[:, 2].max() < 0
    assert np.abs(toward_of(model)[:, 2]).max() > 0.1


def test_behind_a_relu_each_class_is_found():
    toward = toward_of(network(ReLU()))
    assert (np.sum(toward * expected(LAST), axis=1) > 0.8).all()


def test_only_classes_with_samples_count():
    last = np.concatenate([LAST, RNG.normal(size=(4, OUT)).astype(np.float32)])
    np.testing.assert_allclose(toward_of(network(last=last)), expected(LAST), rtol=0, atol=0.02)


@pytest.mark.parametrize("outputs", [None, "logits"])
def test_a_single_score_has_two_classes_that_oppose_each_other(outputs):
    toward = toward_of(network(last=3 * LAST[:1]), y=Y % 2, outputs=outputs)
    np.testing.assert_allclose(toward[0], -toward[1])
    own = LAST[0] / np.linalg.norm(LAST[0])
    np.testing.assert_allclose(toward[1], own, rtol=0, atol=0.02)


def test_a_class_that_the_outputs_do_not_move_is_left_out():
    last = LAST.copy()
    last[1] = 0
    last[2] = -last[0]
    toward, of_sample, labels = found(network(last=last))
    np.testing.assert_array_equal(of_sample, np.array([0, -1, 1])[Y])
    np.testing.assert_array_equal(labels, [0, 2])
    own = last[0] / np.linalg.norm(last[0])
    np.testing.assert_allclose(toward, [own, -own], rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (network(last=np.zeros_like(LAST)), {}),
        (network(), {"y": np.zeros(90, dtype=int)}),
        (network(), {"score": lambda scores, y: scores[:, 0]}),
    ],
)
def test_none_are_found_where_nothing_can_be_told(model, options):
    assert found(model, **options) is None


def test_none_are_found_where_a_push_ends_in_infinity(monkeypatch):
    monkeypatch.setattr(pushing, "_PUSH", 1e40)
    assert found(network(last=100 * LAST)) is None


class Fails:
    """Loses the scores of samples whose first output is far from 0, and counts them."""

    def __init__(self, limit):
        self.limit, self.lost = limit, 0

    def __call__(self, x):
        far = np.abs(x[:, :1]) > self.limit
        self.lost += np.count_nonzero(far)
        return np.where(far, np.nan, x)


@pytest.mark.parametrize("after", [[], [Softmax()]])
def test_pushes_that_end_in_infinity_are_passed_by_unless_they_are_most(after):
    seen = np.abs(X @ FIRST.T)[:, 0].max()
    some, most = Fails(1.5 * seen), Fails(1.001 * seen)
    toward = toward_of(network(some, after=after))
    np.testing.assert_allclose(toward, expected(LAST), rtol=0, atol=0.05)
    assert some.lost > 0
    large = Dense("first", np.vstack([FIRST[:1], 20 * FIRST[1:]]))
    last = Dense("last", LAST / 20)
    assert found(Network([large, most, last, *after])) is None


def test_an_output_that_moves_nothing_moves_the_less_the_larger_its_update():
    """What is flipped of it in the direction of a class is the product of both."""
    last = LAST.copy()
    last[:, 3] = 0
    for size in (1.0, 1e3, 1e6):
        updates = np.ones(OUT)
        updates[3] = size
        toward = toward_of(network(ReLU(), last=last), updates=updates)
        assert np.abs(toward[:, 3]).max() * size < 1.0
        usual = toward_of(network(ReLU(), last=last))
        np.testing.assert_allclose(np.delete(toward, 3, 1), np.delete(usual, 3, 1), atol=0.1)


@pytest.mark.parametrize("tiny", [1e-12, 1e-5])
def test_outputs_that_hardly_vary_or_were_hardly_trained_leave_the_pushes_as_they_are(tiny):
    """Most are like that here, as where units have died."""
    small = np.concatenate([tiny * RNG.normal(size=(7, IN)), FIRST[:5]]).astype(np.float32)
    last = np.concatenate([RNG.normal(size=(CLASSES, 7)), LAST[:, :5]], axis=1).astype(np.float32)
    updates = np.array(7 * [tiny] + 5 * [1.0])
    toward = toward_of(Network([Dense("first", small), Dense("last", last)]), updates=updates)
    np.testing.assert_allclose(toward, expected(last), rtol=0, atol=0.05)


class Near:
    """Passes on what is near to 0."""

    def __call__(self, x):
        return np.where(np.abs(x) < 100, x, 0)


def test_outputs_that_vary_far_more_than_others_leave_the_pushes_of_those_as_they_are():
    large, last = FIRST.copy(), LAST.copy()
    large[3] *= 1e6
    last[:, 3] = 0
    toward = toward_of(Network([Dense("first", large), Near(), Dense("last", last)]))
    np.testing.assert_allclose(toward, expected(last), rtol=0, atol=0.02)


def test_it_does_not_matter_how_samples_are_batched():
    one, many = found(network(ReLU())), found(network(ReLU()), batch_size=7)
    for ours, theirs in zip(one, many, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_few_samples_are_pushed_several_times():
    few = slice(0, 9)
    toward = toward_of(network(), y=Y[few], x=X[few])
    np.testing.assert_allclose(toward, expected(LAST), rtol=0, atol=0.1)


def test_fewer_outputs_than_classes_have_none_of_their_own():
    narrow = FIRST[:2], RNG.normal(size=(CLASSES, 2)).astype(np.float32)
    model = Network([Dense("first", narrow[0]), Dense("last", narrow[1])])
    assert found(model, updates=np.ones(2)) is None
    assert toward_of(model, y=np.minimum(Y, 1), updates=np.ones(2)).shape == (2, 2)


def test_samples_and_outputs_stay_as_they_are():
    before = X.copy()
    scorer = LocalScorer(LocalSamples.of((X, Y)), measure="auto", keeps_inputs=True)
    scorer.study(network(ReLU()), "first")
    outputs = [pre_activation(batch.cut).copy() for batch in scorer.batches]
    scorer.toward_classes(np.ones(OUT))
    np.testing.assert_array_equal(X, before)
    for batch, output in zip(scorer.batches, outputs, strict=True):
        np.testing.assert_array_equal(pre_activation(batch.cut), output)


def test_samples_that_are_alike_are_pushed_more_often():
    x, y = np.tile(X[:6], (15, 1)), np.tile(Y[:6], 15)
    np.testing.assert_allclose(toward_of(network(), y=y, x=x), expected(LAST), rtol=0, atol=0.05)


def test_an_output_much_larger_than_the_others_hides_none_of_them():
    large = FIRST * np.array([[1000], [1], [1], [1], [1], [1]], dtype=np.float32)
    last = LAST / np.array([1000, 1, 1, 1, 1, 1], dtype=np.float32)
    toward = toward_of(Network([Dense("first", large), Dense("last", last)]))
    np.testing.assert_allclose(toward, expected(last), rtol=0, atol=0.02)


def test_labels_of_a_score_of_the_callers_may_be_anything():
    y = np.array([{"class": int(one)} for one in Y], dtype=object)
    assert found(network(), y=y, score=lambda scores, y: scores[:, 0]) is None


def test_two_columns_from_one_sigmoid_are_read_as_that_is():
    """What a sure one lacks to 1 is rounded to 0, and no more sure than that."""
    sure = Network([Dense("first", FIRST), Dense("last", 40 * LAST[:1]), Sigmoid(), Both()])
    single = Network([Dense("first", FIRST), Dense("last", 40 * LAST[:1]), Sigmoid()])
    np.testing.assert_allclose(toward_of(sure, y=Y % 2), toward_of(single, y=Y % 2), atol=1e-6)


class Both:
    """Probabilities of both classes from that of class 1."""

    def __call__(self, x):
        return np.concatenate([1 - x, x], axis=1)
