"""The site in a browser: it fits a phone, anybody can read it, and nothing comes from elsewhere."""

import functools
import http.server
import threading
from importlib import resources

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytest.importorskip("selenium_axe_python", reason="axe is not installed")

pytestmark = pytest.mark.slow

# A page of each kind; axe takes a while.
CHECKED = (
    "",
    "start/",
    "how-it-works/",
    "how-well/",
    "frameworks/pytorch/",
    "command-line/",
    "settings/",
    "notebooks/onnx/",
    "notebooks/pytorch/",
    "writing-a-backend/",
    "api-stacks/",
)
WIDTHS, THEMES = (390, 1280), ("light", "dark")


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(site):
    handler = functools.partial(Silent, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def opened(browser, url, width=1280, theme="light"):
    browser.get_log("browser")
    browser.get_log("performance")
    features = [
        {"name": "prefers-color-scheme", "value": theme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(url)


def violations(browser):
    axe = resources.files("selenium_axe_python") / "axe-core" / "axe.min.js"
    browser.execute_script(axe.read_text(encoding="utf-8"))
    told = browser.execute_async_script("axe.run(document).then(arguments[0])")
    assert told["passes"]
    return [
        (each["id"], len(each["nodes"]), [node["html"][:160] for node in each["nodes"][:3]])
        for each in told["violations"]
    ]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", CHECKED)
def test_a_page_shows_to_everyone(browser, address, page, width, theme):
    opened(browser, address + page, width, theme)
    assert violations(browser) == []
    widths = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1] == width


def test_every_page_fits_a_phone_and_has_no_errors(browser, site, address):
    faults = {}
    for page in sorted(site.rglob("index.html")):
        name = page.parent.relative_to(site).as_posix()
        opened(browser, f"{address}{name}/", 390)
        across = browser.execute_script("return document.documentElement.scrollWidth")
        told = browser.get_log("browser")
        asked = [
            entry["message"]
            for entry in browser.get_log("performance")
            if '"Network.requestWillBeSent"' in entry["message"] and address not in entry["message"]
        ]
        if across > 390 or told or asked:
            faults[name] = across, told, asked
    assert faults == {}


def copied(browser, block):
    """What the button of a block puts on the clipboard: the theme marks the code and reads it."""
    return browser.execute_script(
        """const code = arguments[0];
        code.setAttribute("data-md-copying", "");
        const text = code.innerText;
        code.removeAttribute("data-md-copying");
        return text.trimEnd();""",
        block,
    )


def test_code_can_be_copied_without_prompts(browser, address):
    opened(browser, f"{address}start/")
    blocks = browser.find_elements("css selector", "pre > code")
    buttons = browser.find_elements("css selector", "button[data-clipboard-target]")
    assert len(blocks) == len(buttons) >= 4
    assert any(copied(browser, each) == "flain demo --save-to example" for each in blocks)
    assert any(copied(browser, each).startswith("import flain\n") for each in blocks)
    opened(browser, f"{address}api/")
    blocks = browser.find_elements("css selector", "details.example code")
    assert len(blocks) > 5
    text = "\n".join(copied(browser, each) for each in blocks)
    assert "result = purify(final, initial=initial, data=(x, y))" in text
    assert ">>>" not in text
