"""Storage for the verbs: from the settings, or of a running `heart-scorer up`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from cli.local import remembered
from cli.output import Exit, say

if TYPE_CHECKING:
    from shared.storage import Storage


def run_with_storage(work: Callable[[Storage], Awaitable[int]]) -> int:
    """Open storage, do the work, return its exit code; errors become lines and codes."""
    from shared.errors import NotFound, ScorerError, StartupError, StorageUnavailable
    from shared.settings import StorageSettings, load_settings
    from shared.storage import open_storage

    async def run() -> int:
        async with open_storage(load_settings(StorageSettings)) as storage:
            return await work(storage)

    if not load_settings(StorageSettings).has_storage and (found := remembered()):
        os.environ["AZURE_STORAGE_CONNECTION_STRING"] = found
    try:
        return asyncio.run(run())
    except StartupError as error:
        say(f"{error}\nOr start everything on this machine: heart-scorer up")
        return Exit.USAGE
    except StorageUnavailable as error:
        say(error.reason)
        return Exit.NOT_AUTHORISED if "permit" in error.reason else Exit.FAILED
    except NotFound as error:
        say(f"{error.reason}: no worker has prepared this storage yet; start one and try again")
        return Exit.FAILED
    except ScorerError as error:
        say(error.reason)
        return Exit.FAILED
    except KeyboardInterrupt:
        say("interrupted; a batch that was sent goes on")
        return Exit.INTERRUPTED
