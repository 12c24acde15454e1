"""Options that a sender gives with a file: part of the envelope and of the input's identity."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

OutputFormat = Literal["csv", "jsonl", "parquet", "xlsx"]
"""Formats of a result; also the extensions of its name."""
OUTPUT_FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
SHEET_LENGTH = 31
"""Characters that Excel allows in a sheet's name."""
RENAME_LENGTH = 1500
"""Characters that a mapping may have as JSON: it must fit a blob's metadata."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options for reading a file and writing its result."""

    include_input: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)
    """New names of columns or keys, by those in the file."""
    coding_checked: bool = False
    """The sender vouches for the coding: do not guard against another one."""
    output: OutputFormat | None = None
    """Format of the result; None: like the file."""
    profile: bool = False
    """Make a profile of the batch even if it is small."""
    sheet: str | None = None
    """Name of a workbook's sheet; None: the first."""

    @property
    def identity(self) -> dict[str, object]:
        """The options as members of an input's identity; those not used are left out."""
        return {
            "include_input": self.include_input,
            **({"rename": dict(self.rename)} if self.rename else {}),
            **({"coding_checked": True} if self.coding_checked else {}),
            **({"output": self.output} if self.output else {}),
            **({"profile": True} if self.profile else {}),
            **({"sheet": self.sheet} if self.sheet is not None else {}),
        }

    @classmethod
    def of_identity(cls, identity: Mapping[str, object]) -> Options:
        """The reverse of `identity`; other members are ignored."""
        rename, output = identity.get("rename"), identity.get("output")
        sheet = identity.get("sheet")
        return cls(
            include_input=bool(identity.get("include_input")),
            rename=rename if isinstance(rename, dict) else {},
            coding_checked=bool(identity.get("coding_checked")),
            output=output if output in OUTPUT_FORMATS else None,
            profile=bool(identity.get("profile")),
            sheet=sheet if isinstance(sheet, str) else None,
        )


def parse_rename(pairs: Iterable[str]) -> dict[str, str]:
    """A mapping of `NAME=FIELD` pairs. Raises `ValueError` that says what is wrong."""
    rename: dict[str, str] = {}
    for pair in pairs:
        old, separator, new = pair.rpartition("=")
        if not separator:
            raise ValueError("write each pair as NAME=FIELD")
        if old.strip() in rename:
            raise ValueError("a name is renamed twice")
        rename[old.strip()] = new.strip()
    return check_rename(rename)


def check_rename(rename: Mapping[str, str]) -> dict[str, str]:
    """The mapping, if it can be used. Raises `ValueError` that says what is wrong."""
    if not all(name.strip() for name in (*rename, *rename.values())):
        raise ValueError("a name is empty")
    if len({new.strip().lower() for new in rename.values()}) < len(rename):
        raise ValueError("two names are renamed to the same field")
    if len(json.dumps(rename)) > RENAME_LENGTH:
        raise ValueError(f"the mapping may have {RENAME_LENGTH} characters")
    return dict(rename)
