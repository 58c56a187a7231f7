"""The options that say what is searched, and when the search stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

import flain_core as flain
from flain_core.activation import Statistic
from flain_core.settings import Crossing, DataSet, Flip, Measure

# What may be lost where nothing is said: of the score, and of the probability at least and at most.
_SCORE = flain.Settings().allowed(None)
_LEAST, _MOST = (flain.Settings().allowed(missing) for missing in (0.0, 1.0))

_SEARCH = "Search"


@dataclass(frozen=True, kw_only=True)
class SettingOptions:
    """What is searched, and when the search stops."""

    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=_SEARCH,
            help="A layer, or auto, dense, conv, all. Repeat for several. (default: auto)",
        ),
    ] = None
    measure: Annotated[
        Measure | None,
        typer.Option(
            rich_help_panel=_SEARCH,
            help="What the tolerance limits: the loss of the probability of the true class, or of "
            "the clean accuracy (score), as where the model is unsure. (default: probability)",
        ),
    ] = None
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            rich_help_panel=_SEARCH,
            help=f"Allowed loss, from 0 to 1. (default: {_SCORE:g} of the accuracy; or "
            f"{_LEAST:g} to {_MOST:g} of the probability: more for a model that is less sure, and "
            "more while little is flipped for a class)",
        ),
    ] = None
    flip: Annotated[
        Flip | None,
        typer.Option(
            rich_help_panel=_SEARCH,
            help="What is flipped: the update in the directions that clean data hardly uses, or "
            "of whole input neurons. (default: directions in dense layers, else neurons)",
        ),
    ] = None
    promise: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            rich_help_panel=_SEARCH,
            help="Flip only as far as it can be promised that at most this share of new samples "
            "becomes newly wrong, between 0 and 1. (default: flip first, then say what can be "
            "promised)",
        ),
    ] = None
    confidence: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            rich_help_panel=_SEARCH,
            help="Probability that the promise is kept, between 0 and 1. "
            f"(default: {flain.Settings.confidence:g})",
        ),
    ] = None
    held_back: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            rich_help_panel=_SEARCH,
            help="Share of the samples held back from the search to bear out the promise, from 0 "
            "to 0.9. (default: 0.2 of at least 200, or what the promise needs)",
        ),
    ] = None
    factor: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            rich_help_panel=_SEARCH,
            help="2 flips an update, 1 resets it, 3 flips and doubles it. "
            "(default: 2 for neurons, 3 in directions)",
        ),
    ] = None
    crossing: Annotated[
        Crossing | None,
        typer.Option(
            rich_help_panel=_SEARCH,
            help="Return the candidate before the crossing, or the one beyond. "
            f"(default: {flain.Settings.crossing})",
        ),
    ] = None
    statistic: Annotated[
        Statistic | None,
        typer.Option(
            rich_help_panel=_SEARCH,
            help="For neurons: what a threshold is compared with. "
            f"(default: {flain.Settings.statistic})",
        ),
    ] = None
    match_norm: Annotated[
        bool | None,
        typer.Option(
            "--match-norm",
            rich_help_panel=_SEARCH,
            help="For neurons: rescale the layer to its former norm.",
        ),
    ] = None
    published: Annotated[
        DataSet | None,
        typer.Option(
            rich_help_panel=_SEARCH,
            help="Take the published code's values for a data set, instead of the above.",
        ),
    ] = None
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            rich_help_panel=_SEARCH,
            help="Purify a model that was purified before, all the same.",
        ),
    ] = False

    @property
    def layers(self) -> str | Sequence[str]:
        """What :func:`flain_core.purify` takes as layers."""
        if not self.layer:
            return "auto"
        return self.layer[0] if len(self.layer) == 1 else self.layer

    def settings(self) -> flain.Settings:
        """Return the settings.

        Raises:
            SettingsError: A value is out of its range.
            BadParameter: The published values were asked for, and others too.
        """
        names = (
            *("measure", "tolerance", "flip", "promise", "confidence", "held_back"),
            *("factor", "crossing", "statistic", "match_norm"),
        )
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        chosen = {name: value for name, value in given.items() if value is not None}
        if self.published is None:
            return flain.Settings(**chosen)
        if chosen:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in chosen)
            raise typer.BadParameter(
                f"fixes {options} too; leave out one or the other", param_hint="--published"
            )
        return flain.Settings.published(self.published)
