"""The page of a matrix: hand-made results give numbers that were worked out by hand."""

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tomllib")

from defence import (
    advice,
    page,
    page_on_rivals,
    plots,
    rows,
    stored,
    summary,
    tables,
    tables_of_runs,
    tables_of_samples,
)
from defence.rows import Cell, Profile, Row

ROOT = Path(__file__).parents[2]

VERSIONS = {"torch": "1", "flwr": "2", "numpy": "3"}
ORIGIN = {"commit": "abc", "machine": "a machine", "versions": VERSIONS}


def row(name, seed=21, **fields):
    defaults = {"data": "mnist", "network": "mnist", "mcr": 0.3, "seed": seed}
    return Row(f"{name}-s{seed}", **{**defaults, **fields})


class Matrix:
    """Rows and cells, some of them with results in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.rows = {}
        self.cells = []

    def add(self, row, asr=1.0, acc=0.9, trained=True):
        self.rows[row.name] = row
        if trained:
            content = {"key": row.key, "acc": acc, "asr": asr, "row": {"seed": row.seed}, **ORIGIN}
            self._write(f"rows/{row.name}.json", content)
        return row

    def run(self, row, defence="flain", samples=800, *, done=True, info=None, **fields):
        """``fields`` are the cell's, and after them the result's; the rest is made up."""
        of_cell = {name: fields.pop(name) for name in ("draw", "kind", "deep") if name in fields}
        cell = Cell(row.name, defence, samples, **of_cell)
        self.cells.append(cell)
        told = {"flipped": {"fc1": 10}, "promise": None, "verdict": "flipped", "version": "0.2"}
        content = {"key": row.key, "info": told if info is None else told | info, **ORIGIN}
        rates = {"acc_before": 0.9, "acc": 0.9, "asr_before": 1.0, "asr": 0.0, "ra": 0.8}
        content |= rates | {"der": 1.0, "newly_wrong": 0, "cpu_seconds": 2.0} | fields
        if done:
            self._write(f"cells/{cell.name}.json", content)

    def _write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    def read(self):
        return stored.read(Profile("made", self.rows, tuple(self.cells)), self.folder)


@pytest.fixture
def matrix(tmp_path):
    return Matrix(tmp_path)


def lines(text):
    """A Markdown table's lines, cells by head."""
    heads, _, *rest = (
        [cell.strip() for cell in line[1:-1].split(" | ")] for line in text.split("\n")
    )
    return [dict(zip(heads, cells, strict=True)) for cells in rest]


def line(text, **wanted):
    (found,) = (
        each for each in lines(text) if all(each[head] == value for head, value in wanted.items())
    )
    return found


def first(read, label):
    return line(tables.first(read), **{"": label})["flain, 800"]


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


# --- Advice --------------------------------------------------------------------------------------


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


def test_advice_names_data_on_which_no_number_of_samples_helps(matrix):
    good, bad = matrix.add(row("good")), matrix.add(row("cifar", data="cifar", network="cifar"))
    for samples in (100, 300, 800):
        matrix.run(good, samples=samples)
        matrix.run(bad, samples=samples, asr=0.5)
    assert "On CIFAR-10 no number left a clean model." in advice.samples(matrix.read())


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


# --- Files -------------------


def whole(matrix):
    """Results for every section and every figure."""
    made = matrix.add(row("mnist-patch"))
    relearning = {"asr": [0.9], "rounds": 1}
    matrix.run(made, deep=True, path=[1.0, 0.5, 0.0], relearning=relearning)
    matrix.run(made, samples=300)
    matrix.run(made, "nft", acc=0.85)
    return matrix.read()


def test_rendering_twice_gives_the_same_bytes(matrix, tmp_path):
    read = whole(matrix)
    folders = [tmp_path / "one", tmp_path / "two"]
    drawn = [plots.write(read, folder, "how-well") for folder in folders]
    assert drawn[0] == drawn[1] == {f"how-well-{kind}.svg" for kind in plots.FIGURES}
    assert page.page(read, drawn[0]) == page.page(read, drawn[1])
    for name in drawn[0]:
        one, two = ((folder / name).read_bytes() for folder in folders)
        assert one == two
        assert b"<dc:date>" not in one


