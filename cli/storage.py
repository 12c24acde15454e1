"""Storage for the commands: from the settings, or that of a running `heart-scorer up`.

Light to import: what is slow is imported when a command opens storage.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from cli.home import remembered
from cli.output import Exit, say
from shared.records.errors import NotFound, ScorerError, StartupError, StorageUnavailable

if TYPE_CHECKING:
    from shared.batches.ports import Account, Blobs, Queue
    from shared.settings import StorageSettings
    from shared.storage.azure import Storage

T = TypeVar("T")

SLOW_SECONDS = 10
"""Time after which a command that should be quick says that storage is slow."""


def run_with_storage(work: Callable[[Storage], Coroutine[Any, Any, T]], *, hint: bool = False) -> T:
    """Open storage and do the work; errors become one line and an exit code.

    With `hint`, say that storage is slow long before the calls give up.
    """
    import asyncio

    silence_identity()
    try:
        return asyncio.run(_run(work, hint=hint))
    except StartupError as error:
        say(f"{error}\nOr start everything on this machine: heart-scorer up")
        code = Exit.USAGE
    except StorageUnavailable as error:
        if error.why == "not_signed_in":
            say(f"not signed in: az login ({error.reason})")
        else:
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


def settings() -> StorageSettings:
    """The storage settings. Raises `StartupError`."""
    from shared.settings import StorageSettings, load_settings

    return load_settings(StorageSettings)


def take_running() -> bool:
    """Use the storage of a running `heart-scorer up` if the settings name none; say whether."""
    if settings().has_storage or not (address := remembered()):
        return False
    os.environ["AZURE_STORAGE_CONNECTION_STRING"] = address
    return True


def silence_identity() -> None:
    """Without a sign-in the identity library logs 36 lines; one line of ours is enough."""
    import logging

    logging.getLogger("azure").setLevel(logging.CRITICAL)


def queue_of(storage: Account) -> Queue:
    """The queue that the settings name."""
    return storage.queue(settings().queue)


def poison_queue_of(storage: Account) -> Queue:
    """The poison queue that the settings name."""
    return storage.queue(settings().poison_queue)


async def succeeded(blobs: Blobs, batch_id: str) -> dict[str, Any] | None:
    """The summary of a batch that succeeded; of another one say its state and return None."""
    from shared.batches.results import read_summary

    summary = await read_summary(blobs, batch_id)
    if summary is not None and summary["status"] == "succeeded":
        return summary
    state = "has no outcome yet" if summary is None else str(summary["status"])
    say(f"batch {batch_id} {state}; see: heart-scorer status {batch_id}")
    return None


async def _run(work: Callable[[Storage], Coroutine[Any, Any, T]], *, hint: bool) -> T:
    import asyncio

    from shared.storage.azure import open_storage

    task, loop = asyncio.current_task(), asyncio.get_running_loop()

    def complain(_: object, context: dict[str, Any]) -> None:
        # An interrupted call may leave a task running (aiohttp reads .netrc in a thread).
        if task is None or not task.cancelling():
            loop.default_exception_handler(context)

    loop.set_exception_handler(complain)
    take_running()
    if hint:
        text = f"no answer for {SLOW_SECONDS} s; to find out why: heart-scorer doctor"
        loop.call_later(SLOW_SECONDS, say, text)
    async with open_storage(settings()) as storage:
        return await work(storage)


def _missing(error: NotFound) -> str:
    if error.reason in ("ContainerNotFound", "QueueNotFound"):
        return f"{error.reason}: no worker has prepared this storage yet; start one and try again"
    return f"{error.reason}: it was deleted, or never existed"
