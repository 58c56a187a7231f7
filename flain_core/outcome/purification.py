"""The outcome of a purification: frozen, printable, saveable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flain_core.asked import Asked
from flain_core.opening import registry
from flain_core.promise import Promise
from flain_core.reporting.presenting import Plots, html_or_none, write_report
from flain_core.settings import Settings

from .layer import LayerOutcome
from .measurement import ClassOutcome, Measurement
from .verdict import Verdict, verdict_on


@dataclass(frozen=True, eq=False)
class Purification:
    """A purified model, and what was done to it.

    Attributes:
        model: The purified copy, of the type that was given.
        before: What the model scored before.
        after: What the purified model scores, run in full after everything was written back.
        layers: What was done to each layer, in order.
        settings: How the search decided.
        seconds: Wall time of the whole call.
        promise: What can be promised of samples that nobody has seen; None without samples that
            were held back for it.
        unpurified: SHA-256 of the weights and biases of the model before, in the order of its
            layers (:func:`flain_core.provenance.fingerprint.of_model`).
        notes: What the reader should know, such as what one sample is worth.
        warnings: Those of the notes that were given as warnings as well.
        versions: Versions of flain, NumPy, Python and the framework.
        files: SHA-256 of each file that was read, by path.
        by_class: How the auxiliary samples of each class fared; empty where no classes are known or
            the samples lie elsewhere.
        asked: What the questions took to trusted holders of samples; None where there were none.

    Example:
        >>> import numpy as np
        >>> from flain_core import purify
        >>> from flain_numpy import Dense, Network
        >>> initial = Network([Dense("scores", np.array([[0.1, 0.0, 0.0], [0.0, 0.1, 0.0]]))])
        >>> final = Network([Dense("scores", np.array([[1.0, 0.0, -9.0], [0.0, 1.0, 9.0]]))])
        >>> x, y = np.tile([[1.0, 0.2, 0.0], [0.3, 0.9, 0.0]], (50, 1)), np.tile([0, 1], 50)
        >>> result = purify(final, initial=initial, data=(x, y))
        >>> result.verdict, result.after.clean
        ('flipped', 1.0)
        >>> result.card().splitlines()[0]
        '## Purification'
    """

    model: Any
    before: Measurement
    after: Measurement
    layers: tuple[LayerOutcome, ...]
    settings: Settings
    seconds: float
    promise: Promise | None = None
    unpurified: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    by_class: tuple[ClassOutcome, ...] = ()
    asked: Asked | None = None

    @property
    def verdict(self) -> Verdict:
        """Verdict on what was done: see :data:`~flain_core.outcome.verdict.Verdict`."""
        return verdict_on(self.layers)

    def __repr__(self) -> str:
        lines = [f"before={self.before}", f"after={self.after}", *map(repr, self.layers)]
        lines += [f"verdict={self.verdict!r}"]
        lines += [f"promise={str(self.promise)!r}"] if self.promise else []
        return f"Purification({type(self.model).__name__}, " + ",\n  ".join(lines) + ")"

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the purified model in the file format that the suffix of ``path`` names.

        The file says that it was purified, and how, so that nobody does it again by mistake
        (:mod:`flain_core.provenance.mark`): ``.onnx``, ``.safetensors``, ``.npz``, ``.keras``,
        ``.h5``, ``.pt``.

        Args:
            path: Where the file goes.
            overwrite: Whether a file that exists may be replaced.

        Raises:
            OutputError: The place cannot be written, the file exists, it is one that was read, or
                the model's backend does not write that format.
        """
        from flain_core.provenance.mark import mark_of
        from flain_core.storage.files import check_no_input

        check_no_input(path, self.files)
        registry.save(self.model, path, overwrite=overwrite, mark=mark_of(self))

    def card(self) -> str:
        """Return a section for a model card, in Markdown: what was done, and what it is worth."""
        from flain_core.provenance.card import card

        return card(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the model, in types that JSON knows."""
        return {
            "before": asdict(self.before),
            "after": asdict(self.after),
            "settings": asdict(self.settings),
            "layers": [layer.to_dict() for layer in self.layers],
            "seconds": self.seconds,
            "verdict": self.verdict,
            "promise": asdict(self.promise) if self.promise else None,
            "unpurified": self.unpurified,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "versions": dict(self.versions),
            "files": dict(self.files),
            "by_class": [asdict(each) for each in self.by_class],
            "asked": asdict(self.asked) if self.asked else None,
        }

    @property
    def plot(self) -> Plots:
        """Plots for papers: ``result.plot()`` draws them all, its methods one by one.

        They need ``pip install "flain[report]"``; see
        :class:`~flain_core.reporting.presenting.Plots`.
        """
        return Plots(self)

    def report(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write a report for people, ``.html``, or the one for programs, ``.json``.

        The page is one file that loads nothing from elsewhere. It needs
        ``pip install "flain[report]"``.

        Args:
            path: Where the file goes.
            overwrite: Whether a file that exists may be replaced.

        Raises:
            OutputError: The place cannot be written, the file exists, or the suffix is another one.
            FlainError: The extra is not installed.
        """
        write_report(self, path, overwrite=overwrite)

    def _repr_html_(self) -> str | None:
        """Show the report in a notebook, if the extra is installed; else its text is shown."""
        return html_or_none(self)

    def to_json(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the report: settings, versions, file hashes, every step, the layers' outcomes.

        Args:
            path: Where the file goes.
            overwrite: Whether a file that exists may be replaced.

        Raises:
            OutputError: The place cannot be written, or the file exists.
        """
        import json

        from flain_core.storage.files import check_no_input, written_whole

        check_no_input(path, self.files)
        with written_whole(path, overwrite=overwrite) as scratch:
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
            scratch.write_text(text + "\n", encoding="utf-8")
