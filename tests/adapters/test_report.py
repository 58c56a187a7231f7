"""What a report says, of every kind of outcome, and that it says nothing but that."""

import csv
import json
import re
from base64 import b64decode
from dataclasses import replace
from functools import cache
from hashlib import sha256
from html.parser import HTMLParser
from io import StringIO

import numpy as np
import pytest
import reported

import flain_core as flain

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from flain_report import render, render_fragment
from flain_report.intervals import interval

VOID = {"meta", "input", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """A page's text, its elements, and its downloads."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.words, self.downloads, self._open = [], [], {}, []
        self.feed(html)
        self.close()
        assert self._open == [], "unclosed elements"
        self.text = " ".join(" ".join(self.words).split()).replace("\N{NO-BREAK SPACE}", " ")

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        if "download" in attributes:
            kind, data = attributes["href"].removeprefix("data:").split(";base64,")
            self.downloads[attributes["download"]] = kind, b64decode(data).decode()

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self._open):
            self.words.append(data)

    def ids(self):
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


result_of = cache(lambda kind: reported.KINDS[kind]())
html_of = cache(lambda kind: render(result_of(kind)))
page_of = cache(lambda kind: Page(html_of(kind)))


@pytest.fixture(params=reported.KINDS)
def kind(request):
    return request.param


@pytest.fixture
def result(kind):
    return result_of(kind)


@pytest.fixture
def usual():
    return result_of("usual")


@pytest.fixture
def usual_page():
    return page_of("usual")


@pytest.mark.parametrize("kind", [*reported.KINDS, "a fragment"])
def test_a_page_is_whole_and_loads_nothing(kind):
    html = render_fragment(result_of("hostile")) if kind == "a fragment" else html_of(kind)
    html.encode()
    page = Page(html)
    assert len(page.ids()) == len(set(page.ids()))
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster"):
            target = attributes.get(name, "#")
            assert target.startswith(("#", "data:"))
            if target.startswith("#") and len(target) > 1:
                assert target[1:] in page.ids()
        assert not any(name.startswith("on") for name in attributes)
        for named in ("aria-labelledby", "aria-describedby", "for"):
            assert attributes.get(named) in {None, *page.ids()}
    styles = "".join(re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL))
    assert "@import" not in styles
    assert "url(" not in styles


def test_a_page_says_the_verdict_and_every_note(result, kind):
    page = page_of(kind)
    heads = [tag for tag, _ in page.elements if tag == "h1"]
    assert len(heads) == 1
    assert result.verdict in page.text
    if kind != "hostile":
        for note in result.notes:
            assert " ".join(note.split()) in page.text


def test_a_partly_flipped_model_is_told_of_the_layer_that_makes_it_one_and_not_shown_in_green():
    page = page_of("partly_flipped")
    assert "“fc2” was turned round, and 30.0 % of what speaks for class 2 there" in page.text
    assert "may be left in part; one that leads to another is probably still there" in page.text
    assert "3.0 % of the update (30.0 % of what it says for class 2) was flipped" in page.text
    (shown,) = [each["data-verdict"] for _, each in page.elements if "data-verdict" in each]
    assert shown == "doubtful"


def test_what_does_not_move_the_scores_is_said_to_have_removed_nothing():
    usual = reported.usual()
    idle = "flipping the layer's weights does not move the scores"
    layers = tuple(replace(layer, why_method=idle) for layer in usual.layers)
    page = Page(render(replace(usual, layers=layers)))
    assert "does not move the model's scores. A backdoor is probably still there" in page.text


def test_warnings_stand_at_the_top_and_only_there():
    result = reported.usual()
    warned = replace(result, notes=(*result.notes, "Mind the gap."), warnings=("Mind the gap.",))
    before, after = Page(render(result)), Page(render(warned))
    assert after.text.count("Mind the gap.") == 1
    assert after.text.index("Warning: Mind the gap.") < after.text.index("What is promised")
    shown = [
        attributes["data-verdict"]
        for page in (before, after)
        for _, attributes in page.elements
        if "data-verdict" in attributes
    ]
    assert shown == ["done", "doubtful"]


def test_a_factor_that_was_not_given_is_told():
    for name, factor in (("usual", "3"), ("neurons", "2")):
        assert f"factor {factor} How many times an update is taken away" in page_of(name).text


def test_every_step_can_be_downloaded(result, kind):
    page = page_of(kind)
    _, everything = page.downloads["purification.json"]
    assert json.loads(everything) == json.loads(json.dumps(result.to_dict()))
    for number, layer in enumerate(result.layers, 1):
        if not layer.steps:
            continue
        media, table = page.downloads[f"layer-{number}-steps.csv"]
        assert media == "text/csv;charset=utf-8"
        rows = list(csv.DictReader(StringIO(table)))
        assert [float(row["threshold"]) for row in rows] == [each.threshold for each in layer.steps]
        assert [float(row["clean"]) for row in rows] == [each.clean for each in layer.steps]
        assert sum(row["chosen"] == "True" for row in rows) == (layer.threshold is not None)
        _, steps = page.downloads[f"layer-{number}-steps.json"]
        assert len(json.loads(steps)["steps"]) == len(layer.steps)


def test_scores_are_shown_with_exact_intervals(usual, usual_page):
    for measured in (usual.before, usual.after):
        for name, value in {"clean": measured.clean, **measured.probes}.items():
            count = measured.samples[name]
            low, high = interval(round(value * count), count)
            assert f"{100 * value:.1f} %" in usual_page.text
            assert f"{100 * low:.1f}–{100 * high:.1f}" in usual_page.text
    assert "Probe “ASR”" in usual_page.text


@pytest.mark.parametrize(("right", "count"), [(0, 20), (20, 20), (7, 20), (1, 1), (499, 500)])
def test_intervals_are_those_of_clopper_and_pearson(right, count):
    beta = pytest.importorskip("scipy.stats").beta
    low, high = interval(right, count)
    assert low == pytest.approx(beta.ppf(0.025, right, count - right + 1) if right else 0)
    assert high == pytest.approx(beta.ppf(0.975, right + 1, count - right) if right < count else 1)


def test_the_headline_is_a_sentence_about_the_layer(usual, usual_page):
    share = usual.layers[0].share
    assert f"{100 * share:.1f} % of what training had added to the layer “fc1”" in usual_page.text
    assert "The probe “ASR” went from" in usual_page.text


def test_without_probes_nothing_is_said_of_a_backdoor():
    page = page_of("no_probes")
    assert "Whether a backdoor is gone cannot be said" in page.text
    assert "Nothing is promised of new samples" in page.text


def test_a_promise_is_said_in_samples(usual, usual_page):
    promise = usual.promise
    assert f"tested on {promise.samples} samples" in usual_page.text
    most = int(np.ceil(1000 * promise.loss))
    assert f"Of 1,000 new samples like the ones that were given, on average at most {most}" in (
        usual_page.text
    )
    broken = replace(usual, promise=flain.Promise(1.0, 0.95, 5, 5))
    assert "Nothing can be promised about new samples" in Page(render(broken)).text


def test_every_class_is_in_the_table(usual, usual_page):
    for each in usual.by_class:
        for right in (each.right_before, each.right_after):
            low, high = interval(right, each.samples)
            assert f"{100 * low:.1f}–{100 * high:.1f}" in usual_page.text
    page = page_of("many_classes")
    assert "40 of 150 classes" in page.text
    assert sum(f"{label}" in page.words for label in range(150)) == 150


def test_settings_versions_and_hashes_are_there(usual):
    page = Page(render(replace(usual, files={"final.npz": "ab" * 32})))
    for name in ("tolerance", "held_back", "match_norm", *usual.versions):
        assert name in page.words
    assert "ab" * 32 in page.text
    assert "final.npz" in page.text
    assert "No files were read" in page_of("usual").text


def readings(html, key):
    """The readings of a chart of the first layer, as the page's script sees them."""
    figure = html.partition(f'id="f-layer-1-{key}"')[2]
    data = re.search(r'<script type="application/json" class="f-data">(.*?)</script>', figure)
    return json.loads(data[1])


def test_values_can_be_read_at_every_step(usual):
    html = html_of("usual")
    (layer,) = usual.layers
    for key in ("curves", "losses"):
        before, *steps = readings(html, key)
        assert before[4].startswith("before the search: clean")
        assert len(steps) == len(layer.steps)
        assert sum("This one was chosen" in each[4] for each in steps) == 1
        for step, (*_, text) in zip(layer.steps, steps, strict=True):
            shown = text.replace("\N{NO-BREAK SPACE}", " ")
            assert f"clean {100 * step.clean:.1f} %" in shown
            assert f"ASR {100 * step.probes['ASR']:.1f} %" in shown
        places = [each[0] for each in (before, *steps)]
        assert places == sorted(places)


def test_the_histogram_counts_every_neuron(usual):
    (layer,) = usual.layers
    counted = [
        [int(n) for n in re.search(r": (\d+) flipped, (\d+) kept", each[4]).groups()]
        for each in readings(html_of("usual"), "activations")
    ]
    flipped = int(layer.flipped.sum())
    assert np.sum(counted, axis=0).tolist() == [flipped, layer.flipped.size - flipped]


def test_long_searches_are_shown_in_part_and_downloaded_in_full():
    (layer,) = result_of("neurons").layers
    assert len(layer.steps) > 400
    html = html_of("neurons")
    shown = readings(html, "curves")
    assert len(shown) <= 401
    assert sum("This one was chosen" in each[4] for each in shown) == 1
    assert (
        len(page_of("neurons").downloads["layer-1-steps.csv"][1].splitlines())
        == len(layer.steps) + 1
    )
    assert len(html) < 2_000_000


def test_inputs_behind_a_convolution_have_channel_row_and_column():
    (layer,) = result_of("convolution").layers
    assert (layer.grid.channels, layer.grid.rows, layer.grid.columns) == (4, 3, 5)
    told = readings(html_of("convolution"), "inputs")
    assert len(told) == 4
    for channel, (*_, text) in enumerate(told):
        flipped = layer.flipped.reshape(4, 15)[channel]
        assert f"channel {channel}: {flipped.sum()} of 15 flipped" in text
        for place in np.flatnonzero(flipped)[:3] if 0 < flipped.sum() < 15 else ():
            assert f"({place // 5}, {place % 5})" in text


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("no update", "Training had not changed this layer"),
        ("promise", "more would have broken the promise"),
        ("no better than chance", "no more often than by chance"),
        ("too many of one class", "takes far too many samples for one class"),
    ],
)
def test_a_layer_that_was_passed_by_says_why(reason, words):
    page = page_of("nothing_known")
    assert "Layer “idle”" in page.text
    result = result_of("usual")
    (layer,) = result.layers
    unchanged = replace(layer, steps=(), stop_reason=reason, share=0.0)
    page = Page(render(replace(result, layers=(layer, unchanged))))
    assert words in page.text


