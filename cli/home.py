"""The product's folder on this machine, and the services that a running `heart-scorer up` offers.

In a clone everything is kept in the clone. An installed product keeps models, state and logs in the
user's data directory. Light to import: every command needs this module.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

ROOT = Path(__file__).parents[1]
"""The folder of the packages: a clone, or site-packages."""
IS_CLONE = (ROOT / "pyproject.toml").is_file()
HOME = ROOT if IS_CLONE else platformdirs.user_data_path("heart-scorer", appauthor=False)
LOCAL = HOME / ".local" if IS_CLONE else HOME
"""Azurite, its data, and logs."""
MODEL_DIR = HOME / "artifact"
PYTHON = (sys.executable, "-P", "-m")
"""Starts one of our modules, never one of the same name in the current directory."""
STATE = LOCAL / "up.json"
"""Address of the storage that a running `heart-scorer up` offers."""
LOCK = LOCAL / "up.lock"
"""Held by `heart-scorer up` while it lives; the system frees it however the process ends."""


@contextmanager
def only_one() -> Iterator[bool]:
    """Yield whether no other `up` of this product runs; none can start inside the block."""
    import fcntl

    LOCAL.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def pinned() -> str | None:
    """SHA-256 that the environment asks of the manifest."""
    return os.environ.get("SCORER_MODEL_SHA256") or None


def allow_pickle() -> bool:
    """Whether the environment allows a model.joblib whose manifest is not pinned."""
    return os.environ.get("SCORER_ALLOW_PICKLE", "").lower() in ("1", "true", "yes")


def remember(connection_string: str) -> None:
    """Let the other commands use the storage that runs here."""
    STATE.write_text(json.dumps({"connection_string": connection_string}))


def forget() -> None:
    """Remove the address: the storage has stopped."""
    STATE.unlink(missing_ok=True)


def remembered() -> str | None:
    """Return the connection string of a running `heart-scorer up`, if there is one."""
    import fcntl

    try:
        state = json.loads(STATE.read_text())
        with LOCK.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:  # `up` holds the lock, so it runs
        return str(state["connection_string"])
    except (OSError, ValueError):
        return None
    return None
