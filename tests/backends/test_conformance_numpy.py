from typing import ClassVar

import flain_numpy as fn
from flain_core.conformance import Conformance, Conv, Dense, Mean, ReLU, Residual


class TestNumPy(Conformance):
    checks = 140
    biases = True
    exceptions: ClassVar = {"transposed": "flain_numpy has no transposed convolution"}
    formats = (".npz",)
    open_network = staticmethod(fn.open_network)
    save = staticmethod(fn.save)

    def load(self, path, reference):
        return fn.load(path)

    def build(self, reference):
        made = {}
        return fn.Network([operation(part, made) for part in reference.parts])


def operation(part, made):
    match part:
        case Dense(name, weight, bias):
            return made.setdefault(name, fn.Dense(name, weight, bias))
        case Conv(name, weight, bias, stride, padding, groups, transposed=False):
            return fn.Conv2d(name, weight, bias, stride=stride, padding=padding, groups=groups)
        case ReLU():
            return fn.ReLU()
        case Mean():
            return fn.GlobalAvgPool2d()
        case Residual(branch):
            return fn.Residual([operation(each, made) for each in branch])
    raise NotImplementedError(part)
