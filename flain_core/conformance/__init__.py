"""The suite that every backend passes: subclass it, say how to build a network, run pytest.

:class:`Conformance` describes small networks without a framework
(:mod:`flain_core.conformance.networks`); a subclass builds them in its own. Then every promise of
:class:`~flain_core.Network` and :class:`~flain_core.Cut` is checked on each of them against what
plain NumPy computes, down to whole purifications. pytest collects a subclass whose name starts with
``Test``; :meth:`Conformance.run` does without pytest.

Example:
    A backend without transposed convolution, in the file ``test_conformance.py``.

    >>> import flain_numpy as fn
    >>> from flain_core.conformance import *
    >>> class TestNumPy(Conformance):
    ...     checks = 140
    ...     biases = True
    ...     exceptions = {"transposed": "flain_numpy has no transposed convolution"}
    ...     formats = (".npz",)
    ...     open_network = staticmethod(fn.open_network)
    ...     save = staticmethod(fn.save)
    ...
    ...     def build(self, reference):
    ...         made = {}  # a name that comes twice is one layer, used twice
    ...         return fn.Network([self.operation(part, made) for part in reference.parts])
    ...
    ...     def operation(self, part, made):
    ...         match part:
    ...             case Dense(name, weight, bias):
    ...                 return made.setdefault(name, fn.Dense(name, weight, bias))
    ...             case Conv(name, weight, bias, stride, padding, groups, transposed=False):
    ...                 options = {"stride": stride, "padding": padding, "groups": groups}
    ...                 return fn.Conv2d(name, weight, bias, **options)
    ...             case ReLU():
    ...                 return fn.ReLU()
    ...             case Mean():
    ...                 return fn.GlobalAvgPool2d()
    ...             case Residual(branch):
    ...                 return fn.Residual([self.operation(each, made) for each in branch])
    ...         raise NotImplementedError(part)
    ...
    ...     def load(self, path, reference):
    ...         return fn.load(path)
    >>> TestNumPy.run()
    140
"""

from __future__ import annotations

from .cases import Case
from .networks import Conv, Dense, Mean, Part, Reference, ReLU, Residual
from .suite import Conformance

__all__ = ["Case", "Conformance", "Conv", "Dense", "Mean", "Part", "ReLU", "Reference", "Residual"]
