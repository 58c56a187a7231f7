"""The auxiliary samples in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .auxiliary.samples import Samples
from .errors import SettingsError
from .in_memory.held_back import HeldBack, split
from .in_memory.scorer import LocalScorer
from .network import Network
from .options import MEMORY_LIMIT, SampleOptions
from .outputs import OUTPUTS, Outputs
from .sample_source import SampleFacts, SampleSource, is_sample_source
from .score import Score, accuracy
from .settings import Settings, one_of, whole_number

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LocalSamples", "source_of"]


@dataclass(frozen=True, eq=False)
class LocalSamples:
    """The samples that every candidate is scored on.

    It implements :class:`~flain_core.sample_source.SampleSource`.

    Attributes:
        clean: The auxiliary samples, which steer the search.
        probes: Further samples, which are only reported.
        score: What a sample is worth.
        outputs: What a classifier's scores are; None recognises it.
        batch_size: Samples per batch; None lets the size of a sample decide.
        memory_limit: Bytes that may be spent on keeping cut batches, and an eighth of them on the
            inputs of a loader.
    """

    clean: Samples
    probes: Mapping[str, Samples] = field(default_factory=dict)
    score: Score = accuracy
    outputs: Outputs | None = None
    batch_size: int | None = None
    memory_limit: int = MEMORY_LIMIT

    @classmethod
    def of(
        cls,
        data: Any,
        *,
        probes: Mapping[str, Any] | None = None,
        score: Score = accuracy,
        outputs: Outputs | None = None,
        batch_size: int | None = None,
        memory_limit: int = MEMORY_LIMIT,
    ) -> LocalSamples:
        """Read the samples, in any form that :meth:`Samples.of` takes.

        Raises:
            DataError: Samples cannot be used.
            SettingsError: An option is out of range or of the wrong type.
        """
        if batch_size is not None:
            batch_size = whole_number(batch_size, "batch_size, in samples,", least=1)
        memory_limit = whole_number(memory_limit, "memory_limit, in bytes,", least=0)
        if not callable(score):
            raise SettingsError(
                f"expected score to be a function of (scores, y); got {score!r}. Leave it out for "
                "top-1 accuracy"
            )
        classify = score is accuracy
        if outputs is not None:
            one_of(outputs, OUTPUTS, "outputs")
            if not classify:
                raise SettingsError("outputs describes a classifier; leave it out with score=")
        return cls(
            clean=Samples.of(data, classify=classify, memory_limit=memory_limit),
            probes={
                name: Samples.of(
                    probe, name=f"probe {name!r}", classify=classify, memory_limit=memory_limit
                )
                for name, probe in _checked_probes(probes).items()
            },
            score=score,
            outputs=outputs,
            batch_size=batch_size,
            memory_limit=memory_limit,
        )

    @property
    def facts(self) -> SampleFacts:
        """Facts about the samples."""
        if self.score is not accuracy:
            return SampleFacts(classify=False, pixels=self.clean.are_pixels, local=True)
        labels, alike = np.unique(self.clean.y), self.clean.first_alike
        return SampleFacts(
            classes=labels.size,
            greatest_label=int(labels[-1]),
            one_hot=self.clean.one_hot,
            probe_classes={
                name: int(np.unique(probe.y).size) for name, probe in self.probes.items()
            },
            copies=float((np.bincount(alike)[alike] > 1).mean()),
            pixels=self.clean.are_pixels,
            local=True,
        )

    def scorer(
        self,
        network: Network,
        settings: Settings,
        seed: int,
    ) -> LocalScorer:
        """Return what scores any network, on the samples that the settings leave to decide.

        Args:
            network: The trained model.
            settings: With every choice made.
            seed: Splits the samples.

        Raises:
            DataError: There are too few samples to split.
        """
        searching, held_back = split(self.clean, settings, seed)
        scorer = LocalScorer(
            replace(self, clean=searching),
            measure=settings.measure,
            keeps_inputs=settings.flip != "neurons",
        )
        if held_back is not None:
            scorer.held_back = HeldBack(
                network, held_back, self.batch_size, scorer.grader, settings
            )
        return scorer


def source_of(data: Any, **options: Unpack[SampleOptions]) -> SampleSource:
    """Read and check what a caller gave as data.

    Args:
        data: As :meth:`LocalSamples.of` takes it; or a source of samples that lie elsewhere, which
            has options of its own.
        options: The options of :func:`flain_core.purify` that concern samples.

    Raises:
        DataError: Samples cannot be used.
        SettingsError: An option is out of range, of the wrong type, or belongs to the source.
    """
    if not is_sample_source(data):
        return LocalSamples.of(data, **options)
    given = [name for name, value in options.items() if not _is_default(name, value)]
    kind = type(data).__name__
    if lacking := [name for name in given if not _takes(type(data), name)]:
        raise SettingsError(
            f"expected no {', '.join(lacking)}, as samples behind a {kind} are scored where they "
            "lie; its documentation says what can be said there"
        )
    if given:
        raise SettingsError(
            f"give {', '.join(given)} to the {kind}, which holds the samples, and not to purify"
        )
    return cast("SampleSource", data)


def _takes(kind: type, name: str) -> bool:
    """Return whether a kind of sources has an option of that name, or may have it."""
    try:
        takes = signature(kind).parameters
    except (TypeError, ValueError):
        return False
    return name in takes or any(each.kind is each.VAR_KEYWORD for each in takes.values())


def _is_default(name: str, value: object) -> bool:
    known = signature(LocalSamples.of).parameters
    default = known[name].default if name in known else ...
    # An array compares number by number.
    return value is default or (type(value) is int and value == default)


def _checked_probes(probes: Mapping[str, Any] | None) -> Mapping[str, Any]:
    probes = {} if probes is None else probes
    if not isinstance(probes, Mapping):
        raise SettingsError(
            f'expected probes by name, such as probes={{"ASR": (x, y)}}; got a '
            f"{type(probes).__name__}"
        )
    for name in probes:
        if not isinstance(name, str):
            raise SettingsError(f"expected the names of probes to be strings; got {name!r}")
    if "clean" in probes:
        raise SettingsError('"clean" is what the score on data is called; rename that probe')
    return probes
