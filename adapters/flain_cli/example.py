"""The embedded example: a federated MNIST model with a real backdoor, and samples to try it on.

``benchmarks/train_example.py`` made it; ``data/training.json`` tells how.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import flain_core as flain
from flain_core.auxiliary.samples import Samples
from flain_core.in_memory.scorer import LocalScorer
from flain_core.local_samples import LocalSamples
from flain_core.opening.registry import open_network
from flain_core.progress import OnProgress
from flain_core.storage.files import check_writable, written_whole

Measured: TypeAlias = Mapping[str, tuple[float, float]]
"""Shares from 0 to 1, before and after, by name."""

Format: TypeAlias = Literal[".npz", ".onnx"]
"""Networks of flain_numpy, or the same two models exported from PyTorch to ONNX."""

_EMBEDDED = Path(__file__).parent / "data"
_FORMATS: tuple[Format, ...] = (".npz", ".onnx")
_MODELS, _SAMPLES = ("initial", "final"), ("auxiliary.npz", "clean.npz", "triggered.npz")


@dataclass(frozen=True)
class Files:
    """The files of the example in a folder, and the format of the models to take.

    The folder holds the models ``initial`` and ``final`` in each format; ``auxiliary.npz``, clean
    samples for the search; ``clean.npz``, held-out samples; and ``triggered.npz``, held-out samples
    with the trigger and the attacker's target as y. Images are float32 ``(n, 1, 28, 28)`` from 0 to
    1.
    """

    folder: Path
    models: Format = ".npz"

    @property
    def paths(self) -> list[Path]:
        """Initial and final model; auxiliary, clean and triggered samples."""
        names = (*(f"{model}{self.models}" for model in _MODELS), *_SAMPLES)
        return [self.folder / name for name in names]

    @property
    def in_every_format(self) -> list[Path]:
        """All files of the folder."""
        models = [f"{model}{suffix}" for suffix in _FORMATS for model in _MODELS]
        return [self.folder / name for name in (*models, *_SAMPLES)]

    @property
    def story(self) -> str:
        """Where the model comes from, in a sentence."""
        told: str = json.loads((_EMBEDDED / "training.json").read_text())["story"]
        return told

    @property
    def command(self) -> str:
        """The command line that purifies the model with the files of this folder."""
        initial, final, auxiliary, _, triggered = (shlex.quote(str(path)) for path in self.paths)
        purified = shlex.quote(str(self.folder / f"purified{self.models}"))
        return (
            f"flain purify {final} --initial {initial} --data {auxiliary} "
            f"--trigger ASR={triggered} -o {purified}"
        )


def files(models: Format = ".npz") -> Files:
    """Return the example inside the package."""
    return Files(_EMBEDDED, models)


def copy_to(
    folder: str | os.PathLike[str], models: Format = ".npz", *, overwrite: bool = False
) -> Files:
    """Copy the example, in every format, into a folder, which is made if it is missing.

    Raises OutputError, and copies nothing, if a file exists or the folder cannot be written.
    """
    copy = Files(Path(folder), models)
    try:
        copy.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise flain.OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
    for path in copy.in_every_format:
        check_writable(path, overwrite=overwrite)
    for path in copy.in_every_format:
        with written_whole(path, overwrite=overwrite) as scratch:
            scratch.write_bytes((_EMBEDDED / path.name).read_bytes())
    return copy


def purify(
    files: Files, progress: OnProgress | bool = False
) -> tuple[flain.Purification, Measured]:
    """Purify the example with the default settings, and measure it on the held-out samples.

    Measured are ACC (clean accuracy) and ASR (attack success rate: the share of triggered images
    that are given the attacker's target).
    """
    initial, final, auxiliary, clean, triggered = files.paths
    result = flain.purify(
        final, initial=initial, data=auxiliary, probes={"ASR": triggered}, progress=progress
    )
    held_out = LocalScorer(LocalSamples(Samples.of(clean), {"ASR": Samples.of(triggered)}))
    before, after = map(held_out.score_of, (open_network(final), open_network(result.model)))
    return result, {
        "ACC, clean accuracy": (before.clean.mean, after.clean.mean),
        "ASR, attack success rate": (before.probes["ASR"].mean, after.probes["ASR"].mean),
    }
