"""Reports and plots are made by a package of their own, which may be missing."""

import json
import sys

import backdoored
import pytest

import flain_core as flain
from flain_core import FlainError, OutputError
from flain_core.reporting.presenting import check_report

INITIAL, FINAL = backdoored.networks()


@pytest.fixture(scope="module")
def result():
    return flain.purify(FINAL, initial=INITIAL, data=backdoored.samples(300, seed=11))


@pytest.fixture(params=["jinja2", "matplotlib", "flain_report"])
def missing(request, monkeypatch):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    for name in list(sys.modules):
        if name.partition(".")[0] in ("flain_report", request.param):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, request.param, None)
    return request.param


def test_without_the_extra_one_error_says_what_to_install(result, missing, tmp_path):
    attempts = [
        lambda: result.report(tmp_path / "report.html"),
        lambda: check_report(tmp_path / "report.html"),
        result.plot,
        result.plot.curves,
    ]
    for attempt in attempts:
        with pytest.raises(FlainError, match=r'pip install "flain\[report\]"') as error:
            attempt()
        assert missing in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_a_notebook_shows_the_text(result, missing):
    assert result._repr_html_() is None


def test_without_the_extra_json_is_written(result, missing, tmp_path):
    result.report(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["verdict"] == result.verdict


def test_another_failing_import_is_not_explained_away(result, monkeypatch):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    for name in list(sys.modules):
        if name.partition(".")[0] == "flain_report":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "csv", None)
    with pytest.raises(ModuleNotFoundError, match="csv"):
        result._repr_html_()


@pytest.mark.parametrize("name", ["report.pdf", "report", "html", ".html"])
def test_another_suffix_is_refused(result, tmp_path, name):
    for attempt in (result.report, check_report):
        with pytest.raises(OutputError, match=r"\.html, for people, or \.json"):
            attempt(tmp_path / name)


@pytest.mark.parametrize("suffix", [".html", ".HTM", ".json"])
def test_a_report_overwrites_only_when_told_to(result, tmp_path, suffix):
    if suffix != ".json":
        pytest.importorskip("jinja2")
        pytest.importorskip("matplotlib")
    path = tmp_path / f"report{suffix}"
    path.write_text("mine")
    for attempt in (result.report, check_report):
        with pytest.raises(OutputError, match="exists already"):
            attempt(path)
    assert path.read_text() == "mine"
    result.report(path, overwrite=True)
    assert path.read_text() != "mine"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("path", [3, None, b"report.html"])
def test_what_names_no_file_is_refused_in_our_words(result, path):
    for write in (result.report, result.to_json, result.save):
        with pytest.raises(OutputError, match="expected the path of a file to write"):
            write(path)


def test_a_backend_of_matplotlib_that_is_not_there_is_named(result, monkeypatch, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    for name in list(sys.modules):
        if name.partition(".")[0] in ("flain_report", "matplotlib"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("MPLBACKEND", "nowhere")
    for attempt in (lambda: check_report(tmp_path / "report.html"), result.plot):
        with pytest.raises(FlainError, match="MPLBACKEND names 'nowhere'"):
            attempt()
    assert list(tmp_path.iterdir()) == []
