"""The table of docs/federated-auxiliary-data.md, in part, on the embedded example."""

from pathlib import Path

import pytest
from lies import LIES
from lying_holders import Row, markdown, measured
from pages import put_into

PAGE = Path(__file__).parents[2] / "docs" / "federated-auxiliary-data.md"


def rows_of_the_page():
    cells = (line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines())
    return {tuple(row[:2]): row[2:] for row in cells if row[0] in ("3", "5", "10")}


def test_the_page_has_every_lie_with_every_number_of_holders():
    lies = ("none lies", *LIES)
    assert list(rows_of_the_page()) == [(k, lie) for k in ("3", "5", "10") for lie in lies]


@pytest.mark.slow
@pytest.mark.parametrize("lie", ["none lies", *LIES])
def test_the_page_tells_what_is_measured(lie):
    told = rows_of_the_page()["3", lie]
    row = measured(3, lie)
    for cell, rule in zip(told, ("sum", "median", "trimmed_mean"), strict=True):
        assert [float(number) for number in cell.split(", ")] == pytest.approx(
            [row.acc[rule], row.asr[rule]], abs=0.3
        )


def test_a_liar_is_outvoted():
    row = measured(3, "right before and wrong after")
    assert row.asr["sum"] > 95
    for rule in ("median", "trimmed_mean"):
        assert row.asr[rule] <= 2
        assert row.acc[rule] >= 97


def test_a_table_is_put_where_it_belongs(tmp_path):
    page = tmp_path / "page.md"
    place = "<!-- The table begins. -->\nformer\n<!-- The table ends. -->"
    page.write_text(f"One.\n\n{place}\n\nTwo.\n")
    put_into(page, markdown([Row(3, "a lie", {"sum": 97.0}, {"sum": 1.25})]))
    told = page.read_text()
    assert "| 3 | a lie | 97.0, 1.2 |" in told
    assert "former" not in told
    assert (told[:4], told[-5:]) == ("One.", "Two.\n")
    page.write_text("One.")
    with pytest.raises(ValueError, match="expected <!--"):
        put_into(page, "table")
