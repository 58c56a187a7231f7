"""What is said to be proved: by tests that exist, and by the figures of the last run."""

import json
import re

import doc_pages as pages
import pytest

trust = pytest.importorskip("trust.results", exc_type=ImportError)
RESULTS = json.loads((pages.ROOT / "benchmarks" / "results" / "trust.json").read_text())
PAGE = (pages.DOCS / "security.md").read_text(encoding="utf-8")


def test_every_test_that_is_named_exists():
    named = set(re.findall(r"`(\w+\.py)`", PAGE))
    there = {path.name for path in (pages.ROOT / "tests").rglob("*.py")}
    assert len(named) > 10
    assert named <= there


def test_the_tables_are_those_of_the_last_run():
    for rows in trust.tables(RESULTS).values():
        assert trust.in_markdown(rows) in PAGE


def test_all_was_as_promised():
    assert trust.faults(RESULTS) == []
    assert sum(sum(each.values()) for each in RESULTS["mutants"].values()) >= 20_000
    assert sum(each["kills"] for each in RESULTS["kills"].values()) >= 300
    assert RESULTS["interrupts"]["presses"] >= 100
