"""Log lines are JSON with a fixed event, and never quote what an exception said."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from shared.logs import configure_logging


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("info", stream)
    yield stream
    root.handlers[:], root.level = before


def test_a_line_holds_the_event_and_its_facts(lines: io.StringIO) -> None:
    logging.getLogger("worker").info("batch_committed", extra={"rows": 13, "seconds": 0.5})

    line = json.loads(lines.getvalue())

    assert (line["event"], line["logger"], line["level"]) == ("batch_committed", "worker", "info")
    assert (line["rows"], line["seconds"]) == (13, 0.5)
    assert line["time"].endswith("Z")


def test_an_exception_is_told_by_type_and_places_alone(lines: io.StringIO) -> None:
    try:
        raise ValueError("patient 4711 has chol 233")
    except ValueError:
        logging.getLogger("worker").exception("delivery_failed")

    text = lines.getvalue()
    line = json.loads(text)

    assert line["error"] == "ValueError"
    assert line["where"][0].startswith("test_logs.py:")
    assert "4711" not in text


def test_the_sdks_chatter_about_requests_is_not_logged(lines: io.StringIO) -> None:
    logging.getLogger("azure.core.pipeline.policies.http_logging_policy").info("url of a file")

    assert lines.getvalue() == ""
