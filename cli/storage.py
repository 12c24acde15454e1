"""Storage for the verbs: from the settings, or of a running `heart-scorer up`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from cli.home import remembered
from cli.output import Exit, say
from shared.records.errors import NotFound, ScorerError, StartupError, StorageUnavailable
from shared.settings import StorageSettings, load_settings

if TYPE_CHECKING:
    from shared.storage.azure import Storage

T = TypeVar("T")


def run_with_storage(work: Callable[[Storage], Coroutine[Any, Any, T]]) -> T:
    """Open storage, do the work, return what it says; errors become lines and exit codes."""
    try:
        return asyncio.run(_run(work))
    except StartupError as error:
        say(f"{error}\nOr start everything on this machine: heart-scorer up")
        code = Exit.USAGE
    except StorageUnavailable as error:
        say(f"{error.reason}; see: heart-scorer doctor")
        code = Exit.NOT_AUTHORISED if error.not_authorised else Exit.FAILED
    except NotFound as error:
        say(_missing(error))
        code = Exit.FAILED
    except ScorerError as error:
        say(error.reason)
        code = Exit.FAILED
    except KeyboardInterrupt:
        say("interrupted")
        code = Exit.INTERRUPTED
    raise typer.Exit(code)


def take_running() -> bool:
    """Take the storage of a running `heart-scorer up` if the settings name none; whether we did."""
    if load_settings(StorageSettings).has_storage or not (found := remembered()):
        return False
    os.environ["AZURE_STORAGE_CONNECTION_STRING"] = found
    return True


async def _run(work: Callable[[Storage], Coroutine[Any, Any, T]]) -> T:
    from shared.storage.azure import open_storage

    task, loop = asyncio.current_task(), asyncio.get_running_loop()

    def complain(_: object, context: dict[str, Any]) -> None:
        # What an interrupted call leaves behind (aiohttp reads .netrc in a thread) is no news.
        if task is None or not task.cancelling():
            loop.default_exception_handler(context)

    loop.set_exception_handler(complain)
    take_running()
    async with open_storage(load_settings(StorageSettings)) as storage:
        return await work(storage)


def _missing(error: NotFound) -> str:
    if error.reason in ("ContainerNotFound", "QueueNotFound"):
        return f"{error.reason}: no worker has prepared this storage yet; start one and try again"
    return f"{error.reason}: it was deleted, or never was"
