"""What it took to ask the holders of samples that lie elsewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """Questions to the holders of samples, and the bytes and seconds that they took.

    Attributes:
        holders: Number of holders that were asked first.
        kind: A noun for one of them.
        questions: Number of questions, each put to all holders that were left.
        messages: Number of messages to holders, those included that asked again.
        bytes_down: Bytes of arrays that went to all holders together; a stack adds some to each.
        bytes_up: Bytes of arrays that came back.
        seconds: Time from each question to the last answer, added up.

    Example:
        >>> print(Asked(holders=3, kind="node", questions=5, messages=15, bytes_down=4_800_000,
        ...             bytes_up=90_000, seconds=12.34))
        3 nodes were asked 5 questions in 15 messages; 4.8 MB went to them and 0.09 MB came back, in
        12.3 s
    """

    holders: int = 0
    kind: str = "holder"
    questions: int = 0
    messages: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.holders} {self.kind}s were asked {self.questions} questions in "
            f"{self.messages} messages; {self.bytes_down / 1e6:.2g} MB went to them and "
            f"{self.bytes_up / 1e6:.2g} MB came back, in {self.seconds:.1f} s"
        )
