"""Scores are recognised where that is safe, and their probabilities are right."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flain_core.errors import DataError, ModelError, SettingsError
from flain_core.outputs import Reading
from flain_core.score import accuracy

LOGITS = np.array([[2.0, -1.0, 0.5], [0.1, 3.0, -4.0]], dtype=np.float32)
ORDINARY = Reading("logits", single=False, stated=False)


def softmax(logits):
    shifted = np.exp(logits.astype(np.longdouble) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


many_logits = st.integers(2, 5).flatmap(
    lambda classes: arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.just(classes)),
        elements=st.floats(-90, 90, width=32),
    )
)


def test_ordinary_logits_are_read_without_a_word():
    reading = Reading.of(LOGITS)
    assert reading == ORDINARY
    assert reading.note is None
    assert reading.by_class(LOGITS) is LOGITS


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 3, 100])
def test_probabilities_are_recognised_in_any_precision(dtype, classes):
    logits = np.random.default_rng(0).normal(0, 3, (200, classes))
    scores = softmax(logits).astype(dtype)
    reading = Reading.of(scores)
    assert (reading.outputs, reading.single, reading.stated) == ("probabilities", False, False)
    assert "sum to one" in reading.note
    assert 'outputs="logits"' in reading.note
    assert reading.by_class(scores) is scores


def test_half_precision_may_err_more():
    scores = np.array([[0.7, 0.305], [0.5, 0.5]])
    assert Reading.of(scores).outputs == "logits"
    assert Reading.of(scores.astype(np.float16)).outputs == "probabilities"
    assert Reading.of(scores, "probabilities").outputs == "probabilities"


def test_a_single_row_that_is_no_probability_makes_all_logits():
    scores = np.array([[0.25, 0.75], [0.4, 0.6], [0.5, 0.7]])
    assert Reading.of(scores[:2]).outputs == "probabilities"
    reading = Reading.of(scores)
    assert reading.outputs == "logits"
    assert "do not sum to one" in reading.note
    assert Reading.of(np.array([[0.25, 0.75], [-0.5, 1.5]])).outputs == "logits"


def test_several_sigmoids_are_read_as_logits_and_the_note_says_what_to_do():
    scores = sigmoid(LOGITS)
    reading = Reading.of(scores)
    assert (reading.outputs, reading.doubtful) == ("logits", True)
    assert 'state outputs="logits"' in reading.note
    assert "by their sum" in reading.note
    assert Reading.of(scores, "logits").note is None
    with pytest.raises(DataError, match=r"off by .*divide the scores of each sample by their sum"):
        Reading.of(scores, "probabilities")
    normalised = scores / scores.sum(axis=1, keepdims=True)
    assert Reading.of(normalised, "probabilities").outputs == "probabilities"


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_output_is_a_logit_as_soon_as_one_score_is_outside(shape):
    z = np.array([-3.0, 0.25, 0.5, 0.75], dtype=np.float32).reshape(shape)
    reading = Reading.of(z)
    assert (reading.outputs, reading.single) == ("logits", True)
    assert "logit of class 1" in reading.note
    by_class = reading.by_class(z)
    assert by_class.dtype == z.dtype
    np.testing.assert_array_equal(by_class, np.stack([np.zeros(4), z.ravel()], axis=1))


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_output_inside_is_a_probability(shape):
    p = np.array([0.0, 0.25, 0.5, 1.0], dtype=np.float16).reshape(shape)
    reading = Reading.of(p)
    assert (reading.outputs, reading.single) == ("probabilities", True)
    assert "probability of class 1" in reading.note
    by_class = reading.by_class(p)
    assert by_class.dtype == p.dtype
    np.testing.assert_array_equal(by_class, [[1, 0], [0.75, 0.25], [0.5, 0.5], [0, 1]])
    assert Reading.of(p, "logits") == Reading("logits", single=True, stated=True)


def test_one_output_and_two_say_the_same():
    z = np.random.default_rng(1).normal(0, 3, (50, 1))
    y = np.random.default_rng(2).integers(0, 2, 50)
    two = np.concatenate([-z / 2, z / 2], axis=1)
    results = []
    for scores in (z, z[:, 0], two, sigmoid(z), sigmoid(two - two[:, ::-1])):
        reading = Reading.of(scores)
        by_class = reading.by_class(scores)
        results.append(reading.of_true_class(by_class, y))
        np.testing.assert_array_equal(accuracy(by_class, y), (z[:, 0] > 0) == y)
    for result in results:
        np.testing.assert_allclose(result, results[0], atol=1e-12)


def test_rounding_beyond_one_is_still_a_probability():
    p = np.array([np.nextafter(np.float32(1), np.float32(2)), 0.5], dtype=np.float32)
    reading = Reading.of(p)
    assert reading.outputs == "probabilities"
    np.testing.assert_array_equal(
        reading.of_true_class(reading.by_class(p), np.array([1, 1])), [1, 0.5]
    )


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (LOGITS, "the model gave a score of -4. State outputs"),
        (np.array([0.5, 1.5]), "a score of 1.5"),
        (np.array([[0.5, 0.4]]), "off by 0.1"),
    ],
)
def test_what_is_stated_to_be_probabilities_has_to_be(scores, words):
    with pytest.raises(DataError, match="as stated") as caught:
        Reading.of(scores, "probabilities")
    assert words in str(caught.value)


def test_what_is_stated_is_one_of_two():
    with pytest.raises(SettingsError, match="Did you mean 'logits'"):
        Reading.of(LOGITS, "logit")


@pytest.mark.parametrize("scores", [[[0.1, 0.9]], np.array(0.5), np.array([[1, 2]])])
def test_scores_have_to_be_an_array_of_floats(scores):
    for ask in (
        lambda: Reading.of(scores),
        lambda: ORDINARY.by_class(scores),
        lambda: ORDINARY.of_true_class(scores, np.array([0])),
    ):
        with pytest.raises(ModelError, match="floating-point numbers"):
            ask()


@pytest.mark.parametrize("shape", [(2, 0), (2, 3, 4), (2, 1, 1)])
def test_scores_of_another_shape_are_refused(shape):
    with pytest.raises(
        DataError, match=r"\(2, classes\).*\(2,\) or \(2, 1\).*give a score function"
    ):
        Reading.of(np.zeros(shape))


def test_scores_have_to_keep_the_shape_that_was_read():
    with pytest.raises(DataError, match="one score per class"):
        ORDINARY.by_class(np.zeros((4, 1)))
    with pytest.raises(DataError, match="one output"):
        Reading("logits", single=True, stated=False).by_class(np.zeros((4, 2)))
    with pytest.raises(DataError, match="one score per class"):
        ORDINARY.of_true_class(LOGITS, np.array([0, 1, 2]))
    with pytest.raises(DataError, match="one score per class"):
        ORDINARY.of_true_class(np.zeros(2), np.array([0, 1]))
    with pytest.raises(DataError, match=r"labels from 0 to 2.*got 3.*subtract 1"):
        ORDINARY.of_true_class(LOGITS, np.array([0, 3]))


def test_no_samples_say_nothing():
    with pytest.raises(DataError, match="at least one sample"):
        Reading.of(np.zeros((0, 3)))
    assert ORDINARY.of_true_class(np.zeros((0, 3)), np.zeros(0, dtype=np.int64)).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_have_to_be_finite(bad):
    scores = LOGITS.copy()
    scores[0, 1] = bad
    with pytest.raises(DataError, match="NaN or infinity"):
        Reading.of(scores)
    for outputs in ("logits", "probabilities"):
        with pytest.raises(DataError, match="NaN or infinity"):
            Reading(outputs, single=False, stated=True).of_true_class(scores, np.array([0, 1]))


@given(many_logits, st.data())
def test_the_probability_of_the_true_class_is_the_softmax(logits, data):
    y = data.draw(arrays(np.int64, len(logits), elements=st.integers(0, logits.shape[1] - 1)))
    expected = softmax(logits)[np.arange(len(y)), y]
    for dtype, exact in ((np.float32, 1e-6), (np.float64, 1e-13)):
        got = ORDINARY.of_true_class(logits.astype(dtype), y)
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, expected.astype(np.float64), atol=exact, rtol=0)


@pytest.mark.parametrize("classes", [2, 3, 5, 10, 17, 1000])
def test_scores_far_apart_raise_no_warning(classes):
    logits = np.full((7, classes), 3e38, dtype=np.float32)
    logits[:, 1] = np.linspace(-3e38, 3e38, 7)
    got = ORDINARY.of_true_class(logits, np.ones(7, dtype=np.int64))
    np.testing.assert_allclose(got, [0] * 6 + [1 / classes], atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("classes", [10, 1000, 50_000])
@pytest.mark.parametrize("spread", [0, 0.1, 4, 30])
def test_few_digits_are_enough_for_many_classes(dtype, classes, spread):
    rng = np.random.default_rng(3)
    logits = rng.normal(0, spread, (20, classes)).astype(dtype)
    for y in (rng.integers(0, classes, 20), logits.argmax(axis=1)):
        expected = softmax(logits)[np.arange(20), y].astype(np.float64)
        np.testing.assert_allclose(ORDINARY.of_true_class(logits, y), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_largest_numbers_do_not_overflow(dtype):
    most = np.finfo(dtype).max
    logits = np.array([[-most, most], [most, -most], [most, most]], dtype=dtype)
    before = logits.copy()
    got = ORDINARY.of_true_class(logits, np.array([0, 0, 1]))
    np.testing.assert_allclose(got, [0, 1, 0.5], atol=1e-20)
    assert got[1] == 1
    np.testing.assert_array_equal(logits, before)


class Complaining(np.ndarray):
    """An array of which a matrix product complains, unless nobody listens."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if ufunc is np.matmul and np.geterr()["invalid"] != "ignore":
            warnings.warn("invalid value encountered in matmul", RuntimeWarning, stacklevel=2)
        plain = [np.asarray(each) for each in inputs]
        if "out" in options:
            options["out"] = tuple(map(np.asarray, options["out"]))
        result = getattr(ufunc, method)(*plain, **options)
        return result.view(Complaining) if isinstance(result, np.ndarray) else result


