"""The report in a browser: at the width of a phone and of a desk, in light and dark."""

from importlib import resources
from types import SimpleNamespace

import pytest
import reported

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytest.importorskip("selenium_axe_python", reason="axe is not installed")

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from flain_report import render, render_fragment

pytestmark = pytest.mark.slow

KINDS = ("usual", "convolution", "hostile", "nothing_known", "neurons")
# axe takes minutes for the hundreds of rows of a long search.
CHECKED = (*KINDS[:-1], "notebook")
WIDTHS, THEMES = (390, 1280), ("light", "dark")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for kind in KINDS:
        made[kind] = folder / f"{kind}.html"
        made[kind].write_text(render(reported.KINDS[kind]()), encoding="utf-8")
    usual = reported.usual()
    parts = render_fragment(usual) + render_fragment(usual)
    head = '<title>n</title><meta name="viewport" content="width=device-width">'
    opening = f'<!DOCTYPE html><html lang="en"><head>{head}</head><body><main><h1>Notebook</h1>'
    made["notebook"] = folder / "notebook.html"
    made["notebook"].write_text(
        f'{opening}<h2 id="theirs">Cell</h2><p id="own">text</p>{parts}</main></body></html>',
        encoding="utf-8",
    )
    return made


def opened(browser, path, width=1280, theme="light"):
    browser.get_log("browser")
    browser.get_log("performance")
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.as_uri())


def violations(browser):
    axe = resources.files("selenium_axe_python") / "axe-core" / "axe.min.js"
    browser.execute_script(axe.read_text(encoding="utf-8"))
    for each in browser.find_elements(By.CSS_SELECTOR, "details"):
        browser.execute_script("arguments[0].open = true", each)
    told = browser.execute_async_script("axe.run(document).then(arguments[0])")
    assert told["passes"]
    return [
        (each["id"], [node["html"][:200] for node in each["nodes"]]) for each in told["violations"]
    ]


def assert_shows_well(browser, width):
    assert browser.get_log("browser") == []
    widths = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1] == width


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", CHECKED)
def test_a_page_shows_without_errors_and_to_everyone(browser, pages, kind, width, theme):
    opened(browser, pages[kind], width, theme)
    assert_shows_well(browser, width)
    assert violations(browser) == []
    assert_shows_well(browser, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_long_search_shows_without_errors(browser, pages, width):
    opened(browser, pages["neurons"], width)
    assert_shows_well(browser, width)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_asks_for_nothing_else(browser, pages, kind):
    opened(browser, pages[kind])
    asked = [
        entry["message"]
        for entry in browser.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    assert len([each for each in asked if pages[kind].as_uri() in each]) >= 1
    assert [each for each in asked if "http://" in each or "https://" in each] == []


def test_no_name_runs_as_a_script(browser, pages):
    opened(browser, pages["hostile"])
    with pytest.raises(Exception, match="no such alert"):
        _ = browser.switch_to.alert
    assert browser.execute_script("return document.images.length") == 0
    assert (
        browser.execute_script("return document.scripts.length")
        == len(browser.find_elements(By.CSS_SELECTOR, "figure.f-chart")) + 1
    )


def chart(browser, key):
    figure = browser.find_element(By.CSS_SELECTOR, f"figure.f-{key}")
    return SimpleNamespace(
        slider=figure.find_element(By.CSS_SELECTOR, "input[type=range]"),
        svg=figure.find_element(By.CSS_SELECTOR, "svg"),
        mark=lambda: figure.find_element(By.CSS_SELECTOR, ".f-mark"),
        told=lambda: figure.find_element(By.CSS_SELECTOR, ".f-reading").text,
    )


def box(browser, element):
    script = "return arguments[0].getBoundingClientRect().toJSON()"
    return browser.execute_script(script, element)


@pytest.mark.parametrize("key", ["curves", "losses", "activations", "updates", "scores", "classes"])
def test_values_are_read_with_the_arrow_keys(browser, pages, key):
    opened(browser, pages["usual"])
    shown = chart(browser, key)
    shown.slider.send_keys(Keys.HOME)
    first = shown.told()
    shown.slider.send_keys(Keys.ARROW_RIGHT)
    assert shown.told() != first
    spoken = shown.slider.get_attribute("aria-valuetext")
    assert spoken.replace("\N{NO-BREAK SPACE}", " ") == shown.told()


def test_values_are_read_by_pointing(browser, pages):
    opened(browser, pages["usual"])
    shown = chart(browser, "curves")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", shown.svg)
    chosen = shown.told()
    assert "This one was chosen" in chosen
    mark, picture = box(browser, shown.mark()), box(browser, shown.svg)
    shown.slider.send_keys(Keys.END)
    assert shown.told() != chosen
    across = (mark["left"] + mark["right"] - picture["left"] - picture["right"]) / 2
    actions = webdriver.ActionChains(browser)
    actions.move_to_element_with_offset(shown.svg, round(across), 0).perform()
    assert shown.told() == chosen


def test_a_mark_lies_on_the_bar_that_is_read(browser, pages):
    """The places of the readings are those of the drawing, also at another size."""
    opened(browser, pages["usual"], width=390)
    shown = chart(browser, "activations")
    shown.slider.send_keys(Keys.END)
    mark, picture = box(browser, shown.mark()), box(browser, shown.svg)
    assert picture["left"] < mark["left"]
    assert mark["right"] <= picture["right"] + 1
    assert picture["top"] - 1 <= mark["top"]
    assert mark["bottom"] <= picture["bottom"]
    assert mark["width"] > 3


def test_a_notebook_keeps_its_own_looks(browser, pages):
    opened(browser, pages["notebook"])
    looks = (
        "const s = getComputedStyle(document.querySelector(arguments[0]));"
        "return [s.color, s.font, s.margin, s.backgroundColor]"
    )
    with_report = [browser.execute_script(looks, each) for each in ("#theirs", "#own")]
    browser.execute_script(
        "document.querySelectorAll('.flain-report, style').forEach(e => e.remove())"
    )
    assert [browser.execute_script(looks, each) for each in ("#theirs", "#own")] == with_report


def test_a_page_prints(browser, pages):
    opened(browser, pages["convolution"])
    printed = browser.execute_cdp_cmd("Page.printToPDF", {})["data"]
    assert len(printed) > 20_000
