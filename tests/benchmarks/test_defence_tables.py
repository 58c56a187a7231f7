"""Tables of a matrix: hand-made results give numbers that were worked out by hand."""

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tomllib")

from defence import page, summary, tables, tables_of_runs, tables_of_samples
from made_matrix import Matrix, first, line, lines, row


@pytest.fixture
def matrix(tmp_path):
    return Matrix(tmp_path)


# --- Numbers ---------------------------------------------------------------------------------


def test_the_first_table_counts_clean_models_and_takes_means(matrix):
    # Drops of 0.5, 0.6 and 0 points; the last model has 2.1 % of ASR left.
    for seed, acc, asr in ((21, 0.895, 0.02), (22, 0.894, 0.0), (23, 0.9, 0.021)):
        matrix.run(matrix.add(row("mnist-patch", seed)), acc=acc, asr=asr)
    read = matrix.read()
    assert first(read, "MNIST, attacked: clean") == "1 of 3"
    assert first(read, "MNIST, attacked: mean drop of ACC, points") == "0.37"  # 1.1 / 3
    assert first(read, "MNIST, attacked: worst drop of ACC, points") == "0.60"
    assert first(read, "MNIST, attacked: mean ASR after, %") == "1.4"  # 4.1 / 3


def test_aware_robust_and_benign_rows_are_not_ordinary_ones(matrix):
    matrix.run(matrix.add(row("ordinary")), asr=0.1)
    matrix.run(matrix.add(row("aware", technique="freeze")), asr=0.5)
    matrix.run(matrix.add(row("robust", strategy="krum")), asr=0.9)
    matrix.run(matrix.add(row("benign", mcr=0.0), asr=0.0), asr=0.0, acc=0.88)
    read = matrix.read()
    assert first(read, "MNIST, attacked: mean ASR after, %") == "10.0"
    assert first(read, "MNIST, attackers who know flain: mean ASR after, %") == "50.0"
    assert first(read, "MNIST, no attacker: mean drop of ACC, points") == "2.00"


def test_each_target_has_a_line_with_the_attackers_that_know_flain(matrix):
    matrix.run(matrix.add(row("mnist-patch")), asr=0.0, acc=0.897)
    matrix.run(matrix.add(row("mnist-patch-t1", target=1)), asr=0.5, acc=0.89)
    matrix.run(matrix.add(row("mnist-freeze-t1", target=1, technique="freeze")), asr=0.0)
    matrix.run(matrix.add(row("cifar-t1", target=1, data="cifar", network="cifar")), asr=0.3)
    matrix.run(matrix.add(row("weak-t1", target=1), asr=0.5), asr=0.5)
    matrix.run(matrix.add(row("benign", mcr=0.0), asr=0.0), asr=0.0, acc=0.8)
    text = tables.targets(matrix.read())
    assert line(text, data="MNIST", target="5") == {
        "data": "MNIST",
        "target": "5",
        "models": "1",
        "mean ASR before, %": "100.0",
        "mean ASR after, %": "0.0",
        "clean": "1 of 1",
        "mean drop of ACC, points": "0.30",
    }
    of_one = line(text, data="MNIST", target="1")
    assert (of_one["models"], of_one["mean ASR after, %"], of_one["clean"]) == (
        "2",
        "25.0",
        "1 of 2",
    )
    assert of_one["mean drop of ACC, points"] == "0.50"
    assert line(text, data="CIFAR-10", target="1")["mean ASR after, %"] == "30.0"


def test_an_attack_that_did_not_take_is_left_out_of_means_and_named(matrix):
    for seed, before, after in ((21, 0.8, 0.1), (22, 0.79, 0.7)):
        made = matrix.add(row("mnist-patch", seed), asr=before)
        matrix.run(made, asr_before=before, asr=after)
    read = matrix.read()
    found = line(tables.attacks(read), row="mnist-patch")
    assert found["seeds"] == "1; 1 did not take"
    assert found["ASR after, %"] == "10.0"
    assert first(read, "MNIST, attacked: mean ASR after, %") == "10.0"
    assert lines(tables.untaken(read)) == [
        {"row": "mnist-patch-s22", "ASR before any defence, %": "79.0"}
    ]


def test_deviations_are_of_a_sample(matrix):
    for seed, acc, wrong in ((21, 0.86, 100), (22, 0.88, 300)):
        matrix.run(matrix.add(row("mnist-patch", seed)), acc=acc, newly_wrong=wrong)
    found = line(tables.attacks(matrix.read()), row="mnist-patch")
    assert found["ACC after, %"] == "87.0 ± 1.4"  # sqrt(2)
    assert found["newly wrong, %"] == "2.00 ± 1.41"
    assert found["neurons flipped"] == "10 ± 0"


def test_shares_of_newly_wrong_images_know_how_many_test_images_there_are():
    federation = pytest.importorskip("defence.federation")
    assert len(federation.divided("digits", 21).test) == summary.TEST_IMAGES["digits"]