@pytest.mark.parametrize("rendered", [render, render_fragment])
def test_names_of_others_are_text_and_nothing_else(rendered):
    html = rendered(result_of("hostile"))
    assert "alert(1)" in html
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "49" not in re.findall(r"onerror=alert\(2\)&gt;(.{2})", html)
    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html
    )
    page = Page(html)
    assert r"\x1b[2J\x00\u202e" in page.text
    assert {tag for tag, _ in page.elements} <= {
        *("html", "head", "meta", "title", "style", "body", "script", "header", "nav", "main"),
        *("footer", "section", "div", "span", "p", "h1", "h2", "h3", "h4", "h5", "a", "ul", "li"),
        *("dl", "dt", "dd", "strong", "small", "code", "table", "caption", "thead", "tbody", "tr"),
        *("th", "td", "figure", "figcaption", "details", "summary", "label", "input"),
        *("svg", "g", "path", "defs", "use", "text", "tspan", "clippath", "rect", "pattern"),
        *("image",),
    }
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert sum(each.get("type") != "application/json" for each in scripts) == 1


def test_headings_of_tables_are_no_formulas():
    result = result_of("usual")
    (layer,) = result.layers
    steps = tuple(replace(step, probes={"=cmd()": 0.5}) for step in layer.steps)
    probes = {"=cmd()": 0.5}
    changed = replace(
        result,
        before=replace(result.before, probes=probes),
        after=replace(result.after, probes=probes),
        layers=(replace(layer, steps=steps),),
    )
    table = Page(render(changed)).downloads["layer-1-steps.csv"][1]
    assert "'=cmd()" in table.splitlines()[0]


