"""`heart-scorer logs`: the logs of `heart-scorer up` on this machine."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from cli.home import LOCAL
from cli.output import Exit, say

NAMES = ("api", "worker", "azurite")
PAUSE = 0.3
"""Seconds between two looks at the files."""


class LogFiles:
    """Log files that grow, read line by line."""

    def __init__(self, files: dict[str, Path], lines: int, *, raw: bool = False) -> None:
        """Start this many lines before the end of each file; `raw` leaves lines as written."""
        self._files = files
        self._lines = lines
        self._raw = raw
        self._offsets: dict[str, int] = {}

    def new_lines(self) -> list[str]:
        """Whole lines since the last call, in the order of their times."""
        found: list[tuple[str, str]] = []
        for name, path in self._files.items():
            latest = ""
            for line in self._read(name, path):
                time, text = _readable(line)
                latest = time or latest  # a line without a time belongs to the one before it
                found.append((latest, f"{name:<7} | {line if self._raw else text}"))
        return [text for _, text in sorted(found, key=lambda line: line[0])]

    def _read(self, name: str, path: Path) -> list[str]:
        try:
            with path.open("rb") as file:
                file.seek(self._offsets.get(name, 0))
                content = file.read()
        except FileNotFoundError:
            self._offsets[name] = 0
            return []
        whole, newline, _ = content.rpartition(b"\n")
        first = name not in self._offsets
        self._offsets[name] = self._offsets.get(name, 0) + len(whole) + len(newline)
        lines = whole.decode(errors="replace").splitlines()
        return lines[len(lines) - min(self._lines, len(lines)) :] if first else lines


def _readable(line: str) -> tuple[str, str]:
    """The time of a line, and the line as text for people."""
    from shared.logs import as_text

    try:
        facts = json.loads(line)
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        return "", line
    return str(facts.get("time", "")), as_text(facts)


def logs(
    name: Annotated[
        list[str] | None, typer.Argument(help="api, worker or azurite (default: all).")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow new lines until Ctrl-C.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="Show this many past lines of each log.")
    ] = 20,
) -> None:
    """Show the logs of `heart-scorer up` on this machine.

    \b
    Examples:
      heart-scorer logs
      heart-scorer logs worker -n 100
      heart-scorer logs -f
    """
    chosen = name or list(NAMES)
    for unknown in set(chosen) - set(NAMES):
        say(f"there is no log {unknown}: choose from {', '.join(NAMES)}")
        raise typer.Exit(Exit.USAGE)
    folder = LOCAL / "logs"
    files = {one: folder / f"{one}.log" for one in chosen}
    if not any(path.is_file() for path in files.values()):
        say(f"no logs in {folder}: heart-scorer up writes them")
        raise typer.Exit(Exit.FAILED)
    logs = LogFiles(files, lines)
    try:
        while True:
            for line in logs.new_lines():
                print(line, flush=True)
            if not follow:
                return
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