def test_rivals_are_compared_on_rows_where_none_is_missing(matrix):
    both, one = (matrix.add(row("mnist-patch", seed)) for seed in (21, 22))
    matrix.run(both, der=0.9)
    matrix.run(one, der=0.1)
    matrix.run(both, "nft", der=0.7, acc=0.87, asr=0.3, cpu_seconds=4.0)
    matrix.run(one, "nft", done=False)
    for each in (both, one):
        matrix.run(each, "clp", info={"refused": "NotApplicable: no batch | norm"})
    text = tables.rivals(matrix.read(), summary.is_mnist)
    assert line(text, defence="flain")["mean DER"] == "0.900"
    assert line(text, defence="nft") == {
        "defence": "nft",
        "rows": "1 (2 planned)",
        "refused": "0",
        "mean DER": "0.700",
        "mean drop of ACC, points": "3.00",
        "worst drop, points": "3.00",
        "mean ASR after, %": "30.0",
        "CPU seconds": "4.0",
    }
    refused = line(text, defence="clp")
    assert (refused["refused"], refused["mean DER"]) == ("1", "—")
    assert "| clp | 2 | NotApplicable: no batch \\| norm |" in tables.refusals(matrix.read())


def test_rows_that_are_planned_with_some_rivals_only_are_not_compared(matrix):
    both, one = (matrix.add(row("mnist-patch", seed)) for seed in (21, 22))
    for each, names in ((both, ("flain", "nft", "anp")), (one, ("flain", "nft"))):
        for name in names:
            matrix.run(each, name, der=0.9 if each is both else 0.1)
    text = tables.rivals(matrix.read(), summary.is_mnist)
    for name in ("flain", "nft", "anp"):
        found = line(text, defence=name)
        assert (found["rows"], found["mean DER"]) == ("1", "0.900")


def test_a_sentence_says_who_is_foremost_among_rivals(matrix):
    made = matrix.add(row("mnist-patch"))
    matrix.run(made, "nft", done=False)
    assert "yet" in tables.foremost(matrix.read(), summary.is_mnist)
    matrix.run(made, der=0.9)
    matrix.run(made, "nft", der=0.7)
    matrix.run(made, "clp", info={"refused": "NotApplicable: no batch norm"})
    said = tables.foremost(matrix.read(), summary.is_mnist)
    assert said == "The greatest mean DER is that of flain (0.900); next comes nft (0.700)."
    matrix.run(made, "anp", der=0.95)
    said = tables.foremost(matrix.read(), summary.is_mnist)
    assert said == "The greatest mean DER is that of anp (0.950); flain is in place 2 of 3."


def test_robust_strategies_keep_attacks_that_they_kept_from_taking(matrix):
    made = matrix.add(row("krum", strategy="krum"), asr=0.3)
    matrix.run(made, asr_before=0.3, asr=0.1)
    matrix.run(matrix.add(row("plain")), asr=0.2)
    matrix.run(matrix.add(row("other", trigger="sig")), asr=0.9)
    text = tables.strategies(matrix.read())
    assert "| krum | patch | 1 | 90.0 | 90.0 | 30.0 | 10.0 | 0.00 |" in text
    assert [each["strategy"] for each in lines(text)] == ["fedavg", "krum"]


def test_sizes_are_compared_on_rows_that_have_them_all(matrix):
    whole, part = matrix.add(row("whole")), matrix.add(row("part"))
    matrix.run(whole, samples=10, acc=0.8)
    matrix.run(whole, samples=800, acc=0.89)
    matrix.run(part, samples=800, acc=0.1)
    text = tables_of_samples.sizes(matrix.read())
    assert [(each["samples"], each["attacked: mean"]) for each in lines(text)] == [
        ("10", "10.00"),
        ("800", "1.00"),
    ]


def test_draws_deviate_around_their_own_model(matrix):
    for seed, drops in ((21, (0.01, 0.03)), (22, (0.05, 0.05))):
        made = matrix.add(row("mnist-patch", seed))
        for draw, lost in enumerate(drops):
            matrix.run(made, draw=draw, acc=0.9 - lost)
    (found,) = lines(tables_of_samples.draws(matrix.read()))
    assert found["deviation between draws, points"] == "0.71"  # (sqrt(2) + 0) / 2
    assert (found["mean drop of ACC, points"], found["worst"]) == ("3.50", "5.00")


def test_shifted_samples_stand_beside_clean_ones_of_the_same_rows(matrix):
    made, other = matrix.add(row("made")), matrix.add(row("other"))
    matrix.run(made, asr=0.01)
    matrix.run(other, asr=0.9)
    matrix.run(made, kind="poisoned", asr=0.6)
    text = tables_of_samples.shifted(matrix.read())
    assert line(text, samples="clean")["mean ASR after, %"] == "1.0"
    assert line(text, samples="poisoned")["mean ASR after, %"] == "60.0"
    assert line(text, samples="noisy")["mean ASR after, %"] == ""


