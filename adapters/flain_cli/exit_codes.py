"""What the command's exit status means, so that a pipeline can stop."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class ExitCode(IntEnum):
    """An exit status; :data:`MEANINGS` says what each means."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    NOT_FLIPPED = 3
    GATE = 4
    INTERRUPTED = 130


MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.DONE: "Done. For `purify`: purified, within its promise, and every gate is met.",
    ExitCode.ERROR: "A file, a model or samples cannot be used, or a file cannot be written.",
    ExitCode.USAGE: "An option is missing, unknown, or has a value that it cannot have, "
    "whatever the files hold.",
    ExitCode.NOT_FLIPPED: "Nothing, hardly anything, or only what speaks for one class could be "
    "flipped. A backdoor is probably still there, if there was one; after "
    '"partly flipped", that holds for backdoors that lead to other classes. Where nothing was '
    "flipped, no model is written.",
    ExitCode.GATE: "A gate (`--require`, `--require-promise`) is not met. No model is written.",
    ExitCode.INTERRUPTED: "Interrupted by Ctrl-C.",
}
