"""The tables of docs/lying-holders.md, in part, on the embedded example."""

from pathlib import Path

import pytest
from lies import LIES
from lying_holders import TABLES, Group, Row, markdown, measured
from pages import put_into
from plots import PLOTS

PAGE = Path(__file__).parents[2] / "docs" / "lying-holders.md"
TRUTH = "nothing but the truth"
SOME = [
    (Group(3, 1), TRUTH),
    *((Group(3, 1), lie) for lie in LIES),
    *((Group(5, 2), plot) for plot in PLOTS),
    (Group(10, 2), "every flip is good"),
    (Group(10, 4), "silent and active swapped"),
    (Group(10, 5), "losses of lucky samples"),
    (Group(5, 2, by_class=True), "swapped, and every flip is good"),
    (Group(10, 4, by_class=True), "swapped, and every flip is good"),
]


def rows_of_the_page():
    cells = (line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines())
    return {tuple(row[:2]): row[2:] for row in cells if row[0][:1].isdigit()}


def test_the_page_has_all_that_every_group_says():
    expected = [
        (str(group), says)
        for groups, said in TABLES.values()
        for group in groups
        for says in (TRUTH, *said)
    ]
    assert list(rows_of_the_page()) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("group", "says"), SOME, ids=lambda each: str(each))
def test_the_page_tells_what_is_measured(group, says):
    told = rows_of_the_page()[str(group), says]
    row = measured(group, says)
    for cell, rule in zip(told, ("sum", "median", "trimmed_mean"), strict=True):
        assert [float(number) for number in cell.split(", ")] == pytest.approx(
            [row.acc[rule], row.asr[rule]], abs=0.3
        )


def test_a_liar_is_outvoted():
    row = measured(Group(3, 1), "right before and wrong after")
    assert row.asr["sum"] > 95
    for rule in ("median", "trimmed_mean"):
        assert row.asr[rule] <= 2
        assert row.acc[rule] >= 97


@pytest.mark.slow
def test_four_of_ten_decide_by_the_median_where_holders_have_other_classes():
    group = Group(10, 4, by_class=True)
    assert measured(group).asr["median"] <= 2
    assert measured(group, "no flip is good").asr["median"] > 95
    assert measured(Group(10, 4), "no flip is good").asr["median"] <= 2
    assert measured(group, "swapped, and every flip is good").acc["median"] < 60


def test_a_table_is_put_where_it_belongs(tmp_path):
    page = tmp_path / "page.md"
    place = "<!-- The table of lies begins. -->\nformer\n<!-- The table of lies ends. -->"
    page.write_text(f"One.\n\n{place}\n\nTwo.\n")
    rows = [Row(Group(3, 1), "a lie", {"sum": 97.0}, {"sum": 1.25})]
    put_into(page, markdown(rows), what="lies")
    told = page.read_text()
    assert "| 1 of 3 | a lie | 97.0, 1.2 |" in told
    assert "former" not in told
    assert (told[:4], told[-5:]) == ("One.", "Two.\n")
    page.write_text("One.")
    with pytest.raises(ValueError, match="expected <!--"):
        put_into(page, "table")
