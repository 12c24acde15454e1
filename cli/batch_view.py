"""A batch as its sender sees it: waiting for the outcome, the summary as text, the scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.output import Exit, duration, on_terminal, say
from cli.scores import save_scores
from shared.batches.results import read_summary, same_identity

if TYPE_CHECKING:
    from shared.batches.ports import Blobs
    from shared.files.dialect import ExcelFormat

PROGRESS_SECONDS = 5
"""Between two looks at the staged blocks: listing them is slow on Azure."""
UNTAKEN_SECONDS = 40
"""Seconds in the queue after which the sender gets a hint."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch to wait for."""

    batch_id: str
    size: int | None = None
    """Input bytes that the worker will count, if known; unknown for gzip."""
    identity: Mapping[str, object] | None = None
    """The input that was sent; None accepts the batch of any input."""


async def wait_for_summary(blobs: Blobs, sent: Sent, ends: float) -> dict[str, Any] | None:
    """Poll for the summary and show progress. Asks once at least; None if `ends` comes first."""
    import asyncio

    from shared.batches.status import read_status
    from shared.records.errors import StorageUnavailable

    started = asked = time.monotonic()
    pause = 0.1
    with _bar(sent) if on_terminal() else nullcontext(_lines(sent)) as show:
        while True:
            try:
                if (summary := await read_summary(blobs, sent.batch_id)) is not None:
                    return _own(summary, sent)
                if (now := time.monotonic()) - asked > PROGRESS_SECONDS:
                    asked = now
                    batch = await read_status(blobs, sent.batch_id)
                    progress = batch.progress if batch is not None else None
                    show(
                        progress.offset if progress else 0,
                        progress.total if progress else 0,
                        now - started,
                    )
            except StorageUnavailable as error:
                if error.not_authorised:
                    raise
                say(f"{error.reason}; still waiting")
            if time.monotonic() >= ends:
                return None
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 2.0)


def _own(summary: dict[str, Any], sent: Sent) -> dict[str, Any]:
    """The summary, if it is of what was sent. Raises `BatchIdUsed`."""
    from shared.records.errors import BatchIdUsed

    if sent.identity is None or same_identity(summary["identity"], sent.identity):
        return summary
    raise BatchIdUsed(
        f"batch {sent.batch_id} is another sender's input: choose another --batch-id. "
        f"This file's outcome is under {sent.batch_id}~ and its message id."
    )


Show = Callable[[int, int, float], None]
"""Takes input bytes and rows that are done, and seconds since the start."""


def _untaken(seconds: float) -> str:
    return (
        f"queued, no worker has taken it for {duration(seconds)}: is one running? "
        "heart-scorer status"
    )


def _lines(sent: Sent) -> Show:
    said = False

    def show(offset: int, rows: int, seconds: float) -> None:
        nonlocal said
        if rows:
            say(f"batch {sent.batch_id}: {rows:,} rows, {rows / seconds:,.0f} rows/s")
        elif seconds > UNTAKEN_SECONDS and not said:
            said = True
            say(f"batch {sent.batch_id}: {_untaken(seconds)}")

    return show


@contextmanager
def _bar(sent: Sent) -> Iterator[Show]:
    """A progress bar with rows per second and the time that is left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[speed]:,.0f} rows/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(sent.batch_id, total=sent.size, rows=0, speed=0)

        def show(offset: int, rows: int, seconds: float) -> None:
            text = sent.batch_id
            if not rows and seconds > UNTAKEN_SECONDS:
                text = f"{sent.batch_id} {_untaken(seconds)}"
            speed = rows / seconds
            bar.update(task, completed=offset, rows=rows, speed=speed, description=text)

        yield show


async def wait_for_all(
    blobs: Blobs,
    batches: list[Sent],
    seconds: float,
    *,
    strict: bool,
    silent: bool,
    output: Path | None = None,
    excel: ExcelFormat | None = None,
) -> tuple[Exit, list[dict[str, Any]]]:
    """Wait for each batch, print and download as requested; the exit code and the summaries.

    A batch that is not done in time counts as running.
    """
    import asyncio

    ends = time.monotonic() + seconds
    code = Exit.DONE
    summaries: list[dict[str, Any]] = []
    for index, batch in enumerate(batches):
        try:
            summary = await wait_for_summary(blobs, batch, ends)
        except asyncio.CancelledError:
            for other in batches[index:]:
                say(f"batch {other.batch_id} goes on; see: heart-scorer status {other.batch_id}")
            raise
        if summary is None:
            say(f"no outcome within {seconds:g} s; see: heart-scorer status {batch.batch_id}")
            summaries.append({"batch_id": batch.batch_id, "status": "running"})
            code = max(code, Exit.TIMED_OUT)
            continue
        summaries.append(summary)
        code = max(code, exit_code(summary, strict=strict))
        if output is not None and summary["status"] == "succeeded":
            await save_scores(blobs, summary, output, excel=excel)
        if not silent:
            print(as_text(summary), flush=True)
    return code, summaries


def exit_code(summary: dict[str, Any], *, strict: bool) -> Exit:
    """The exit code after a batch with this summary."""
    if summary["status"] != "succeeded":
        return Exit.FAILED
    return Exit.REFUSED if strict and is_incomplete(summary["rows"]) else Exit.DONE


def is_incomplete(rows: dict[str, int]) -> bool:
    """Whether rows were rejected, or there were none."""
    return rows["rejected"] > 0 or rows["total"] == 0


def column_lines(found: dict[str, Any]) -> list[str]:
    """Lines of a summary or a check about columns and coding."""
    lines: list[str] = []
    if found["ignored_columns"]:
        lines.append("ignored  columns " + ", ".join(found["ignored_columns"]))
    if found["absent_fields"]:
        lines.append("absent   fields " + ", ".join(found["absent_fields"]))
    # A summary of an older version has no warnings.
    return lines + [f"warning  {warning}" for warning in found.get("warnings", [])]


def as_text(summary: dict[str, Any]) -> str:
    """A summary in a few lines for people."""
    rows = summary["rows"]
    lines = [f"batch    {summary['batch_id']}", f"status   {summary['status']}"]
    if summary["status"] != "succeeded":
        return "\n".join([*lines, f"reason   {summary['reason']}"])
    lines.append(
        f"rows     {rows['total']} total, {rows['scored']} scored, {rows['rejected']} rejected"
    )
    lines += [f"         {number} {code}" for code, number in summary["rejections"].items()]
    lines += column_lines(summary)
    output = summary["output"]
    lines.append(f"scores   {output['container']}/{output['blob']}")
    return "\n".join(lines)
