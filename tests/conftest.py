"""What pytest leaves alone, what tests tell nobody, and the browser that looks at pages."""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Before Flower is imported anywhere: it reads the first of them at once, and posts by default.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("FLWR_HOME", os.path.join(tempfile.gettempdir(), "flain-tests-flower"))

# Flower's programs start one another by name: as in an active environment, this one's are found.
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))

# Before NumPy is imported. The networks are small, and as many processes as cores run at a time:
# threads of each would wait for the others.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell lets what runs in the background ignore Ctrl-C, and children of tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is slow without being wrong; a failure prints the line that repeats it.
settings.register_profile("unhurried", deadline=None, print_blob=True)
settings.load_profile("unhurried")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no script and no suite for a process of its own, unless it is named.

    pytest would, to look for doctests, and some load Keras with whatever engine.
    """
    if collection_path.suffix != ".py" or collection_path.name.startswith(("test_", "conftest")):
        return None
    named = {Path(argument.partition("::")[0]).resolve() for argument in config.args}
    return None if collection_path in named else True


@pytest.fixture(scope="module")
def browser():
    """Chromium, which tells what it loaded and what a page complained of."""
    webdriver = pytest.importorskip("selenium.webdriver")
    driver = shutil.which("chromedriver")
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not (driver and found):
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = found
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_script_timeout(120)
    yield browser
    browser.quit()