def test_a_promise_is_broken_by_more_newly_wrong_images_than_it_allows(matrix):
    promise = {"loss": 0.01, "confidence": 0.95, "samples": 300, "allowed": 0}
    made = matrix.add(row("mnist-patch"))
    for draw, wrong in enumerate((100, 101, 40)):  # of 10,000
        matrix.run(made, draw=draw, newly_wrong=wrong, info={"promise": promise})
    matrix.run(made, draw=3)
    matrix.run(made, draw=4, info={"promise": "at most 1.0 %"})
    matrix.run(made, kind="noisy", newly_wrong=900, info={"promise": promise})
    text = tables_of_runs.promises(matrix.read())
    assert line(text, samples="800, clean") == {
        "samples": "800, clean",
        "runs": "5 (1 of a version that kept no number)",
        "with a promise": "3",
        "mean promised loss, %": "1.00",
        "mean newly wrong, %": "0.80",  # 241 / 3 / 10,000
        "broken": "1 of 3",
    }
    assert line(text, samples="shifted or poisoned")["broken"] == "1 of 1"


def test_verdicts_stand_against_what_is_left(matrix):
    for seed, rate in enumerate((0.02, 0.2, 0.5), start=21):
        matrix.run(matrix.add(row("mnist-patch", seed)), asr=rate)
    matrix.run(matrix.add(row("benign", mcr=0.0), asr=0.0), info={"verdict": "hardly flipped"})
    text = tables_of_runs.verdicts(matrix.read())
    assert "| flipped | 3 | 1 | 1 | 1 | 24.0 | 0 |" in text
    assert "| hardly flipped | 0 | 0 | 0 | 0 | — | 1 |" in text


def test_what_was_flipped_for_a_class_stands_against_what_is_left(matrix):
    def told(of_class, share):
        return {"verdict": "flipped", "class_share": {"class": of_class, "share": share}}

    for seed, rate, info in (
        (21, 0.02, told(5, 0.35)),
        (22, 0.5, told(5, 0.49)),
        (23, 0.9, told(1, 0.4)),
        (24, 0.0, told(5, 0.9)),
        (25, 0.7, {"verdict": "flipped", "class_share": None}),
    ):
        matrix.run(matrix.add(row("mnist-patch", seed)), asr=rate, info=info)
    matrix.run(matrix.add(row("benign", mcr=0.0), asr=0.0), info=told(5, 0.36))
    text = tables_of_runs.class_shares(matrix.read())
    assert "| 22 to 35 | 0 | 0 | — | 0 | 0 | — | 0 |" in text
    assert "| 35 to 50 | 2 | 1 | 26.0 | 1 | 0 | 90.0 | 1 |" in text
    assert "| 50 and more | 1 | 1 | 0.0 | 0 | 0 | — | 0 |" in text


def test_relearning_has_a_number_for_each_seed(matrix):
    series = ((21, [0.1, 0.9], 2), (22, [0.2, 0.3, 0.3, 0.4, 0.5], None))
    for seed, rates, rounds in series:
        found = {"asr": rates, "rounds": rounds}
        matrix.run(matrix.add(row("mnist-patch", seed)), deep=True, relearning=found)
    matrix.run(matrix.add(row("mnist-patch", 23)), deep=True, done=False)
    text = tables_of_runs.relearning(matrix.read())
    assert "| mnist-patch | flain | 800 | 2, not in 5, — | 15.0 | 70.0 |" in text


# --- What is missing ---------------------------------------------------------------------------


def test_what_is_missing_is_a_dash_and_never_guessed(matrix):
    matrix.run(matrix.add(row("mnist-patch", 21)), asr=0.1)
    matrix.run(matrix.add(row("mnist-patch", 22)), done=False)
    matrix.run(matrix.add(row("mnist-patch", 23), trained=False), done=False)
    matrix.run(matrix.add(row("vit", network="vit")), done=False)
    read = matrix.read()
    assert first(read, "MNIST, attacked: mean ASR after, %") == "10.0 (1 of 3)"
    assert first(read, "MNIST, attacked: clean") == "0 of 1 (3 planned)"
    assert first(read, "MNIST with a vision transformer, attacked: clean") == "—"
    # Not planned: not even a line.
    assert "CIFAR" not in tables.first(read)
    text = page.page(read, ())
    assert text.split("\n\n")[1].startswith("**The matrix is incomplete.** 3 of 4 rows")
    assert "1 of 4 results" in text


def test_a_whole_matrix_says_nothing_of_gaps(matrix):
    matrix.run(matrix.add(row("mnist-patch")))
    assert page.missing(matrix.read()) is None
    assert "incomplete" not in page.page(matrix.read(), ())


def test_results_of_another_row_are_missing(matrix):
    made = matrix.add(row("mnist-patch"))
    matrix.run(made)
    matrix.rows[made.name] = row("mnist-patch", attacked=9)
    read = matrix.read()
    assert (dict(read.trained), dict(read.outcomes)) == ({}, {})
