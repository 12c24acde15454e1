"""What can be seen of a batch from outside: its summary, its progress, its scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.output import Exit, on_terminal, say
from shared.batches.results import SCORES, read_summary

if TYPE_CHECKING:
    from shared.batches.ports import Blobs

LOOK_SECONDS = 5
"""Between two looks at the staged blocks: listing them is a slow call."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch that the queue has."""

    batch_id: str
    scores_blob: str
    size: int | None
    """Bytes that the worker will count, if they are known: of a gzip file they are not."""


async def wait_for_summary(blobs: Blobs, sent: Sent, ends: float) -> dict[str, Any] | None:
    """Poll for the summary, showing progress. None: not until `ends`. Looks once at least."""
    import asyncio

    from shared.batches.status import BatchProgress, read_progress
    from shared.records.errors import StorageUnavailable

    begun = looked = time.monotonic()
    pause = 0.1
    with _bar(sent) if on_terminal() else nullcontext(_line(sent)) as show:
        while True:
            try:
                if (summary := await read_summary(blobs, sent.batch_id)) is not None:
                    return summary
                if (now := time.monotonic()) - looked > LOOK_SECONDS:
                    looked = now
                    progress = await read_progress(blobs, sent.scores_blob) or BatchProgress()
                    show(progress.offset, progress.total, progress.total / (now - begun))
            except StorageUnavailable as error:
                if error.not_authorised:
                    raise
                say(f"{error.reason}; still waiting")
            if time.monotonic() >= ends:
                return None
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 2.0)


Show = Callable[[int, int, float], None]
"""Takes input bytes and rows that are done, and rows a second."""


def _line(sent: Sent) -> Show:
    def show(offset: int, rows: int, speed: float) -> None:
        if rows:
            say(f"batch {sent.batch_id}: {rows:,} rows, {speed:,.0f} rows/s")

    return show


@contextmanager
def _bar(sent: Sent) -> Iterator[Show]:
    """A progress bar with rows a second and the time that is left."""
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
        yield lambda offset, rows, speed: bar.update(task, completed=offset, rows=rows, speed=speed)


async def download(blobs: Blobs, scores_blob: str, output: Path) -> None:
    """Stream a result to a file; it appears whole or not at all."""
    facts = await blobs.facts(SCORES, scores_blob)
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as target:
            async for chunk in blobs.chunks(SCORES, scores_blob, facts.etag):
                target.write(chunk)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    say(f"scores   {output}")


def exit_code(summary: dict[str, Any], *, strict: bool) -> Exit:
    """How to exit after a batch with this summary."""
    if summary["status"] != "succeeded":
        return Exit.FAILED
    return Exit.REFUSED if strict and summary["rows"]["rejected"] else Exit.DONE


def column_lines(found: dict[str, Any]) -> list[str]:
    """What a summary or a check says of columns and coding."""
    lines: list[str] = []
    if found["ignored_columns"]:
        lines.append("ignored  columns " + ", ".join(found["ignored_columns"]))
    if found["absent_fields"]:
        lines.append("absent   fields " + ", ".join(found["absent_fields"]))
    if found["other_coding_suspected"]:
        lines.append("warning  some values belong to another coding of the data")
    return lines


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
