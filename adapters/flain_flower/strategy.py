"""A Flower strategy that purifies what another strategy trained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

import flain_core as flain
from flain_core.local_samples import source_of
from flain_core.options import SampleOptions, check_names
from flain_core.settings import settings_or_default

from .purify import purify, rehearse

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flain_core.options import PurifyOptions

OnError: TypeAlias = Literal["raise", "keep"]
Evaluate: TypeAlias = "Callable[[int, ArrayRecord], MetricRecord | None]"

_log = logging.getLogger("flwr")


class PurificationError(flain.FlainError, RuntimeError):
    """The purification or the evaluation after a training failed; ``__cause__`` says why.

    Attributes:
        result: The result that Flower would have returned, with the trained model; with the
            purified one if only its evaluation failed.
    """

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class Purify(Strategy):
    """Runs a strategy as it is, and removes a backdoor from the model that comes out.

    No message and no round differs from those of the wrapped strategy. After the last round
    ``result.arrays`` is the purified model, with the keys, order, shapes and types of the trained
    one, and ``result.evaluate_metrics_serverapp[num_rounds + 1]`` its evaluation by
    ``evaluate_fn``.

    It has to be the outermost strategy: wrap a DP strategy in it, not the other way around.

    Args:
        strategy: Any strategy of the Message API (``flwr.serverapp.strategy``).
        model: The architecture of the global model: a PyTorch module, a Keras model, or any other
            that :func:`flain_core.purify_arrays` takes. Its own weights do not matter.
        data: A few hundred clean samples with labels, read at once, in any form that
            :func:`flain_core.purify` takes. Or :class:`~flain_flower.TrustedNodes`, who have such
            samples; then nothing is rehearsed before training.
        on_error: ``"raise"`` raises a :class:`PurificationError` that carries the trained result if
            it cannot be purified; ``"keep"`` returns the trained result. Both log the failure.
        options: Every option of :func:`flain_core.purify`, such as ``layers``, ``settings`` or
            ``probes``.

    Attributes:
        trained_arrays: The unpurified model; None before a run has trained one.
        purification: The purification of it; None if there was none.
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
    failure: Exception | None = None

    def __init__(
        self,
        strategy: Strategy,
        *,
        model: Any,
        data: Any,
        on_error: OnError = "raise",
        **options: Unpack[PurifyOptions],
    ) -> None:
        check_names(options, "Purify")
        _check_strategy(strategy)
        if on_error not in ("raise", "keep"):
            raise flain.SettingsError(
                f'expected on_error to be "raise" or "keep"; got {on_error!r}'
            )
        self.strategy = strategy
        self.on_error = on_error
        self._settings = settings_or_default(options.get("settings"))
        left: dict[str, Any] = dict(options)
        names = left.keys() & SampleOptions.__annotations__
        # Read now: a file may be gone after training, and a generator gives its samples once.
        self._data = source_of(data, **{name: left.pop(name) for name in names})
        self._purify: Callable[..., flain.PurifiedArrays] = partial(
            purify, model=model, data=self._data, **left
        )

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
        self.trained_arrays = self.purification = self.failure = None
        if self._data.facts.local:
            # Trusted nodes may only come while training runs, and are asked nothing before.
            rehearse(self._purify, initial_arrays, self._settings)
        # The caller's record may have trained arrays put into it.
        initial = ArrayRecord(dict(initial_arrays))
        result = self.strategy.start(
            grid=grid,
            initial_arrays=initial_arrays,
            num_rounds=num_rounds,
            timeout=timeout,
            train_config=train_config,
            evaluate_config=evaluate_config,
            evaluate_fn=evaluate_fn,
        )
        self.trained_arrays = result.arrays
        try:
            self._purify_result(result, initial)
            if evaluate_fn is not None:
                metrics = evaluate_fn(num_rounds + 1, result.arrays)
                _log.info("FLAIN: evaluation of the purified model: %s", metrics)
                if metrics is not None:
                    result.evaluate_metrics_serverapp[num_rounds + 1] = metrics
        except Exception as error:
            self.failure = error
            message = (
                "the trained model was not purified"
                if self.purification is None
                else "the model was purified, but evaluating it failed"
            )
            _log.error("FLAIN: %s: %s", message, error)
            if self.on_error == "raise":
                raise PurificationError(
                    f"{message}: {error}. Nothing is lost: result, of this error, is what Flower "
                    'would have returned; on_error="keep" returns it instead',
                    result,
                ) from error
        return result

    def _purify_result(self, result: Result, initial: ArrayRecord) -> None:
        if not result.arrays:
            raise flain.WeightsError(
                "no round aggregated, so there is no trained model; the log of the rounds says "
                "which replies were missing or failed"
            )
        purified = self._purify(initial, result.arrays)
        self.purification = purified.purification
        result.arrays = purified.arrays
        _log.info("FLAIN: %r", self.purification)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the wrapped strategy; only another strategy around this one calls this."""
        _log.warning(
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
