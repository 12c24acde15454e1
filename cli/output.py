"""What the command line says, and how it exits. Data goes to stdout, talk to stderr."""

from __future__ import annotations

import os
import sys
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of all verbs."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOT_AUTHORISED = 4
    TIMED_OUT = 5
    INTERRUPTED = 130


def say(text: str) -> None:
    """A line for people."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def on_terminal() -> bool:
    """Whether someone watches: progress bars and colours are for them alone."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
