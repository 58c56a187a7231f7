"""A Flower strategy that purifies what another strategy trained."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

import flain_core as flain
from flain_core.local_samples import source_of
from flain_core.options import SampleOptions, check_names
from flain_core.outcome.verdict import reason_for
from flain_core.reporting.metrics import metrics_of
from flain_core.settings import settings_or_default

from .kept import Kept
from .purify import check_without_samples, purified_records, recorded, rehearse
from .run_config import configured
from .telling import log, log_purification, log_result, warnings_logged

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flain_core.options import PurifyOptions

OnError: TypeAlias = Literal["raise", "keep"]
Evaluate: TypeAlias = "Callable[[int, ArrayRecord], MetricRecord | None]"


class PurificationError(flain.FlainError, RuntimeError):
    """The purification or the evaluation after a training failed; ``__cause__`` says why.

    Attributes:
        result: The result that Flower would have returned, with the trained model; with the
            purified one if only its evaluation failed.
        folder: The folder with the trained model, as ``trained.npz``.
    """

    def __init__(self, message: str, result: Result, folder: Path) -> None:
        super().__init__(message)
        self.result = result
        self.folder = folder


class Purify(Strategy):
    """Runs a strategy as it is, and removes a backdoor from the model that comes out.

    No message and no round differs from those of the wrapped strategy. After the last round
    ``result.arrays`` is the purified model, with the keys, order, shapes and types of the trained
    one, and ``result.evaluate_metrics_serverapp[num_rounds + 1]`` what was measured: the numbers of
    ``metrics``, and the evaluation of the purified model by ``evaluate_fn``.

    Before anything is purified, the trained model is in a file: ``trained.npz``, in a folder of
    this run that the log names, beside ``initial.npz``. ``purified.npz`` and ``report.json``
    follow. :func:`~flain_flower.load_arrays` reads the models.

    It has to be the outermost strategy: wrap a DP strategy in it, not the other way around.

    Args:
        strategy: Any strategy of the Message API (``flwr.serverapp.strategy``).
        model: The architecture of the global model: a PyTorch module, a Keras model, or any other
            that :func:`flain_core.purify_arrays` takes. Its own weights do not matter.
        data: A few hundred clean samples with labels, read at once, in any form that
            :func:`flain_core.purify` takes. Or :class:`~flain_flower.TrustedNodes`, who have such
            samples; then only what needs no samples is checked before training.
        on_error: ``"raise"`` raises a :class:`PurificationError` that carries the trained result if
            it cannot be purified; ``"keep"`` returns the trained result. Both log the failure. The
            trained result is returned, too, where it could be written nowhere.
        folder: Where the run's folder is made, named after the time. None takes ``purification`` in
            the folder in which the server app runs, or if that cannot be written,
            ``flain-purification`` among the system's temporary files.
        enabled: False runs the wrapped strategy alone, and reads no samples.
        options: Every option of :func:`flain_core.purify`, such as ``layers``, ``settings`` or
            ``probes``.

    Attributes:
        trained_arrays: The unpurified model; None before a run has trained one.
        purification: The purification of it; None if there was none.
        metrics: Scores before and after, verdict and promise of it; None if there was none.
        folder: The folder of the last run, absolute; None before one.
        failure: The error that kept it from being purified, or from being evaluated; else None.

    Raises:
        SettingsError: An option is out of range or of the wrong type.
        DataError: The samples cannot be used.
        TypeError: There is no such option.

    Example:
        >>> import numpy as np
        >>> import flain_numpy
        >>> from flwr.serverapp.strategy import FedAvg
        >>> from flain_flower import Purify
        >>> network = flain_numpy.Network([flain_numpy.Dense("scores", np.zeros((2, 3)))])
        >>> x, y = np.ones((100, 3)), np.tile([0, 1], 50)
        >>> strategy = Purify(FedAvg(), model=network, data=(x, y))
        >>> strategy.purification is None
        True
    """

    trained_arrays: ArrayRecord | None = None
    purification: flain.Purification | None = None
    metrics: MetricRecord | None = None
    folder: Path | None = None
    failure: Exception | None = None

    def __init__(
        self,
        strategy: Strategy,
        *,
        model: Any,
        data: Any,
        on_error: OnError = "raise",
        folder: str | os.PathLike[str] | None = None,
        enabled: bool = True,
        **options: Unpack[PurifyOptions],
    ) -> None:
        check_names(options, "Purify")
        _check_strategy(strategy)
        if on_error not in ("raise", "keep"):
            raise flain.SettingsError(
                f'expected on_error to be "raise" or "keep"; got {on_error!r}'
            )
        if not isinstance(folder, (str, os.PathLike, type(None))) or folder == "":
            raise flain.SettingsError(f"expected folder to be the path of one; got {folder!r}")
        if not isinstance(enabled, bool):
            raise flain.SettingsError(f"expected enabled to be True or False; got {enabled!r}")
        self.strategy = strategy
        self.on_error = on_error
        self.enabled = enabled
        self._parent = folder
        self._settings = settings_or_default(options.get("settings"))
        if not enabled:
            return
        left: dict[str, Any] = dict(options)
        names = left.keys() & SampleOptions.__annotations__
        # Read now: a file may be gone after training, and a generator gives its samples once.
        self._data = source_of(data, **{name: left.pop(name) for name in names})
        self._purify: Callable[..., flain.PurifiedArrays] = partial(
            purified_records, model=model, data=self._data, **left
        )
        self._check: Callable[[ArrayRecord], None] = partial(
            check_without_samples,
            facts=self._data.facts,
            model=model,
            **{**left, "settings": self._settings},
        )

    @classmethod
    def from_config(
        cls, run_config: Mapping[str, Any], strategy: Strategy, **options: Any
    ) -> Purify:
        """Return the strategy with options that the run's configuration may override.

        The configuration's keys are ``flain.enabled``, ``flain.folder``, ``flain.on-error``,
        ``flain.layers`` (names with commas between them), ``flain.outputs``, ``flain.batch-size``,
        ``flain.memory-limit``, ``flain.seed``, and of :class:`flain_core.Settings`
        ``flain.measure``, ``flain.tolerance``, ``flain.flip``, ``flain.promise``,
        ``flain.confidence``, ``flain.held-back``, ``flain.factor``, ``flain.crossing``,
        ``flain.statistic`` and ``flain.match-norm``. Flower lets ``--run-config`` override what
        stands in ``[tool.flwr.app.config.flain]``; the empty text there leaves a key to the code.

        Args:
            run_config: ``context.run_config`` of the server app.
            strategy: The strategy that trains.
            options: Every argument of :class:`Purify`, as the code has it.

        Raises:
            SettingsError: There is no such key, or its value is of the wrong type or out of range.
            FlainError: As :class:`Purify` does.

        Example:
            >>> from flwr.serverapp.strategy import FedAvg
            >>> run_config = {"rounds": 3, "flain.enabled": False}
            >>> strategy = Purify.from_config(run_config, FedAvg(), model=None, data="clean.npz")
            >>> strategy.enabled
            False
        """
        return cls(strategy, **configured(run_config, options))

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Evaluate | None = None,
    ) -> Result:
        """Run the wrapped strategy, and return its result with the purified model.

        Raises:
            FlainError: Before training, if the model, the arrays, the layers and the data do not
                fit each other.
            PurificationError: After training, with ``on_error="raise"``.
        """
        self.trained_arrays = self.purification = self.metrics = self.failure = None
        self.folder = None

        def train() -> Result:
            return self.strategy.start(
                grid=grid,
                initial_arrays=initial_arrays,
                num_rounds=num_rounds,
                timeout=timeout,
                train_config=train_config,
                evaluate_config=evaluate_config,
                evaluate_fn=evaluate_fn,
            )

        if not self.enabled:
            log.warning("FLAIN: switched off, so the trained model will not be purified")
            result = train()
            self.trained_arrays = result.arrays
            return result
        if self._data.facts.local:
            # Trusted nodes may only come while training runs, and are asked nothing before.
            rehearse(self._purify, initial_arrays, self._settings)
        else:
            self._check(initial_arrays)
        # The caller's record may have trained arrays put into it.
        initial = ArrayRecord(dict(initial_arrays))
        kept = Kept(self._parent)
        self.folder = kept.path
        kept.write("initial", initial)
        result = train()
        self.trained_arrays = result.arrays
        where = self._keep_trained(kept, result.arrays)
        try:
            self._purify_result(result, initial, kept)
            if self.metrics is not None:
                after = num_rounds + 1
                result.evaluate_metrics_serverapp[after] = self.metrics
                if evaluate_fn is not None and (found := evaluate_fn(after, result.arrays)):
                    log.info("FLAIN: evaluation of the purified model: %s", found)
                    merged = MetricRecord({**found, **self.metrics})
                    result.evaluate_metrics_serverapp[after] = merged
            log_result(result)
        except Exception as error:
            self._fail(error, result, where)
        finally:
            self.folder = kept.path
        return result

    def _keep_trained(self, kept: Kept, arrays: ArrayRecord) -> Path | None:
        """Write the trained model before anything can go wrong with it; None if nothing can be."""
        if _is_empty(arrays):
            return None
        # A strategy may return anything, and none of it may keep the result from the caller.
        try:
            where = kept.write_anywhere("trained", recorded(arrays))
        except Exception as error:
            log.error(
                "FLAIN: the trained model is in memory only, as nothing was written: %s", error
            )
            return None
        log.info("FLAIN: the trained model, not purified, is in %s", where)
        return where

    def _purify_result(self, result: Result, initial: ArrayRecord, kept: Kept) -> None:
        if _is_empty(result.arrays):
            raise flain.WeightsError(
                "no round aggregated, so there is no trained model; the log of the rounds says "
                "which replies were missing or failed"
            )
        with warnings_logged(instead=True) as told:
            purified = self._purify(initial, result.arrays)
        self.purification = purified.purification
        log_purification(self.purification, told)
        if self._is_unpurified:
            _write_report(self.purification, kept.path)
            raise flain.FlainError(reason_for(self.purification.layers))
        self.metrics = MetricRecord({**metrics_of(self.purification)})
        result.arrays = purified.arrays
        try:
            where = kept.write_anywhere("purified", purified.arrays)
        except flain.OutputError as error:
            log.error("FLAIN: the model was purified, but is in memory only: %s", error)
        else:
            log.info("FLAIN: the purified model is in %s", where)
        _write_report(self.purification, kept.path)

    @property
    def _is_unpurified(self) -> bool:
        """Whether the result is the trained model, as it was."""
        return self.purification is None or self.purification.verdict == "not flipped"

    def _fail(self, error: Exception, result: Result, trained: Path | None) -> None:
        """Log a failure, and raise it if that is wanted and loses nothing."""
        self.failure = error
        message = (
            "the trained model was not purified"
            if self._is_unpurified
            else "the model was purified, but evaluating it failed"
        )
        log.error("FLAIN: %s: %s", message, error)
        if self.on_error == "keep":
            return
        if trained is None and not _is_empty(result.arrays):
            log.error(
                'FLAIN: not raising although on_error="raise": the trained model could not be '
                "written to a file, so it is returned instead; failure of the strategy holds the "
                "error"
            )
            return
        kept = "" if trained is None else f"The trained model is in {trained}. "
        holds = "what Flower would have returned" if self._is_unpurified else "the purified model"
        raise PurificationError(
            f"{message}: {error}. {kept}The result of this error holds {holds}; "
            'on_error="keep" returns it instead',
            result,
            self.folder or Path() if trained is None else trained.parent,
        ) from error

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the wrapped strategy; only another strategy around this one calls this."""
        log.warning(
            "FLAIN: Purify is driven by another strategy and purifies nothing; call start() of "
            "Purify, and wrap that strategy in it: Purify(Other(...), ...)"
        )
        return self.strategy.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Ask the wrapped strategy."""
        return self.strategy.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the wrapped strategy."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Ask the wrapped strategy."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Log the summary of the wrapped strategy."""
        self.strategy.summary()


def _write_report(purification: flain.Purification, folder: Path) -> None:
    try:
        purification.to_json(folder / "report.json")
    except flain.OutputError as error:
        log.error("FLAIN: the report was not written: %s", error)
    else:
        log.info("FLAIN: the report is in %s", folder)


def _is_empty(arrays: object) -> bool:
    return arrays is None or (isinstance(arrays, (Mapping, list, tuple)) and not arrays)


def _check_strategy(strategy: object) -> None:
    inner: object = strategy
    while isinstance(inner, Strategy):
        if isinstance(inner, Purify):
            raise flain.SettingsError(
                "the strategy purifies already, and a second purification would flip the updates "
                "back; wrap the strategy that trains in Purify, once"
            )
        inner = getattr(inner, "strategy", None)
    if isinstance(strategy, Strategy):
        return
    given = f"the class {strategy.__name__}" if isinstance(strategy, type) else repr(strategy)
    older = ", of the older flwr.server.strategy: docs/flower.md says how to purify after those"
    raise flain.SettingsError(
        f"expected an instance of a strategy of flwr.serverapp.strategy; got {given}"
        + (older if hasattr(strategy, "configure_fit") else "")
    )
