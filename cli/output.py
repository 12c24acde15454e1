"""Output and exit codes. Results go to stdout, messages and progress to stderr."""

from __future__ import annotations

import os
import sys
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of all commands."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOT_AUTHORISED = 4
    TIMED_OUT = 5
    INTERRUPTED = 130


def say(text: str) -> None:
    """Print a line for people."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def on_terminal() -> bool:
    """Whether a person watches: only they get progress bars and colours."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def duration(seconds: float) -> str:
    """A length of time in one unit: 12 s, 4 min, 3 h, 2 days."""
    for unit, name, limit in ((1, "s", 120), (60, "min", 7200), (3600, "h", 172_800)):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} days"
