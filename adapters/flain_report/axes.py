"""Axes of matplotlib: new ones, their looks, and scales that also show zeros."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from flain_core.errors import FlainError
from flain_core.network import Array

from .binning import positive_range, spans_orders
from .palette import Palette
from .text import visible

_LONGEST = 18
_SHORT = 12
_MOST_DECADES = 3  # between the first and the last tick with a name


def _as_percent(digits: int) -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{100 * value:.{digits}f} %")


SHARE, LOST = _as_percent(0), _as_percent(2)
"""Formatters of shares: from nothing to all, and small ones."""


def new_axes(ax: Axes | None, height: float = 2.9, width: float = 4.4) -> Axes:
    """Return the axes that were given, or those of a new figure, in inches."""
    if isinstance(ax, Axes):
        return ax
    if ax is not None:
        raise FlainError(
            f"expected ax to be axes of matplotlib, or None; got a {type(ax).__name__}: say "
            "figure.add_subplot()"
        )
    import matplotlib.pyplot as plt  # chooses a window system, which a page does not need

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def label(text: str) -> str:
    """Return text of others that matplotlib shows as it is, and does not read as mathematics."""
    shown = visible(text).replace("\n", " ")
    shown = shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
    # A legend leaves out what begins with an underscore.
    shown = f"\u2009{shown}" if shown.startswith("_") else shown
    return shown.replace("$", r"\$")


def polish(ax: Axes, palette: Palette) -> Axes:
    """Give axes quiet lines in the colours of a palette."""
    ax.spines[["top", "right"]].set_visible(False)
    for spine in ax.spines.values():
        spine.set_color(palette.before)
    ax.set_axisbelow(True)
    ax.tick_params(colors=palette.before, labelcolor=palette.ink, length=3)
    for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
        text.set_color(palette.ink)
    return ax


def legend(ax: Axes, palette: Palette) -> Axes:
    """Put a legend above axes, where it hides nothing."""
    names = ax.get_legend_handles_labels()[1]
    box = ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3 if max(map(len, names)) <= _SHORT else 2,
        frameon=False,
        fontsize=9,
        handlelength=2.0,
        columnspacing=1.0,
        borderaxespad=0.2,
    )
    for text in box.get_texts():
        text.set_color(palette.ink)
    return ax


@dataclass(frozen=True)
class Scale:
    """The x axis of values that may span several orders: then it is logarithmic.

    Attributes:
        low: Least value that has a place of its own; on a logarithmic axis positive.
        high: Greatest value.
        logarithmic: Whether it is a logarithmic axis.
        zeros: Whether there are zeros that such an axis cannot show; they get a place left of it.
    """

    low: float
    high: float
    logarithmic: bool
    zeros: bool = False

    @classmethod
    def of(cls, values: Array) -> Scale:
        """Choose a scale for finite values, at least one."""
        if spans_orders(values):
            return cls(*positive_range(values), True, bool((values == 0).any()))
        return cls(float(values.min()), float(values.max()), False)

    def places(self, values: Array) -> Array:
        """Return where values lie on the axis."""
        if not self.logarithmic:
            return np.asarray(values, dtype=np.float64)
        return np.where(values > 0, np.maximum(values, self.low), self.nought)

    @property
    def nought(self) -> float:
        """The place of zeros on a logarithmic axis."""
        return self._left_of(self.low)

    @property
    def before(self) -> float:
        """A place left of all values, for what was before the first of them."""
        return self._left_of(self.nought if self.zeros else self.low)

    def apply(self, ax: Axes, *, before: bool = False) -> None:
        """Give axes this scale, and name the place ``before`` if it is wanted."""
        if self.logarithmic:
            ax.set_xscale("log")
        ticks = list(self._ticks())
        names = [_power(tick) if self.logarithmic else f"{tick:.4g}" for tick in ticks]
        if self.zeros:
            ticks, names = [self.nought, *ticks], ["0", *names]
        if before:
            clear = self._left_of(self.low, -0.6) if not self.zeros else 0.0
            kept = [(tick, name) for tick, name in zip(ticks, names, strict=True) if tick >= clear]
            kept = kept or list(zip(ticks, names, strict=True))[-1:]
            ticks, names = [self.before, *(t for t, _ in kept)], ["before", *(n for _, n in kept)]
        ax.set_xticks(ticks, names)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())

    def _left_of(self, place: float, share: float = 1.0) -> float:
        if self.logarithmic:
            return place / float((self.high / self.low) ** (0.1 * share))
        return place - share * 0.13 * ((self.high - self.low) or abs(self.low) or 1.0)

    def _ticks(self) -> Iterator[float]:
        if not self.logarithmic:
            ticks = map(float, MaxNLocator(4).tick_values(self.low, self.high))
            beyond = 1e-9 * ((self.high - self.low) or abs(self.low) or 1.0)
            within = [t for t in ticks if self.low - beyond <= t <= self.high + beyond]
            yield from within or [self.low]
            return
        first, last = int(np.ceil(np.log10(self.low))), int(np.floor(np.log10(self.high)))
        stride = max(1, -(-(last - first) // _MOST_DECADES))
        yield from [10.0**decade for decade in range(last, first - 1, -stride)][::-1]


def _power(value: float) -> str:
    return f"{value:g}" if 1e-3 <= value <= 1e4 else f"{value:.0e}".replace("e-0", "e-")