def test_the_page_shows_the_figures_that_were_drawn(matrix, tmp_path):
    read = whole(matrix)
    text = page.page(read, plots.write(read, tmp_path, "how-well"))
    for kind in plots.FIGURES:
        assert f"](figures/how-well-{kind}.svg)" in text
    assert "](figures/" not in page.page(read, ())


def test_the_page_holds_every_table(matrix):
    read = whole(matrix)
    text = page.page(read, ())
    shown = [tables.first, tables.attacks, tables.untaken, tables.targets, tables.refusals]
    shown += [tables.strategies]
    shown += [tables_of_samples.sizes, tables_of_samples.shifted, tables_of_samples.draws]
    shown += [tables_of_runs.promises, tables_of_runs.verdicts, tables_of_runs.relearning]
    for made in (*shown, tables_of_runs.origins):
        assert f"\n\n{made(read)}\n" in text
    assert f"\n\n{tables.rivals(read, summary.is_mnist)}\n" in text
    assert all(f"- **{sentence}" in text for sentence in ("How many", "Which layer", "Who gathers"))


def test_a_figure_without_results_is_removed(matrix, tmp_path):
    matrix.run(matrix.add(row("mnist-patch")), done=False)
    old = tmp_path / f"how-well-{next(iter(plots.FIGURES))}.svg"
    old.write_text("old")
    assert plots.write(matrix.read(), tmp_path, "how-well") == set()
    assert list(tmp_path.glob("*.svg")) == []


def test_a_page_without_rivals_has_no_section_on_them_and_a_page_of_theirs_has(matrix):
    made = matrix.add(row("mnist-patch"))
    matrix.run(made, deep=True, relearning={"asr": [0.9], "rounds": 1})
    assert "## Other defences" not in page.page(matrix.read(), ())
    matrix.run(made, "nft", acc=0.85)
    read = matrix.read()
    text = page_on_rivals.page_on_rivals(read, ())
    shown = (tables.refusals, tables_of_samples.shifted, tables_of_runs.relearning)
    for table in (*shown, tables_of_runs.origins):
        assert f"\n\n{table(read)}\n" in text
    assert f"\n\n{tables.rivals(read, summary.is_mnist)}\n" in text


def test_the_page_on_rivals_says_so_of_results_from_before_classes_were_ordered_by_excess(matrix):
    matrix.run(matrix.add(row("mnist-patch")))
    assert "Here flain is that of commit" not in page_on_rivals.page_on_rivals(matrix.read(), ())
    matrix.run(matrix.add(row("mnist-blended")), commit="e1ef2914c8b8")
    said = "**Here flain is that of commit `e1ef2914c8b8`,**"
    assert said in page_on_rivals.page_on_rivals(matrix.read(), ())


@pytest.mark.parametrize(
    ("profile", "name", "made"),
    [
        ("default", "how-well", page.page),
        ("rivals", "other-defences", page_on_rivals.page_on_rivals),
    ],
)
def test_a_page_is_what_the_stored_results_say(profile, name, made):
    folder = ROOT / "benchmarks/defence/results" / profile
    figures = [path.name for path in (ROOT / "docs/figures").glob(f"{name}-*.svg")]
    text = made(stored.read(rows.read(profile), folder), figures)
    stored_page = (ROOT / f"docs/{name}.md").read_text()
    assert stored_page == text, f"run python -m benchmarks.defence render --profile {profile}"


def test_the_site_and_the_readme_lead_to_the_pages():
    for found in ("how-well.md", "other-defences.md"):
        assert found in (ROOT / "mkdocs.yml").read_text()
    assert "(docs/how-well.md)" in (ROOT / "README.md").read_text()
    assert "(how-well.md)" in (ROOT / "docs/index.md").read_text()
