"""Logs: one line per event, as JSON, or as text for people who watch a terminal.

The message is a fixed event name and facts go in `extra`: ids, counts, codes, seconds, and the
reason of one of our own errors, which never holds a record's value. No line names a caller's file.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, Literal

LogFormat = Literal["auto", "json", "text"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_DEEPEST = 8
"""Frames of a traceback that are logged."""


def facts_of(record: logging.LogRecord) -> dict[str, object]:
    """Time, level, logger, event, and the facts that the call passed in `extra`."""
    time = datetime.fromtimestamp(record.created, UTC)
    facts: dict[str, object] = {
        "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": record.getMessage(),
    }
    facts |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
    if record.exc_info and record.exc_info[0] is not None:
        # The text of a foreign exception could quote a value: log its type and its frames only.
        facts["error"] = record.exc_info[0].__name__
        facts["traceback"] = _frames(record.exc_info[2])
    return facts


def as_text(facts: Mapping[str, object]) -> str:
    """The same facts for people: time of day, level, event, then `name=value`."""
    shown = dict(facts)
    time, level = str(shown.pop("time", "")), str(shown.pop("level", ""))
    shown.pop("logger", None)
    event = str(shown.pop("event", ""))
    values = " ".join(f"{k}={_value(v)}" for k, v in shown.items() if v is not None)
    return f"{time[11:19]} {level.upper():<7} {event:<20} {values}".rstrip()


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if text.isprintable() and " " not in text else json.dumps(text)


def _frames(traceback: TracebackType | None) -> str:
    frames: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        file = code.co_filename.rsplit("/", 1)[-1]
        frames.append(f"{file}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return " > ".join(frames[-_DEEPEST:])


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(facts_of(record), default=str, separators=(",", ":"))


class TextFormatter(logging.Formatter):
    """One line of text per event."""

    def format(self, record: logging.LogRecord) -> str:
        return as_text(facts_of(record))


def configure_logging(
    level: str, stream: IO[str] | None = None, *, log_format: LogFormat = "auto"
) -> None:
    """Send all logs to `stream` (default: stderr); `auto` means text on a terminal, else JSON."""
    stream = stream or sys.stderr
    text = log_format == "text" or (log_format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The SDKs log each request with its URL, which holds file names.
    for name in ("azure", "aiohttp", "uvicorn.access", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
