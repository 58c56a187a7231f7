"""Notices values that leave torch, where no tape can follow them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Escapes"]

_WAYS_OUT = (Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.data_ptr)


class Escapes(TorchFunctionMode):
    """Reports every tensor whose values are read without torch inside its ``with`` block."""

    def __init__(self, report: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._report = report

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _WAYS_OUT:
            self._report(args[0])
        return func(*args, **(kwargs or {}))
