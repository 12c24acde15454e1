"""The pages for senders of batches: the examples work, and no code is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.batches.message import Batch, InlineInput, parse_message
from shared.files.base import output_columns
from shared.files.formats import FORMATS, Format
from shared.records.errors import CODES
from shared.records.kinds import Probability
from tests.builders import score_file
from training.heart.fields import TABLE

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "batches.md").read_text(encoding="utf-8")
RESULTS = (DOCS / "results.md").read_text(encoding="utf-8")
MESSAGES = (DOCS / "messages.md").read_text(encoding="utf-8")
CONTAINERS = {"incoming", "uploads"}


def section(title: str, page: str = PAGE) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def examples(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_there_is_an_example_of_every_form() -> None:
    assert {kind for kind, _ in examples(section("Files"))} == {
        kind for kind, facts in FORMATS.items() if not facts.packed
    }
    assert len(examples(MESSAGES)) == 6


@pytest.mark.parametrize(("kind", "text"), examples(section("Files")))
def test_every_row_of_an_example_file_is_scored(kind: Format, text: str) -> None:
    counts = score_file(kind, text.encode()).counts

    assert counts.rows >= 2
    assert counts.rejected == 0


@pytest.mark.parametrize(("_kind", "text"), examples(MESSAGES))
def test_every_example_message_is_a_batch(_kind: str, text: str) -> None:
    batch = parse_message(text, "message-id", CONTAINERS)

    assert isinstance(batch, Batch)
    if isinstance(batch.input, InlineInput):
        inline = batch.input
        counts = score_file(inline.format, inline.content, items=inline.items).counts
        assert counts.rows >= 1
        assert counts.rejected == 0
    else:
        assert batch.input.blob.endswith("patients.csv")


def test_every_code_has_its_fix_and_no_other_is_named() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.+) \|$", section("Why a row has no score", RESULTS), re.MULTILINE
    )

    assert [code for code, _ in rows] == list(CODES)
    assert all(fix.endswith(".") for _, fix in rows)


def test_every_column_of_the_result_is_named() -> None:
    columns = re.findall(r"^\| `(\w+)…?` \|", section("Columns", RESULTS), re.MULTILINE)

    assert columns == [*output_columns(Probability(0.5), TABLE), "input_"]


def test_the_page_says_what_to_do_without_event_grid() -> None:
    assert "Locally there is no Event Grid: use `heart-scorer submit`." in PAGE
