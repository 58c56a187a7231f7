"""Gives global switches of a framework other values for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import RLock
from typing import Any

_switching = RLock()


@contextmanager
def switched(switches: Sequence[tuple[Any, str, object]]) -> Iterator[None]:
    """Give some attributes other values for a while; each is an owner, a name and the value.

    They are global: two threads would restore each other's values, so one at a time has its way.
    They are set, and put back, in their order; one that cannot be read is left alone.

    >>> from types import SimpleNamespace
    >>> place = SimpleNamespace(rounds=True)
    >>> with switched([(place, "rounds", False)]):
    ...     place.rounds
    False
    >>> place.rounds
    True
    """
    with _switching:
        before = []
        for owner, name, value in switches:
            # PyTorch raises where a user has mixed its old and its new switches.
            with suppress(RuntimeError):
                before.append((owner, name, value, getattr(owner, name)))
        try:
            for owner, name, value, _ in before:
                setattr(owner, name, value)
            yield
        finally:
            for owner, name, _, former in before:
                setattr(owner, name, former)


def switches_of(torch: Any) -> list[tuple[Any, str, object]]:
    """Return PyTorch's switches for TensorFloat-32 on CUDA, with the values that keep all bits.

    Args:
        torch: The module.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    # First, as they set the others too, and so both kinds agree for whoever reads one.
    old: list[tuple[Any, str, object]] = [
        (convolutions, "allow_tf32", False),
        (products, "allow_tf32", False),
    ]
    if not hasattr(convolutions, "conv"):  # before PyTorch 2.9
        return old
    places = (products, convolutions.conv, convolutions.rnn)
    return [*old, *((place, "fp32_precision", "ieee") for place in places)]
