"""Keeps within a limit what Keras builds of a description: a few bytes can declare any layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from threading import RLock, get_ident
from typing import Any

import keras

from flain_core.errors import WeightsError
from flain_core.storage.limits import check_memory

_OVERHEAD = 256
"""Bytes that a variable takes at least, so that very many small ones count too."""

_one_at_a_time = RLock()


@contextmanager
def allowance(size: int, what: str) -> Iterator[None]:
    """Raise :class:`WeightsError` before this thread makes variables that take too much memory.

    Keras allocates the variables of a model before it reads any, and asks nobody. So for as long as
    the block runs, it asks here.

    Args:
        size: Bytes of the file that the variables are in; a model may always have that many.
        what: The file, for the message.
    """
    kind: Any = keras.Variable
    thread, wanted, refusals = get_ident(), 0, list[WeightsError]()
    make: Callable[..., None]

    def counted(self: Any, initializer: Any, shape: Any = None, *given: Any, **named: Any) -> None:
        nonlocal wanted
        if get_ident() == thread:
            wanted += _OVERHEAD + _bytes(shape, given[0] if given else named.get("dtype"))
            try:
                check_memory(wanted, size=size, what=what, error=WeightsError)
            except WeightsError as error:
                refusals.append(error)
                raise
        make(self, initializer, shape, *given, **named)

    with _one_at_a_time:
        make, own = kind.__init__, "__init__" in vars(kind)
        kind.__init__ = counted
        try:
            yield
        # Keras may have made another error of it.
        except Exception as error:
            if refusals and error is not refusals[0]:
                raise refusals[0] from error
            raise
        finally:
            if own:
                kind.__init__ = make
            else:
                del kind.__init__


def _bytes(shape: Any, dtype: Any) -> int:
    """Return what a variable takes; 0 where its shape is none, which Keras tells better."""
    try:
        sizes = [int(size) for size in shape or ()]
        bits = re.search(r"\d+", keras.backend.standardize_dtype(dtype))
    except (TypeError, ValueError):
        return 0
    return prod(sizes) * max(int(bits[0]) // 8 if bits else 1, 1)
