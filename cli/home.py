"""Where this copy of the product lives on disk, and what a running `heart-scorer up` offers.

Light to import: every verb needs it. What starts processes is in `local`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCAL = ROOT / ".local"
MODEL_DIR = ROOT / "artifact"
STATE = LOCAL / "up.json"
"""What a running `heart-scorer up` offers."""
LOCK = LOCAL / "up.lock"
"""Locked by it for as long as it lives, however it ends."""


@contextmanager
def only_one() -> Iterator[bool]:
    """Whether no other `up` of this copy runs; none can begin until the block ends."""
    import fcntl

    LOCAL.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def remember(connection_string: str) -> None:
    """Let the other verbs find the storage that runs here."""
    STATE.write_text(json.dumps({"connection_string": connection_string}))


def forget() -> None:
    """What ran here has ended."""
    STATE.unlink(missing_ok=True)


def remembered() -> str | None:
    """Connection string of a running `heart-scorer up`, if there is one."""
    import fcntl

    try:
        state = json.loads(STATE.read_text())
        with LOCK.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:  # it holds the lock: it lives
        return str(state["connection_string"])
    except (OSError, ValueError):
        return None
    return None
