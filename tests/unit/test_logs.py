"""A log line is one event: JSON or text, and it never quotes a foreign exception."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from shared.logs import LogFormat, as_text, configure_logging


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Restores the root logger."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    configure_logging("info", stream)
    return stream


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_holds_the_event_and_its_facts(lines: io.StringIO) -> None:
    logging.getLogger("worker").info("batch_committed", extra={"rows": 13, "seconds": 0.5})

    line = json.loads(lines.getvalue())

    assert (line["event"], line["logger"], line["level"]) == ("batch_committed", "worker", "info")
    assert (line["rows"], line["seconds"]) == (13, 0.5)
    assert line["time"].endswith("Z")


def test_an_exception_is_one_line_with_its_type_and_its_frames(lines: io.StringIO) -> None:
    try:
        raise ValueError("patient 4711 has chol 233")
    except ValueError:
        logging.getLogger("worker").exception("delivery_failed")

    [text] = lines.getvalue().splitlines()
    line = json.loads(text)

    assert line["error"] == "ValueError"
    assert line["traceback"].startswith("test_logs.py:")
    assert "4711" not in text


def test_the_sdks_logs_of_requests_are_left_out(lines: io.StringIO) -> None:
    logging.getLogger("azure.core.pipeline.policies.http_logging_policy").info("url of a file")

    assert lines.getvalue() == ""


def test_a_terminal_gets_text() -> None:
    stream = Terminal()
    configure_logging("info", stream)

    facts = {"batch_id": "ward-7", "rows": 13, "traceparent": None}
    logging.getLogger("worker").info("batch_started", extra=facts)

    assert "INFO    batch_started        batch_id=ward-7 rows=13\n" in stream.getvalue()
    assert "{" not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_the_setting_decides_on_a_terminal_and_elsewhere(
    log_format: LogFormat, stream: io.StringIO
) -> None:
    configure_logging("info", stream, log_format=log_format)

    logging.getLogger("worker").info("worker_started")

    assert stream.getvalue().splitlines()[-1].startswith("{") is (log_format == "json")


def test_text_quotes_what_holds_blanks_and_keeps_one_line() -> None:
    line = as_text(
        {"time": "2026-01-01T10:20:30.000Z", "level": "warning", "event": "e", "a": "b c"}
    )

    assert line == '10:20:30 WARNING e                    a="b c"'
