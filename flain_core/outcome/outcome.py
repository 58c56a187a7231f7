"""The outcome of a purification, as data: frozen, and ready for JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flain_core.promise import Promise
from flain_core.settings import Settings
from flain_core.storage.files import check_no_input, written_whole

from .asked import Asked
from .layer import LayerOutcome
from .measurement import ClassOutcome, Measurement
from .verdict import Verdict, verdict_on


@dataclass(frozen=True, eq=False)
class Outcome:
    """The record of a purification; :class:`~flain_core.purification.Purification` explains it."""

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

    def to_json(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the report: settings, versions, file hashes, every step, the layers' outcomes.

        Args:
            path: Where the file goes.
            overwrite: Whether a file that exists may be replaced.

        Raises:
            OutputError: The place cannot be written, or the file exists.
        """
        check_no_input(path, self.files)
        with written_whole(path, overwrite=overwrite) as scratch:
            text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
            scratch.write_text(text + "\n", encoding="utf-8")