def test_what_a_library_finds_behind_an_array_is_nobody_s_concern():
    reading = Reading("logits", single=False, stated=True)
    logits = np.zeros((30, 5), np.float32).view(Complaining)
    np.testing.assert_allclose(reading.of_true_class(logits, np.zeros(30, int)), 0.2)


@given(many_logits, st.floats(1e-7, 60), st.integers(0, 2**32 - 1), st.booleans())
def test_the_sum_is_off_by_no_more_than_is_said(logits, error, seed, single):
    rng = np.random.default_rng(seed)
    exact = logits.astype(np.float64)
    if single:
        exact = exact[:, 0]
    reading = Reading("logits", single=single, stated=True)
    shape = (len(logits), 2 if single else logits.shape[1])
    y = rng.integers(0, shape[1], len(logits))
    bound = reading.uncertainty(
        reading.of_true_class(reading.by_class(exact.astype(np.float32)), y), error
    )
    total = reading.of_true_class(reading.by_class(exact), y).sum()
    # Where it hurts most: all up but the true class, or all down.
    own = np.zeros(shape)
    own[np.arange(len(y)), y] = 1
    if single:
        worst = 1 - 2 * own[:, 0]
        offs = [worst, -worst, rng.uniform(-1, 1, exact.shape)]
    else:
        offs = [1 - 2 * own, 2 * own - 1, rng.uniform(-1, 1, exact.shape)]
    for off in offs:
        moved = reading.of_true_class(reading.by_class(exact + error * off), y).sum()
        assert abs(moved - total) <= bound + 1e-9


def test_the_bound_is_reached():
    logits = np.array([[0.3, -0.2, 1.0], [4.0, 0.0, 0.0], [-4.0, 0.0, 0.0]])
    y = np.array([0, 0, 0])
    p = ORDINARY.of_true_class(logits, y)
    moved = [
        ORDINARY.of_true_class(logits + sign * np.array([0.01, -0.01, -0.01]), y)
        for sign in (1, -1)
    ]
    reached = np.max(np.abs(np.array(moved) - p), axis=0).sum()
    assert reached == pytest.approx(ORDINARY.uncertainty(p, 0.01), rel=1e-4)


def test_uncertainty_at_the_ends():
    p = np.array([0.0, 0.5, 1.0])
    given_as = Reading("probabilities", single=False, stated=True)
    assert given_as.uncertainty(p, 0.25) == 0.75
    assert given_as.uncertainty(p, 7) == 3
    for reading in (given_as, ORDINARY):
        assert reading.uncertainty(p, 0) == 0
        assert reading.uncertainty(p, np.inf) == 3
        for bad in (-1, np.nan):
            with pytest.raises(DataError, match="at least 0"):
                reading.uncertainty(p, bad)
    assert ORDINARY.uncertainty(p, 1e-5) < 1e-4
