"""What is raised when a trained model could not be purified: the training is not lost with it."""

from __future__ import annotations

from flwr.serverapp.strategy import Result

from flain_core import FlainError

__all__ = ["PurificationError"]


class PurificationError(FlainError, RuntimeError):
    """Training went well, but what came after it failed; ``__cause__`` says why.

    Attributes:
        result: What Flower would have returned, with the trained model. Where the purified model
            was there already and only its evaluation failed, it holds the purified one.
    """

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result
