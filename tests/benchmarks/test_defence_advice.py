"""Advice that is computed from results, on hand-made ones."""

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tomllib")

from defence import advice
from made_matrix import Matrix, row


@pytest.fixture
def matrix(tmp_path):
    return Matrix(tmp_path)


def test_advice_without_results_is_none(matrix):
    matrix.run(matrix.add(row("mnist-patch")), done=False)
    read = matrix.read()
    for say in (advice.samples, advice.layer, advice.company, advice.poisoned):
        assert "Unknown" in say(read)


def test_advice_says_how_many_samples(matrix):
    made = matrix.add(row("mnist-patch"))
    for samples, acc in ((100, 0.8), (300, 0.9), (800, 0.9)):
        matrix.run(made, samples=samples, acc=acc)
    said = advice.samples(matrix.read())
    assert "give it 300" in said
    assert said.startswith("Of 800, 300 and 100 samples")
    assert "no number left" not in said
    assert "with 100 it was 0 % of 1, and the worst drop of ACC 10.00 points" in said
    assert "With 100, 300 or 800 samples flain promised nothing." in said


@pytest.mark.parametrize(
    ("left", "says"), [(0.9, "A backdoor in other layers stays"), (0.1, "The default was enough")]
)
def test_advice_on_layers_follows_the_attackers_who_leave_one_alone(left, says, matrix):
    matrix.run(matrix.add(row("freeze", technique="freeze")), asr=left)
    said = advice.layer(matrix.read())
    assert said.startswith(says)
    assert f"{100 * left:.0f} % on average" in said
    assert "(`fc1`)" in said


def test_advice_on_layers_counts_the_models_in_which_a_backdoor_stays(matrix):
    for name, left in (("freeze-a", 0.0), ("freeze-b", 0.3), ("freeze-c", 0.0)):
        matrix.run(matrix.add(row(name, technique="freeze")), asr=left)
    said = advice.layer(matrix.read())
    assert said.startswith("The default was mostly enough")
    assert "10 % on average, and more than 20 % in 1 of 3 models" in said


def test_advice_names_the_strategy_that_leaves_least_with_flain(matrix):
    matrix.run(matrix.add(row("plain")), asr=0.3)
    matrix.run(matrix.add(row("krum", strategy="krum"), asr=0.4), asr_before=0.4, asr=0.2)
    matrix.run(matrix.add(row("bulyan", strategy="bulyan")), asr_before=0.9, asr=0.1)
    said = advice.company(matrix.read())
    assert "bulyan followed by flain left the least ASR, 10 % on average" in said
    assert "where bulyan alone left 90 %; FedAvg followed by flain left 30 %" in said
    assert "Alone, no robust strategy left less than 40 %" in said


def test_advice_says_so_where_a_robust_strategy_adds_nothing(matrix):
    matrix.run(matrix.add(row("plain")), asr=0.03)
    matrix.run(matrix.add(row("krum", strategy="krum")), asr_before=0.9, asr=0.01)
    said = advice.company(matrix.read())
    assert said.startswith("Before flain, no robust strategy was worth much more than FedAvg")
    assert "a mean ASR of 3 %, and the best of the others, krum followed by flain, 1 %" in said


@pytest.mark.parametrize(
    ("left", "said"),
    [((0.8, 0.525, 0.5), "50, 52.5, 80 %, so give it 800."), ((0.8, 0.79, 0.8), "80, 79, 80 %.")],
)
def test_advice_names_data_on_which_no_number_of_samples_helps(left, said, matrix):
    good, bad = matrix.add(row("good")), matrix.add(row("cifar", data="cifar", network="cifar"))
    for samples, asr in zip((100, 300, 800), left, strict=True):
        matrix.run(good, samples=samples)
        matrix.run(bad, samples=samples, asr=asr)
    assert (
        "On CIFAR-10 no number left a clean model; the mean ASR after with 800, 300 and 100 "
        f"samples was: CIFAR-10 {said}"
    ) in advice.samples(matrix.read())


def test_advice_names_where_flain_fails_and_where_it_costs(matrix):
    matrix.run(matrix.add(row("bad")), asr=0.21)
    matrix.run(matrix.add(row("good")), asr=0.2)
    matrix.run(matrix.add(row("dear", mcr=0.0), asr=0.0), acc=0.885)
    read = matrix.read()
    assert advice.alive(read) == "Mean ASR after over 20 %: `bad` (21 %)."
    assert advice.dear(read) == "Mean drop of ACC over 1 point: `dear` (1.50 points)."


@pytest.mark.parametrize(("left", "says"), [(0.5, "matters"), (0.02, "did not matter")])
def test_advice_on_poisoned_samples_follows_the_results(left, says, matrix):
    made = matrix.add(row("mnist-patch"))
    matrix.run(made, asr=0.01)
    matrix.run(made, kind="poisoned", asr=left)
    said = advice.poisoned(matrix.read())
    assert says in said
    assert f"{100 * left:.0f} %" in said
    assert said.endswith("as means over 1 models.")
