"""Draws plots as SVG for a page: in the colours of its theme, with no name that may clash."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .palette import VARIABLES

Box = tuple[float, float, float, float]
"""Left, top, width and height of a part of a drawing, in its units."""

_WIDTH = 4.1
_POINTS = 72
_FINE = 3 * _POINTS


@dataclass(frozen=True)
class Drawing:
    """A plot as SVG.

    Attributes:
        svg: The element, to be put into a page as it is.
        axes: What was drawn into; data have their places by :meth:`box`.
        height: Height of the drawing, in its units.
    """

    svg: Markup
    axes: Axes
    height: float

    def box(self, left: float, right: float, bottom: float, top: float) -> Box:
        """Return the part of the drawing that a rectangle of the data takes."""
        corners = self.axes.transData.transform([(left, bottom), (right, top)])
        (x0, y0), (x1, y1) = corners.tolist()
        (x0, x1), (y0, y1) = sorted((x0, x1)), sorted((y0, y1))
        top = self.height - y1
        return round(x0, 1), round(top, 1), round(x1 - x0, 1), round(y1 - y0, 1)

    def band(self, x: float, width: float = 2.0) -> Box:
        """Return a narrow upright part at a place on the x axis."""
        low, high = self.axes.get_ylim()
        left, top, _, height = self.box(x, x, low, high)
        return round(left - width / 2, 1), top, width, height


def draw(function: Callable[[Axes], Axes], prefix: str, label: str, height: float) -> Drawing:
    """Draw a plot.

    Args:
        function: Draws into axes, in the colours of ``palette.THEMED``.
        prefix: Starts every name inside the drawing; no other drawing of the page has it.
        label: What the plot shows, for those who do not see it.
        height: Inches; all drawings have one width.
    """
    # What a user has set up for papers has no place in a page.
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["svg.fonttype"] = "none"
        mpl.rcParams["svg.hashsalt"] = prefix
        mpl.rcParams["font.size"] = 10
        mpl.rcParams["lines.markersize"] = 4
        mpl.rcParams["hatch.linewidth"] = 0.6
        figure = Figure(figsize=(_WIDTH, height), dpi=_POINTS, layout="constrained")
        axes = function(figure.subplots())
        text = StringIO()
        metadata = dict.fromkeys(_METADATA)
        figure.savefig(text, format="svg", transparent=True, metadata=metadata, dpi=_FINE)
    svg = Markup(_themed(text.getvalue(), prefix, label))  # noqa: S704
    return Drawing(svg, axes, height * _POINTS)


_METADATA = ("Date", "Creator", "Format", "Type")


def _themed(svg: str, prefix: str, label: str) -> str:
    # matplotlib escapes what it writes; what is added here is escaped here.
    svg = svg[svg.index("<svg") :]
    # Its style sheet would speak for the whole page.
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]*)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'xlink:href="#', f'href="#{prefix}-', svg)
    svg = svg.replace("xlink:href=", "href=").replace("url(#", f"url(#{prefix}-")
    for stand_in, variable in VARIABLES.items():
        svg = svg.replace(stand_in, f"var({variable})")
    (view,) = re.findall(r'viewBox="[^"]*"', svg)[:1]
    opening = f'<svg {view} role="img" aria-label="{escape(label)}">'
    return re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1)
