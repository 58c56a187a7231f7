"""Messages of anybody end in what they say, or in one error; nothing else comes of them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import flain_numpy as fn
from flain_core import FlainError
from flain_core.federated.checks import check_answer
from flain_core.federated.holder import answered
from flain_core.federated.messages import Answer, ModelState, Question, Task
from flain_core.federated.wire import read_answer, read_question, write_question, write_trained

NETWORK = fn.Network(
    [
        fn.Dense("fc1", np.ones((4, 6), np.float32)),
        fn.ReLU(),
        fn.Dense("fc2", np.eye(3, 4, dtype=np.float32)),
    ]
)
SAMPLES = np.random.default_rng(0).random((9, 6)).astype(np.float32), np.arange(9) % 3
ASKED = [
    write_question(
        Question(
            task,
            ModelState(
                layer="fc1", initial=np.zeros((4, 6), np.float32), order=np.array([2, 0, 5])
            ),
            (0, 1, 3) if task == "candidates" else (),
            loss=True,
        )
    )
    | write_trained(NETWORK)
    for task in Task.__args__
]
ANSWERED = [answered(arrays, NETWORK, SAMPLES) for arrays in ASKED]
DTYPES = st.one_of(
    arrays_of.floating_dtypes(),
    arrays_of.integer_dtypes(),
    arrays_of.unsigned_integer_dtypes(),
    arrays_of.boolean_dtypes(),
    arrays_of.complex_number_dtypes(),
    arrays_of.unicode_string_dtypes(),
    arrays_of.datetime64_dtypes(),
    st.just(np.dtype([("a", "f4")])),
)
TEXTS = st.text(max_size=40).map(
    lambda text: np.frombuffer(text.encode(errors="replace"), np.uint8)
)
VALUES = st.one_of(
    DTYPES.flatmap(
        lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, max_side=4))
    ),
    TEXTS,
    st.sampled_from([None, 0, "text", [1, 2], {}]),
)


def changed(letters):
    """One of some letters, in which some entries are others or gone."""
    names = sorted({name for letter in letters for name in letter} | {"weight of fc1", "trained 9"})
    changes = st.dictionaries(st.sampled_from(names), st.none() | VALUES, min_size=1, max_size=3)
    return st.tuples(st.sampled_from(letters), changes).map(lambda pair: pair[0] | pair[1])


@settings(max_examples=300)
@given(changed(ASKED))
def test_a_question_is_read_and_answered_or_refused(letter):
    try:
        question = read_question(letter)
        answer = answered(letter, NETWORK, SAMPLES)
    except FlainError:
        return
    assert question.task in Task.__args__
    assert isinstance(read_answer(answer), Answer)


@settings(max_examples=300)
@given(changed(ANSWERED), st.sampled_from(Task.__args__))
def test_an_answer_is_read_and_may_be_true_or_is_refused(letter, task):
    question = Question(task, ModelState(layer="fc1"), (0, 1, 3), loss=True)
    try:
        answer = read_answer(letter)
        layer = NETWORK.layers()["fc1"]
        check_answer(answer, question, layer=layer, probes=(), classify=True)
    except FlainError:
        return
    for scored in answer.scored:
        assert 0 <= scored.clean.total <= scored.clean.count
