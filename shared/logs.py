"""Logs: one JSON object a line. A message is a fixed event name; facts go in `extra`.

Facts are ids, counts, codes and seconds, never a record's value nor a file's name.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from functools import lru_cache
from typing import IO

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


# One encoder for all lines: dumps() with options makes one for each.
_encoder = json.JSONEncoder(default=str, separators=(",", ":"))


@lru_cache(maxsize=2)
def _second(moment: int) -> str:
    """A second since the epoch, written once for all lines of that second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))


class JsonFormatter(logging.Formatter):
    """Time, level, logger, event, and whatever the call put in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
        if record.exc_info and record.exc_info[0] is not None:
            # A traceback's last line could quote a value: type and places only.
            line["error"] = record.exc_info[0].__name__
            line["where"] = _places(record)
        return _encoder.encode(line)


def _places(record: logging.LogRecord) -> list[str]:
    traceback = record.exc_info[2] if record.exc_info else None
    places: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return places[-8:]


def configure_logging(level: str, stream: IO[str] | None = None) -> None:
    """Send all logs to stderr (or `stream`) as JSON lines."""
    # Where a line was written and by which thread is in none of them: not looked up, as Python's
    # logging cookbook has it, a line takes two thirds of the time.
    logging._srcfile = None  # noqa: SLF001
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The SDKs log each request with its URL, which holds file names.
    for name in ("azure", "aiohttp", "uvicorn.access", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
