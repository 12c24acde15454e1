"""`heart-scorer doctor`: looks at settings, artifact and storage; says how to mend a fault."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.home import MODEL_DIR
from cli.output import Exit
from shared.batches.results import INCOMING, SCORES, UPLOADS

if TYPE_CHECKING:
    from shared.records.errors import ScorerError
    from shared.settings import StorageSettings
    from shared.storage.azure import Storage

SKEW = 60
"""Seconds that this clock may differ from storage's; from 15 minutes on, storage refuses all."""
LIBRARIES = ("azure-storage-blob", "azure-storage-queue", "numpy", "onnxruntime", "pydantic")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    fine: bool
    found: str
    mend: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check settings, model and storage, and suggest fixes.

    \b
    Examples:
      heart-scorer doctor
      SCORER_STORAGE_ACCOUNT=myaccount heart-scorer doctor
    """
    import asyncio

    try:
        found = asyncio.run(examine())
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], indent=1))
    else:
        for finding in found:
            print(f"{'ok   ' if finding.fine else 'WRONG'}  {finding.what:<42} {finding.found}")
            if not finding.fine and finding.mend:
                print(f"       {'':<42} -> {finding.mend}")
    raise typer.Exit(Exit.DONE if all(finding.fine for finding in found) else Exit.FAILED)


async def examine() -> list[Finding]:
    """Everything, in the order in which it is mended."""
    from cli.storage import take_running
    from shared.settings import StorageSettings, load_settings

    found = [*versions(), *settings()]
    if all(finding.fine for finding in found):
        if take_running():
            found.append(Finding("storage", True, "that of a running `heart-scorer up`"))
        configured = load_settings(StorageSettings)
        found.append(artifact(configured))
        found += [finding async for finding in storage_findings(configured)]
    return found


def versions() -> list[Finding]:
    """Versions of what runs here."""
    from importlib.metadata import PackageNotFoundError, version

    from shared import __version__

    found = [
        Finding("heart-scorer", True, __version__),
        Finding("python", True, platform.python_version()),
    ]
    for name in LIBRARIES:
        try:
            found.append(Finding(name, True, version(name)))
        except PackageNotFoundError:
            found.append(Finding(name, False, "not installed", "install heart-scorer again"))
    return found


def settings() -> list[Finding]:
    """Each setting that differs from its default, with its source; wrong ones by name."""
    from difflib import get_close_matches

    from shared.records.errors import StartupError
    from shared.settings import (
        ApiSettings,
        StorageSettings,
        WorkerSettings,
        load_settings,
        variable_of,
    )

    found: dict[str, Finding] = {}
    known: set[str] = set()
    for kind in (StorageSettings, ApiSettings, WorkerSettings):
        known |= {variable_of(name) for name in kind.model_fields}
        try:
            values = load_settings(kind)
        except StartupError as error:
            # What all parts share is wrong in each of them.
            found[str(error)] = Finding("settings", False, str(error), "set it as it says")
            continue
        for name in sorted(values.model_fields_set):
            # Secrets print masked by themselves.
            text = f"{getattr(values, name)} (environment)"
            found[variable_of(name)] = Finding(variable_of(name), True, text)
    for given in sorted(os.environ):
        if given.upper().startswith("SCORER_") and given not in known:
            near = get_close_matches(given.upper(), known, 1)
            mend = f"did you mean {near[0]}?" if near else "the README lists all of them"
            found[given] = Finding(given, False, "there is no such setting", mend)
    return list(found.values()) or [Finding("settings", True, "all at their defaults")]


def artifact(configured: StorageSettings) -> Finding:
    """Whether the model loads, with all its checks."""
    from shared.records.artifact import load_artifact
    from shared.records.errors import StartupError

    named = "model_dir" in configured.model_fields_set
    model_dir = configured.model_dir if named else MODEL_DIR
    try:
        loaded = load_artifact(model_dir, configured.model_sha256)
    except StartupError as error:
        return Finding("artifact", False, str(error), "heart-scorer train")
    return Finding(
        "artifact", True, f"{loaded.manifest.name} {loaded.manifest.version} {loaded.sha256[:12]}"
    )


async def storage_findings(configured: StorageSettings) -> AsyncIterator[Finding]:
    """Whether storage answers, what it permits, and whose clock is wrong."""
    from shared.records.errors import StartupError
    from shared.storage.azure import open_storage

    try:
        async with open_storage(configured) as storage:
            async for finding in _ask(configured, storage):
                yield finding
    except StartupError as error:
        yield Finding("storage", False, str(error), "or start all of it here: heart-scorer up")


async def _ask(configured: StorageSettings, storage: Storage) -> AsyncIterator[Finding]:
    from shared.records.errors import StorageUnavailable
    from shared.storage.probes import may_peek, may_process, may_read, may_write

    queue, poison = storage.queue(configured.queue), storage.queue(configured.poison_queue)
    blobs = storage.blobs()
    probes = [
        may_peek("queue", queue),
        may_process("queue", queue),
        may_peek("poison queue", poison),
        may_process("poison queue", poison),
        may_read(INCOMING, blobs),
        may_read(UPLOADS, blobs),
        may_write(UPLOADS, blobs),
        may_read(SCORES, blobs),
        may_write(SCORES, blobs),
    ]
    for probe in probes:
        failure = await probe.failure()
        yield permission(probe.name, failure)
        if isinstance(failure, StorageUnavailable):
            if failure.why == "no_answer":  # the other calls would not be answered either
                return
            if failure.why == "not_signed_in":  # nor the others; a wrong clock may be the cause
                break
    yield await clock(storage.clock)


def permission(what: str, failure: ScorerError | None) -> Finding:
    """The finding for one probe."""
    from shared.records.errors import NotFound

    match failure:
        case None:
            return Finding(what, True, "permitted")
        case NotFound():
            mend = "the worker creates it on Azurite; on Azure deploy infra/containerapps.bicep"
            return Finding(what, False, failure.reason, mend)
        case _:
            return Finding(what, False, failure.reason, _mend(failure))


def _mend(error: ScorerError) -> str:
    from shared.records.errors import StorageUnavailable

    match error:
        case StorageUnavailable(why="not_signed_in"):
            return "nobody is signed in here, or the key is not the account's: az login"
        case StorageUnavailable(why="not_permitted"):
            roles = "give this identity the data roles of docs/deploy.md"
            return f"{roles}; they take minutes to be known"
        case _ if "InvalidHeaderValue" in error.reason:
            return "Azurite is older than the SDK's API: start it with --skipApiVersionCheck"
        case _:
            return "is storage running, and reachable from here? Locally: heart-scorer up"


async def clock(ask: Callable[[], Awaitable[datetime]]) -> Finding:
    """Whether this clock and the one that is asked agree."""
    from shared.records.errors import ScorerError

    try:
        skew = abs((datetime.now(UTC) - await ask()).total_seconds())
    except ScorerError as error:
        return Finding("clock", False, error.reason, _mend(error))
    mend = "set this machine's clock: storage refuses calls that are 15 minutes off"
    return Finding("clock", skew < SKEW, f"{skew:.0f} s from storage's", mend)
