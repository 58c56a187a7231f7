"""The way from an outcome to the package that draws it, which is imported when it is first used."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from flain_core.errors import FlainError, OutputError
from flain_core.extras import how_to_install
from flain_core.outcome.outcome import Outcome
from flain_core.storage.files import check_writable, target_of, written_whole

_PAGES = (".html", ".htm")
FORMATS = (*_PAGES, ".json")
_NEEDED = ("jinja2", "matplotlib", "markupsafe")


class Plots:
    """Plots of a purification for papers, by matplotlib: axes in, axes out.

    Each method draws into ``ax``, or into axes of a new figure for None, and returns the axes.
    Without a name of a layer it takes the first one that was searched. Called, it draws all that
    there is to draw into one new figure, and returns that.

    Raises:
        FlainError: The extra is not installed: ``pip install "flain[report]"``.
        LayerError: There is no layer of that name, or nothing of the kind to draw.
    """

    def __init__(self, result: Outcome) -> None:
        self._result = result

    def __call__(self) -> Any:
        """Draw everything into one new figure, and return the ``matplotlib.figure.Figure``."""
        return _plots().overview(self._result)

    def scores(self, ax: Any = None) -> Any:
        """Draw the clean score and every probe before and after, with intervals."""
        return _plots().scores(self._result, ax)

    def classes(self, ax: Any = None) -> Any:
        """Draw the accuracy per class before and after."""
        return _plots().classes(self._result, ax)

    def curves(self, layer: str | None = None, ax: Any = None) -> Any:
        """Draw the clean score and every probe over the threshold, with the stop marked."""
        return _plots().curves(self._result, layer, ax)

    def losses(self, layer: str | None = None, ax: Any = None) -> Any:
        """Draw what the tolerance limits over the threshold, with limit and stop marked."""
        return _plots().losses(self._result, layer, ax)

    def activations(self, layer: str | None = None, ax: Any = None) -> Any:
        """Draw the histogram of the input neurons' activations, the flipped part coloured."""
        return _plots().activations(self._result, layer, ax)

    def updates(self, layer: str | None = None, ax: Any = None) -> Any:
        """Draw the update's norm over the activation of each input neuron, before and after."""
        return _plots().updates(self._result, layer, ax)

    def inputs(self, layer: str | None = None, ax: Any = None) -> Any:
        """Draw, channel by channel, which inputs of a layer behind a convolution were flipped."""
        return _plots().inputs(self._result, layer, ax)


def check_report(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raise what :func:`write_report` would raise for this place, before any work.

    Raises:
        OutputError: The place cannot be written, the file exists, or the suffix is unknown.
        FlainError: The extra that writes pages is not installed.
    """
    if _is_page(path):
        _report_package("flain_report.page")
    check_writable(path, overwrite=overwrite)


def write_report(result: Outcome, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a page or JSON, as the suffix says; see :meth:`Purification.report`."""
    if not _is_page(path):
        result.to_json(path, overwrite=overwrite)
        return
    page = _report_package("flain_report.page")
    with written_whole(path, overwrite=overwrite) as scratch:
        scratch.write_text(page.render(result), encoding="utf-8")


def html_or_none(result: Outcome) -> str | None:
    """Return the report as a part of a notebook's page; None if the extra is not installed."""
    try:
        page = _report_package("flain_report.page")
    except FlainError:
        return None
    fragment: str = page.render_fragment(result)
    return fragment


def _is_page(path: str | os.PathLike[str]) -> bool:
    suffix = target_of(path).suffix.lower()
    if suffix in _PAGES:
        return True
    if suffix == ".json":
        return False
    raise OutputError(
        f"cannot write {os.fspath(path)!r}: a report is .html, for people, or .json, for programs"
    )


def _plots() -> Any:
    return _report_package("flain_report.plots")


def _report_package(name: str) -> Any:
    try:
        return import_module(name)
    except ValueError as error:
        if "MPLBACKEND" not in os.environ:
            raise
        raise FlainError(
            f"matplotlib cannot be imported: {error}. The environment variable MPLBACKEND names "
            f"{os.environ['MPLBACKEND']!r}, which may not be installed here; unset it"
        ) from error
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in (*_NEEDED, "flain_report"):
            raise
        raise FlainError(
            f"reports as pages and plots need {error.name}, which is not installed: "
            f"{how_to_install('report')}. Without it, .json reports can be written"
        ) from error
