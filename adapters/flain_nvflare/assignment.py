"""What a job asks for, with every path and import resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flain_core import PurifiedArrays, Settings, purify_arrays
from flain_core.array_forms import by_name, fitting
from flain_core.layer_choice import chosen_layers
from flain_core.local_samples import source_of
from flain_core.progress import OnProgress
from flain_core.registry import architecture, arrays_of, open_network
from flain_core.sample_source import SampleSource

from .parameters import Parameters

__all__ = ["Assignment"]


@dataclass(frozen=True, eq=False)
class Assignment:
    """Everything that :func:`flain_core.purify_arrays` needs besides the weights.

    Attributes:
        model: The architecture.
        data: Where the clean samples lie, ``.npz`` with ``x`` and ``y``; or whom to ask.
        probes: Further samples by name, likewise.
        layers: Which layers to purify.
        settings: How the search decides.
    """

    model: Any
    data: Path | SampleSource
    probes: Mapping[str, Path]
    layers: str | Sequence[str]
    settings: Settings

    def check(self) -> None:
        """Find the layers, read the samples, and run the untrained model on those that are here.

        Raises:
            FlainError: Whatever would make the purification fail after training.
        """
        source = source_of(self.data, probes=self.probes or None)
        network = open_network(self.model)
        chosen_layers(network, self.layers)
        if source.facts.local:
            source.scorer(network).score_of(network)

    def check_initial(self, initial: Mapping[str, Any]) -> None:
        """Make sure that the initial parameters, and so the trained ones, fit the architecture.

        Raises:
            WeightsError: They do not.
        """
        arrays = Parameters(initial, self.model).arrays
        vector = not isinstance(arrays, (dict, list))
        held = arrays_of(architecture(self.model), buffers=not vector)
        fitting("initial", by_name("initial", arrays, held), held)

    def purify(
        self, initial: Mapping[str, Any], trained: Mapping[str, Any], progress: OnProgress
    ) -> PurifiedArrays:
        """Purify, and give back the parameters as the server holds them.

        Args:
            initial: What training started from, arrays or tensors by name.
            trained: What came out, likewise.
            progress: Called at every step of the search.

        Raises:
            FlainError: The model cannot be purified.
        """
        final = Parameters(trained, self.model)
        purified = purify_arrays(
            Parameters(initial, self.model).arrays,
            final.arrays,
            self.model,
            data=self.data,
            layers=self.layers,
            settings=self.settings,
            probes=self.probes or None,
            progress=progress,
        )
        return PurifiedArrays(final.holding(purified.arrays), purified.purification)
