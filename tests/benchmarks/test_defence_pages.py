"""The pages and their figures, of hand-made results and of the stored ones."""

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("tomllib")

from defence import (
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
from made_matrix import Matrix, row

ROOT = Path(__file__).parents[2]


@pytest.fixture
def matrix(tmp_path):
    return Matrix(tmp_path)


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
    shown += [tables_of_runs.promises, tables_of_runs.verdicts, tables_of_runs.class_shares]
    shown += [tables_of_runs.relearning]
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


def test_a_page_of_rivals_says_where_machines_of_different_speed_ran(matrix):
    made = matrix.add(row("mnist-patch"))
    matrix.run(made)
    said = "of machines of different speed"
    assert said not in page_on_rivals.page_on_rivals(matrix.read(), ())
    matrix.run(made, "nft", machine="another machine")
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
