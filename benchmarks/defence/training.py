"""Local training in PyTorch, and the way from weights to Flower's arrays and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import Tensor, nn

from .graphed import steps_of

BATCH = 32
RATE = 1e-3

State = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Plan:
    """What a client does beyond ordinary training.

    Attributes:
        masks: Gradients of these parameters are multiplied by these tensors.
        penalty: Is added to the loss of every batch.
        weight: The share of the ordinary loss beside a penalty.
        boost: The update that is sent is this many times the trained one.
        epochs: Local epochs; None keeps the row's.
    """

    masks: Mapping[str, Tensor] = field(default_factory=dict)
    penalty: Callable[[nn.Module], Tensor] | None = None
    weight: float = 1.0
    boost: float = 1.0
    epochs: int | None = None


def derived(*parts: int) -> int:
    """A 32-bit seed that depends on every part and on their order."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def train(module: nn.Module, x: Tensor, y: Tensor, epochs: int, seed: int, plan: Plan) -> None:
    """Trains in place with a fresh Adam on inputs ``(n, ...)`` and classes ``(n,)``."""
    is_plain = not plan.masks and plan.penalty is None
    # Before the seed, as recording draws numbers.
    repeated = steps_of(module, x, y, BATCH, RATE) if y.is_cuda and is_plain else None
    torch.manual_seed(seed)
    module.train()
    batches = _batches(len(y), plan.epochs or epochs)
    if repeated:
        repeated.train(module, x, y, [batch.to(y.device) for batch in batches])
    else:
        _train(module, x, y, batches, plan)
    module.eval()


def _batches(count: int, epochs: int) -> Iterator[Tensor]:
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(count), BATCH):
            if len(batch) > 1 or count == 1:  # Batch norm needs two.
                yield batch


def _train(module: nn.Module, x: Tensor, y: Tensor, batches: Iterable[Tensor], plan: Plan) -> None:
    optimizer = torch.optim.Adam(module.parameters(), lr=RATE)
    masked = [(module.get_parameter(name), mask) for name, mask in plan.masks.items()]
    for batch in batches:
        loss = nn.functional.cross_entropy(module(x[batch]), y[batch])
        if plan.penalty:
            loss = plan.weight * loss + plan.penalty(module)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter, mask in masked:
            if parameter.grad is not None:
                parameter.grad.mul_(mask)
        optimizer.step()


def copied(module: nn.Module) -> State:
    """The module's state, detached from its later training."""
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in module.state_dict().items()
    }


def boosted(module: nn.Module, before: State, factor: float) -> State:
    """The state with every parameter moved ``factor`` times as far from where it was."""
    state = copied(module)
    for name, _ in module.named_parameters():
        state[name] = before[name] + factor * (state[name] - before[name])
    return state


def packed(state: State) -> ArrayRecord:
    """The state as Flower sends it."""
    return ArrayRecord(state)


def unpacked(arrays: ArrayRecord, like: State) -> State:
    """The state that Flower's arrays hold, with the names and types of another.

    Some strategies number the arrays instead of naming them, and averages of counters are floats.
    """
    names = list(like)
    keys = names if set(arrays) == set(names) else list(map(str, range(len(names))))
    return {
        name: torch.tensor(arrays[key].numpy()).to(like[name].dtype).reshape(like[name].shape)
        for name, key in zip(names, keys, strict=True)
    }