def test_only_the_script_of_the_page_may_run():
    html = html_of("usual")
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    (allowed,) = re.findall(r"script-src 'sha256-(.*?)'", html)
    assert b64decode(allowed) == sha256(script.encode()).digest()
    assert "default-src 'none'" in html


def test_a_part_of_a_notebook_leaves_the_notebook_alone(usual):
    html = usual._repr_html_()
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"html", "head", "body", "main", "header", "footer", "nav", "h1", "title"}
    (style,) = re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL)
    rules = re.sub(r"@media[^{]*\{", "", style)
    selectors = [
        s for group in re.findall(r"([^{}]+)\{", rules) for s in re.split(r",\s*(?![^(]*\))", group)
    ]
    assert all(selector.strip().startswith(".flain-report") for selector in selectors)
    again = Page(usual._repr_html_())
    assert not set(page.ids()) & set(again.ids())
    assert set(page_of("usual").downloads) == set(page.downloads)
    assert "What is promised of new samples" in page.text


def test_a_page_is_written_whole_or_not_at_all(usual, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "flain_report.page.render", lambda _: (_ for _ in ()).throw(OSError("full"))
    )
    with pytest.raises(flain.OutputError, match="full"):
        usual.report(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_pages_of_one_result_are_equal(usual):
    assert render(usual) == html_of("usual")
