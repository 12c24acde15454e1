"""Reads the items of a JSON array one by one, from bytes that come in pieces.

No more than a piece and an item are in memory, parsed or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from json import JSONDecodeError
from typing import Literal

from shared.files.base import ROW_BYTES, decode, strip_bom
from shared.records.errors import BadFile
from shared.records.strict_json import BLANK, parse_item

PYTHON_NOTATION = "the records are in Python's notation, not JSON: write them with json.dumps"

PIECE = 256 << 10
"""Bytes that are decoded at once."""
HEAD = 16
"""Bytes that tell JSON from other files."""
LONGEST_WORD = len("-Infinity")
_BLANK = re.compile(f"[{BLANK}]*")


class ArrayReader:
    """Bytes in, parsed items out; a single object is an array of one. Raises `BadFile`."""

    def __init__(self) -> None:
        self._bytes = b""
        """Not decoded yet: the file's first bytes, or a character that is cut off."""
        self._bytes_done = 0
        self._text = ""
        """Not parsed yet."""
        self._characters_done = 0
        self._count = 0
        self._expected: Literal["array", "item or end", "item", "comma or end", "nothing"] = "array"

    def feed(self, chunk: bytes) -> Iterator[tuple[object, int]]:
        """Items that are complete, and the position after each in characters."""
        for start in range(0, len(chunk), PIECE):
            self._decode(chunk[start : start + PIECE], last=False)
            yield from self._parse(last=False)

    def finish(self) -> Iterator[tuple[object, int]]:
        """The items that are left."""
        self._decode(b"", last=True)
        yield from self._parse(last=True)
        if self._expected == "array":
            raise BadFile("the file is empty: an array of JSON objects is needed")
        if self._expected == "comma or end":
            raise self._comma_missing()
        if self._expected != "nothing":
            self._item(len(self._text))

    def _decode(self, piece: bytes, *, last: bool) -> None:
        content = self._bytes + piece
        if not self._bytes_done:
            if len(content) < HEAD and not last:
                self._bytes = content
                return
            content = strip_bom(content)
        end = len(content) if last else _whole_characters(content)
        self._text += decode(content[:end], self._bytes_done)
        self._bytes = content[end:]
        self._bytes_done += end

    def _parse(self, *, last: bool) -> Iterator[tuple[object, int]]:
        position = 0
        while (position := _skip_blank(self._text, position)) < len(self._text):
            match self._expected, self._text[position]:
                case (("item or end" | "comma or end"), "]"):
                    self._expected = "nothing"
                    position += 1
                case "comma or end", ",":
                    self._expected = "item"
                    position += 1
                case "array", "[":
                    self._expected = "item or end"
                    position += 1
                case "comma or end", _:
                    raise self._comma_missing()
                case "nothing", _:
                    raise BadFile(
                        "there is more after the JSON: send one array, or name the file .jsonl "
                        "if it has one object on each line"
                    )
                case "array", sign if sign not in '{"':
                    raise BadFile(
                        "the file is not JSON: an array of objects is needed "
                        "(if it is CSV, name it .csv)"
                    )
                case _:
                    if not last and len(self._text) - position <= ROW_BYTES:
                        break  # the item may go on
                    item, position = self._item(position)
                    self._expected = "nothing" if self._expected == "array" else "comma or end"
                    yield item, self._characters_done + position
        self._text = self._text[position:]
        self._characters_done += position

    def _item(self, start: int) -> tuple[object, int]:
        self._count += 1
        try:
            item, end = parse_item(self._text, start, offset=self._characters_done)
        except ValueError as error:
            if _is_cut_off(error.__cause__, start):
                raise self._too_long() from error
            hint = f" ({PYTHON_NOTATION})" if self._text.startswith("{'", start) else ""
            raise BadFile(f"record {self._count} is not JSON: {error}{hint}") from error
        if end - start > ROW_BYTES:
            raise self._too_long()
        return item, end

    def _comma_missing(self) -> BadFile:
        return BadFile(f"not a JSON array: a comma or ] is missing after record {self._count}")

    def _too_long(self) -> BadFile:
        return BadFile(f"record {self._count} is longer than {ROW_BYTES} characters")


def _is_cut_off(error: BaseException | None, start: int) -> bool:
    """Whether an item from `start` on is not JSON because only `ROW_BYTES` of it were there."""
    if not isinstance(error, JSONDecodeError) or len(error.doc) - start <= ROW_BYTES:
        return False
    at_the_end = error.pos - start > ROW_BYTES - LONGEST_WORD
    return at_the_end or error.msg.startswith("Unterminated string")


def _whole_characters(content: bytes) -> int:
    """Length of UTF-8 without the last character, if that is not ASCII: it may be cut off."""
    tail = range(max(0, len(content) - 4), len(content))
    last = max((i for i in tail if content[i] & 0xC0 != 0x80), default=len(content))
    return last if last < len(content) and content[last] >= 0xC0 else len(content)


def _skip_blank(text: str, position: int) -> int:
    blank = _BLANK.match(text, position)
    return blank.end() if blank else position
