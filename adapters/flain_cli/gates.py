"""Gates: what a result has to reach, so that a pipeline goes on."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import flain_core as flain
from flain_core.errors import nearest

ACCURACY = "ACC"
"""What the accuracy on the samples that searched is called in a gate."""

_PROMISE = "promise"
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*(.+?)\s*(<=|>=|<|>)\s*([^<>=]+?)\s*")


@dataclass(frozen=True)
class Gate:
    """A score that the purified model has to reach, or to stay below.

    Attributes:
        name: The probe, or ``"ACC"``.
        sign: How the score is compared with the limit: ``"<="``, ``">="``, ``"<"`` or ``">"``.
        limit: A fraction from 0 to 1.
        of_promise: Whether it is the promised share that is compared.
    """

    name: str
    sign: str
    limit: float
    of_promise: bool = False

    @classmethod
    def of(cls, text: str) -> Gate:
        """Read a gate as it is typed.

        Raises:
            ValueError: It has another form, or a limit that no score can have.

        >>> str(Gate.of("ASR<=0.02"))
        'ASR<=0.02'
        """
        form = _FORM.fullmatch(text)
        if not form:
            raise ValueError(
                f"expected NAME<=NUMBER or NAME>=NUMBER, such as 'ASR<=0.02'; got {text!r}"
            )
        return cls(form[1], form[2], _fraction(form[3], text))

    @classmethod
    def promised(cls, share: float) -> Gate:
        """Return the gate that no more than a share of new samples may be newly wrong.

        Raises:
            ValueError: The share is not greater than 0 and less than 1.
        """
        if not 0 < share < 1:
            raise ValueError(
                f"expected a share greater than 0 and less than 1 (0.01 is one per cent); got "
                f"{share:g}"
            )
        return cls(_PROMISE, "<=", share, of_promise=True)

    def check_name(self, probes: Iterable[str]) -> None:
        """Raise ValueError unless it is the name of a probe, or ``"ACC"``."""
        names = [ACCURACY, *probes]
        if not self.of_promise and self.name not in names:
            raise ValueError(
                f"there is nothing called {self.name!r} to be measured.{nearest(self.name, names)} "
                f"Known: {', '.join(names)} (name more samples with --trigger or --holdout)"
            )

    def __str__(self) -> str:
        return f"{self.name}{self.sign}{self.limit:g}"


@dataclass(frozen=True)
class CheckedGate:
    """A gate, and what a result reached.

    Attributes:
        gate: The gate.
        value: What was measured or promised, a fraction from 0 to 1; None if nothing is promised.
    """

    gate: Gate
    value: float | None

    @property
    def met(self) -> bool:
        """Whether the result passes."""
        return self.value is not None and _COMPARE[self.gate.sign](self.value, self.gate.limit)

    def __str__(self) -> str:
        if self.value is None:
            return f"gate not met: {self.gate}, and nothing can be promised of new samples"
        value = self._told(self.value)
        if self.met:
            return f"gate met: {self.gate} ({self.gate.name} is {value})"
        return f"gate not met: {self.gate}, and {self.gate.name} is {value}"

    def _told(self, value: float) -> str:
        """Write the value with as many digits as it takes to see which side it is on."""
        compare, limit = _COMPARE[self.gate.sign], float(f"{self.gate.limit:g}")
        texts = (f"{value:.{digits}g}" for digits in range(4, 18))
        return next((text for text in texts if compare(float(text), limit) == self.met), str(value))

    def to_dict(self) -> dict[str, object]:
        """Return it in types that JSON knows."""
        return {"gate": str(self.gate), "value": self.value, "met": self.met}


def checked(gates: Iterable[Gate], result: flain.Purification) -> list[CheckedGate]:
    """Compare gates with a result.

    ``"ACC"`` is the accuracy on the samples that searched, unless a probe has that name.
    """
    values = {ACCURACY: result.after.clean, **result.after.probes}
    promised = result.promise.loss if result.promise else None
    return [CheckedGate(gate, promised if gate.of_promise else values[gate.name]) for gate in gates]


def _fraction(number: str, text: str) -> float:
    try:
        limit = float(number)
    except ValueError:
        limit = -1.0
    if not 0 <= limit <= 1:
        raise ValueError(f"expected a number from 0 to 1 (0.02 is two per cent); got {text!r}")
    return limit
