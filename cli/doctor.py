"""`heart-scorer doctor`: check settings, model, storage and queue, and suggest fixes."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.home import MODEL_DIR
from cli.output import Exit, duration
from cli.storage import silence_identity, take_running
from shared.batches.results import INCOMING, SCORES, UPLOADS
from shared.records.errors import NotFound, ScorerError, StartupError, StorageUnavailable

if TYPE_CHECKING:
    from shared.batches.overview import Overview
    from shared.settings import StorageSettings
    from shared.storage.azure import Storage
    from shared.storage.probes import Probe

SKEW = 60
"""Seconds that this clock may differ from storage's; from 15 minutes on, storage refuses all."""
PROBE_SECONDS = 5
"""Time that each call to storage has."""
LIBRARIES = ("azure-storage-blob", "azure-storage-queue", "numpy", "onnxruntime", "pydantic")
NOBODY_WORKS = (
    "locally: heart-scorer up. On Azure, scaled to zero is normal only while nothing waits; "
    "messages that wait for more than a minute without a replica mean that the scale rule cannot "
    "read the queue, or that the replica does not start: az containerapp replica list, "
    "az containerapp logs show --type system"
)
BUSY = "the workers are busy: unless this is one long batch, raise SCORER_SLOTS or maxReplicas"
IDLE = "a worker runs but finishes nothing; see its log: heart-scorer logs worker"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    what: str
    fine: bool
    result: str
    fix: str = ""

    def __str__(self) -> str:
        line = f"{'ok   ' if self.fine else 'WRONG'}  {self.what:<42} {self.result}"
        return f"{line}\n       {'':<42} -> {self.fix}" if self.fix and not self.fine else line


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check settings, model, storage and queue, and suggest fixes.

    Exit 1 if something is wrong. Each call to storage ends within 5 seconds.

    \b
    Examples:
      heart-scorer doctor
      SCORER_STORAGE_ACCOUNT=myaccount heart-scorer doctor
    """
    import asyncio

    silence_identity()
    try:
        findings = asyncio.run(collect(silent=as_json))
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    raise typer.Exit(Exit.DONE if all(finding.fine for finding in findings) else Exit.FAILED)


async def collect(*, silent: bool) -> list[Finding]:
    """All findings; each is printed as soon as it is known unless `silent`."""
    findings: list[Finding] = []
    async for finding in examine():
        findings.append(finding)
        if not silent:
            print(finding, flush=True)
    return findings


async def examine() -> AsyncIterator[Finding]:
    """Everything, in the order in which it is fixed."""
    from shared.settings import StorageSettings, load_settings

    sound = True
    for finding in (*versions(), *settings()):
        sound &= finding.fine
        yield finding
    if not sound:
        return
    running = take_running()
    configured = load_settings(StorageSettings)
    yield artifact(configured)
    if configured.has_storage:
        yield Finding("storage", True, address_of(configured, running=running))
    async for finding in storage_findings(configured):
        yield finding


def versions() -> Iterator[Finding]:
    """Versions of the product and of its libraries."""
    from importlib.metadata import PackageNotFoundError, version

    from shared import __version__

    yield Finding("heart-scorer", True, __version__)
    yield Finding("python", True, platform.python_version())
    for name in LIBRARIES:
        try:
            yield Finding(name, True, version(name))
        except PackageNotFoundError:
            yield Finding(name, False, "not installed", "install heart-scorer again")


def settings() -> list[Finding]:
    """Each setting that differs from its default; wrong ones by name."""
    from difflib import get_close_matches

    from shared.settings import (
        ApiSettings,
        StorageSettings,
        WorkerSettings,
        load_settings,
        variable_of,
    )

    findings: dict[str, Finding] = {}
    known: set[str] = set()
    for kind in (StorageSettings, ApiSettings, WorkerSettings):
        known |= {variable_of(name) for name in kind.model_fields}
        try:
            values = load_settings(kind)
        except StartupError as error:
            # A wrong setting that all apps share is reported once.
            findings[str(error)] = Finding("settings", False, str(error), "correct the variable")
            continue
        for name in sorted(values.model_fields_set):
            # Secrets print masked by themselves.
            text = f"{getattr(values, name)} (environment)"
            findings[variable_of(name)] = Finding(variable_of(name), True, text)
    for given in sorted(os.environ):
        if given.upper().startswith("SCORER_") and given not in known:
            near = get_close_matches(given.upper(), known, 1)
            fix = f"did you mean {near[0]}?" if near else "docs/settings.md lists all settings"
            findings[given] = Finding(given, False, "there is no such setting", fix)
    return list(findings.values()) or [Finding("settings", True, "all at their defaults")]


def artifact(configured: StorageSettings) -> Finding:
    """Whether the model loads with all its checks."""
    from shared.records.artifact import load_artifact

    named = "model_dir" in configured.model_fields_set
    model_dir = configured.model_dir if named else MODEL_DIR
    try:
        loaded = load_artifact(
            model_dir, configured.model_sha256, allow_pickle=configured.allow_pickle
        )
    except StartupError as error:
        return Finding("artifact", False, str(error), _artifact_fix(configured, model_dir))
    return Finding(
        "artifact", True, f"{loaded.manifest.name} {loaded.manifest.version} {loaded.sha256[:12]}"
    )


def _artifact_fix(configured: StorageSettings, model_dir: Path) -> str:
    """How to get a sound artifact; never by writing over one that may be needed."""
    if configured.model_sha256 is not None:
        return (
            "SCORER_MODEL_SHA256 pins another model: point SCORER_MODEL_DIR at that artifact, or "
            "change the pin. Do not train over this one"
        )
    if (model_dir / "manifest.json").exists():
        return "train into another directory and compare: heart-scorer train --output new"
    return "heart-scorer train"


def address_of(configured: StorageSettings, *, running: bool) -> str:
    """Where storage is: the endpoint, or the account of a connection string, never its key."""
    if configured.connection_string is None:
        return " and ".join(configured.endpoints or ())
    text = configured.connection_string.get_secret_value()
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    address = parts.get("BlobEndpoint") or f"account {parts.get('AccountName', 'unknown')}"
    return f"{address} (of the running `heart-scorer up`)" if running else address


async def storage_findings(configured: StorageSettings) -> AsyncIterator[Finding]:
    """Whether storage answers, what it permits, its clock, and whether batches get done."""
    from shared.storage.azure import open_storage

    try:
        # The first answer is the diagnosis: retries would take longer than a probe may.
        async with open_storage(configured, retries=0) as storage:
            async for finding in _ask(configured, storage):
                yield finding
    except StartupError as error:
        yield Finding(
            "storage", False, str(error), "or start everything on this machine: heart-scorer up"
        )


async def _ask(configured: StorageSettings, storage: Storage) -> AsyncIterator[Finding]:
    permitted = True
    for probe in probes_of(configured, storage):
        failure = await _within_limit(probe.failure())
        if isinstance(failure, StorageUnavailable):
            if failure.why == "not_signed_in":
                yield Finding("signed in", False, failure.reason, _fix(failure))
                if "403" in failure.reason:  # a wrong clock makes every signature invalid
                    yield await clock(storage.clock)
                return
            if failure.why == "no_answer":  # the other calls would not be answered either
                yield permission(probe.name, failure)
                return
        permitted &= failure is None
        yield permission(probe.name, failure)
    yield await clock(storage.clock)
    if permitted:
        yield await progress(configured, storage)


def probes_of(configured: StorageSettings, storage: Storage) -> list[Probe]:
    """One probe per permission that operating the service needs."""
    from shared.storage.probes import may_peek, may_process, may_read, may_write

    queue, poison = storage.queue(configured.queue), storage.queue(configured.poison_queue)
    blobs = storage.blobs()
    return [
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


async def _within_limit(call: Awaitable[ScorerError | None]) -> ScorerError | None:
    """How a probe failed; no answer in time is a failure, too."""
    import asyncio

    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return await call
    except TimeoutError:
        reason = f"storage does not answer within {PROBE_SECONDS} s"
        return StorageUnavailable(reason, why="no_answer")


def permission(what: str, failure: ScorerError | None) -> Finding:
    """The finding for one probe."""
    match failure:
        case None:
            return Finding(what, True, "permitted")
        case NotFound():
            fix = "the worker creates it on Azurite; on Azure deploy infra/containerapps.bicep"
            return Finding(what, False, failure.reason, fix)
        case _:
            return Finding(what, False, failure.reason, _fix(failure))


def _fix(error: ScorerError) -> str:
    match error:
        case StorageUnavailable(why="not_signed_in"):
            return "run az login; with a connection string, check its key"
        case StorageUnavailable(why="not_permitted"):
            roles = "give this identity the data roles of docs/deploy.md"
            return f"{roles}; they take minutes to apply"
        case _ if "InvalidHeaderValue" in error.reason:
            return "Azurite is older than the SDK's API: start it with --skipApiVersionCheck"
        case _:
            return "check that storage runs and is reachable from here. Locally: heart-scorer up"


async def clock(ask: Callable[[], Awaitable[datetime]]) -> Finding:
    """Whether this machine's clock agrees with storage's."""
    import asyncio

    try:
        async with asyncio.timeout(PROBE_SECONDS):
            skew = abs((datetime.now(UTC) - await ask()).total_seconds())
    except ScorerError as error:
        return Finding("clock", False, error.reason, _fix(error))
    except TimeoutError:
        return Finding("clock", False, f"no answer within {PROBE_SECONDS} s")
    fix = "set this machine's clock: storage refuses calls that are 15 minutes off"
    return Finding("clock", skew < SKEW, f"{skew:.0f} s from storage's", fix)


async def progress(configured: StorageSettings, storage: Storage) -> Finding:
    """Whether the messages that wait get done."""
    import asyncio

    from shared.batches.overview import read_overview
    from shared.batches.status import list_batches

    blobs = storage.blobs()
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            service = await read_overview(
                storage.queue(configured.queue),
                storage.queue(configured.poison_queue),
                blobs,
                await list_batches(blobs),
                datetime.now(UTC),
            )
    except TimeoutError:
        return Finding("batches", False, f"no answer within {PROBE_SECONDS} s")
    except ScorerError as error:
        return Finding("batches", False, error.reason, _fix(error))
    return batches(service)


def batches(service: Overview) -> Finding:
    """The finding about waiting messages."""
    seen = "1 worker seen" if len(service.here) == 1 else f"{len(service.here)} workers seen"
    if service.oldest_seconds is None:
        return Finding("batches", True, f"no message waits, {seen}")
    oldest = duration(service.oldest_seconds)
    text = f"{service.waiting} waiting, the oldest for {oldest}, {seen}"
    if not service.is_stalled:
        return Finding("batches", True, text)
    here = BUSY if service.in_progress else IDLE
    fix = here if service.here else NOBODY_WORKS
    return Finding("batches", False, f"{text}, and no batch has finished since", fix)
