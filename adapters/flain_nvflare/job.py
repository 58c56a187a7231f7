"""A job's purification, with every path and import resolved."""

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


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that :func:`flain_core.purify_arrays` needs besides the weights.

    Attributes:
        model: The architecture.
        data: The path of the clean samples, ``.npz`` with ``x`` and ``y``; or clients to ask.
        probes: Further samples by name, likewise.
        layers: Names of the layers to purify, or ``"auto"``, ``"dense"``, ``"conv"``, ``"all"``.
        settings: The settings of the search.
    """

    model: Any
    data: Path | SampleSource
    probes: Mapping[str, Path]
    layers: str | Sequence[str]
    settings: Settings

    def check(self) -> None:
        """Find the layers, read the samples, and run the untrained model on those that are here.

        Raises:
            FlainError: The purification would fail after training.
        """
        source = source_of(self.data, probes=self.probes or None)
        network = open_network(self.model)
        chosen_layers(network, self.layers)
        if source.facts.local:
            source.scorer(network).score_of(network)

    def check_initial(self, initial: Mapping[str, Any]) -> None:
        """Raise :class:`WeightsError` unless initial, and so trained, parameters fit the model."""
        arrays = Parameters(initial, self.model).arrays
        vector = not isinstance(arrays, (dict, list))
        held = arrays_of(architecture(self.model), buffers=not vector)
        fitting("initial", by_name("initial", arrays, held), held)

    def purify(
        self, initial: Mapping[str, Any], trained: Mapping[str, Any], progress: OnProgress
    ) -> PurifiedArrays:
        """Purify, and return the parameters as the server holds them.

        Args:
            initial: The parameters that training started from, arrays or tensors by name.
            trained: The trained ones, likewise.
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
