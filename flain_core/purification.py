"""A purified model and what was done to it: printable, saveable, for people and for programs."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .opening import registry
from .outcome.outcome import Outcome
from .provenance.mark import mark_of
from .reporting.presenting import Plots, html_or_none, write_report
from .storage.files import check_no_input


@dataclass(frozen=True, eq=False)
class Purification(Outcome):
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
        check_no_input(path, self.files)
        registry.save(self.model, path, overwrite=overwrite, mark=mark_of(self))

    def card(self) -> str:
        """Return a section for a model card, in Markdown: what was done, and what it is worth."""
        # It takes much of the search with it, and `import flain` is to stay light.
        from .provenance.card import card

        return card(self)

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
