"""Training steps that a CUDA device repeats by itself (CUDA graphs).

A step of a small network is hundreds of kernels that take less time than it takes to launch them.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

_WARM_UP = 3
_recorded: dict[tuple[object, ...], Steps] = {}


class Steps:
    """The step of one architecture with Adam, recorded once and repeated with any weights.

    Args:
        module: On the device; a copy of it is trained.
        x: A batch ``(n, ...)``; those that follow have its size.
        y: Its classes ``(n,)``.
        rate: Of Adam.
    """

    def __init__(self, module: nn.Module, x: Tensor, y: Tensor, rate: float) -> None:
        self._module, self._x, self._y = deepcopy(module).train(), x.clone(), y.clone()
        parameters = self._module.parameters()
        self._optimizer = torch.optim.Adam(parameters, lr=rate, capturable=True, fused=True)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                self._step(self._x, self._y)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self._graph):
            self._step(self._x, self._y)

    def train(self, module: nn.Module, x: Tensor, y: Tensor, batches: list[Tensor]) -> None:
        """Train a module of this architecture in place on batches of indices, with a fresh Adam."""
        self._module.load_state_dict(module.state_dict())
        for state in self._optimizer.state.values():
            for each in state.values():
                each.zero_()
        for batch in batches:
            if len(batch) == len(self._y):
                torch.index_select(x, 0, batch, out=self._x)
                torch.index_select(y, 0, batch, out=self._y)
                self._graph.replay()
            else:
                self._step(x[batch], y[batch])
        module.load_state_dict(self._module.state_dict())

    def _step(self, x: Tensor, y: Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(self._module(x), y).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()


def steps_of(module: nn.Module, x: Tensor, y: Tensor, batch: int, rate: float) -> Steps | None:
    """Return the steps of a module's architecture, which this process records once.

    None if there are not enough samples for a batch.
    """
    if len(y) < batch:
        return None
    key = str(module), x.shape[1:], x.device, batch, rate
    if key not in _recorded:
        _recorded[key] = Steps(module, x[:batch], y[:batch], rate)
    return _recorded[key]
