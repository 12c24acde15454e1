"""The field table: what a record may hold, written once by training and carried by the manifest.

Everything that reads records is built from it: the API's record, the validation of batch files,
the OpenAPI schema, errors. No other module knows a field by name. The reader of one value here
(`FieldSpec.read`, `FieldSpec.read_text`) is the reference. `shared.files` checks whole blocks at
once and may only take shortcuts that give the same answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.records.errors import Code, FieldError, RecordRejected

RECORD_ID = "patient_id"
RECORD_ID_LENGTH = 128
"""Characters that a record's own id may have."""

NAMED_UNKNOWN = 10
"""Unknown keys of one record that are named; a record may have thousands."""

NAME_LENGTH = 64
"""Longest name of a field; of longer unknown names only so much is shown."""


MISSING = frozenset({"", "na", "nan", "?"})
"""Texts that mean "not known", in any case. Zero never does."""

# ASCII digits only: float() would also take 1_000, Arabic digits and "infinity".
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
DECIMAL_COMMA = re.compile(r"[+-]?(?:[0-9]+,?[0-9]*|,[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Choice(_Frozen):
    """One code of a category field."""

    code: int
    word: str | None = None
    """The word that may be sent in place of the code, in any case."""
    title: str = ""


class Hint(_Frozen):
    """What to say of a rejected number from `low` to `high`."""

    low: float
    high: float
    text: str
    coding: str | None = None
    """Set when only this other coding of the data has such a value."""


class FieldSpec(_Frozen):
    """One field of a record: a number with an accept range, or a category with codes."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")
    title: str
    kind: Literal["number", "category"]
    unit: str = ""
    choices: tuple[Choice, ...] = ()
    boolean: bool = False
    """A category of 0 and 1 that JSON may also state as false and true."""
    accept: tuple[float, float]
    """A value outside is an error, not a patient."""
    training: tuple[float, float]
    """A value outside is scored with a warning."""
    required: bool = False
    used: bool = True
    """False: checked, but the model does not see it."""
    hints: tuple[Hint, ...] = ()
    aliases: tuple[str, ...] = ()
    """Other names under which files carry this field: a column so named is refused, with a hint."""

    @model_validator(mode="after")
    def _holds_together(self) -> FieldSpec:
        if self.kind == "category" and not self.choices:
            raise ValueError(f"{self.name}: a category needs choices")
        if self.name == RECORD_ID:
            raise ValueError(f"{RECORD_ID} is the record's own id, not a field")
        return self

    @cached_property
    def words(self) -> dict[str, float]:
        """Accepted words, in lower case, with their codes."""
        return {c.word.lower(): float(c.code) for c in self.choices if c.word is not None}

    @cached_property
    def codes(self) -> frozenset[float]:
        return frozenset(float(choice.code) for choice in self.choices)

    @property
    def limit(self) -> str:
        """What is accepted, in words: `50 to 700 mg/dl`, or the list of codes."""
        if self.kind == "number":
            low, high = self.accept
            return f"{low:g} to {high:g} {self.unit}".rstrip()
        return ", ".join(
            f"{c.code} ({c.word})" if c.word is not None else f"{c.code}" for c in self.choices
        )

    def read(self, value: object) -> float:
        """Read one JSON value. NaN means missing. Raises `RecordRejected`."""
        if value is None:
            return math.nan
        if isinstance(value, bool):
            return float(value) if self.boolean else self._refuse_type()
        if isinstance(value, int | float):
            try:
                return self._check(float(value))
            except OverflowError:  # an integer beyond the floats
                return self._check(math.inf)
        if isinstance(value, str):
            text = value.strip().lower()
            if text in MISSING:
                return math.nan
            if text in self.words:
                return self.words[text]
            hint = "send it without quotes" if NUMBER.fullmatch(text) else ""
            return self._refuse_type(hint)
        return self._refuse_type()

    def read_text(self, text: str, *, decimal_comma: bool = False) -> float:
        """Read one cell of a text file. NaN means missing. Raises `RecordRejected`."""
        text = text.strip().lower()
        if text in MISSING:
            return math.nan
        if text in self.words:
            return self.words[text]
        if NUMBER.fullmatch(text):
            return self._check(float(text))
        if decimal_comma and DECIMAL_COMMA.fullmatch(text):
            return self._check(float(text.replace(",", ".")))
        return self._refuse_type()

    @cached_property
    def warning_text(self) -> str:
        """What is said of a value that is accepted, but outside the training range."""
        low, high = self.training
        return f"{self.name} outside training range {low:g} to {high:g} {self.unit}".rstrip()

    def _check(self, value: float) -> float:
        if math.isnan(value):
            return value
        if self.kind == "category":
            if value in self.codes:
                return value
            raise RecordRejected((self.rejection("unknown_value", self._hint(value)),))
        if self.accept[0] <= value <= self.accept[1]:
            return value
        raise RecordRejected((self.rejection("out_of_range", self._hint(value)),))

    def _hint(self, value: float) -> Hint | None:
        return next((h for h in self.hints if h.low <= value <= h.high), None)

    def _refuse_type(self, hint: str = "") -> float:
        code: Code = "not_a_number" if self.kind == "number" else "unknown_value"
        raise RecordRejected((FieldError(code, self.name, self.limit, self.unit, hint),))

    def rejection(self, code: Code, hint: Hint | None = None) -> FieldError:
        """A rejection of this field, with its limit and unit."""
        return FieldError(
            code,
            self.name,
            limit=self.limit,
            unit=self.unit,
            hint=hint.text if hint else "",
            coding=hint.coding if hint else None,
        )

    @property
    def json_schema(self) -> dict[str, Any]:
        """The field as JSON Schema, for OpenAPI."""
        if self.kind == "number":
            schema: dict[str, Any] = {
                "type": "number",
                "minimum": self.accept[0],
                "maximum": self.accept[1],
            }
        else:
            values: list[object] = [choice.code for choice in self.choices]
            values += [choice.word for choice in self.choices if choice.word is not None]
            if self.boolean:
                values += [False, True]
            schema = {"enum": values}
        meanings = ", ".join(f"{c.code} {c.title}" for c in self.choices if c.title)
        low, high = self.training
        parts = [
            self.title + (f" in {self.unit}" if self.unit else ""),
            meanings,
            f"seen in training: {low:g} to {high:g}" if self.kind == "number" else "",
            "" if self.used else "checked, not used by the model",
        ]
        described = {"title": self.title, "description": "; ".join(p for p in parts if p)}
        if self.unit:
            described["x-unit"] = self.unit
        if self.required:
            return schema | described
        return {"anyOf": [schema, {"type": "null"}]} | described


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """One patient's fields, checked. Prints as its id, so that no log can show a value."""

    patient_id: str | None
    values: tuple[float, ...]
    """All fields of the table, in its order; NaN is missing."""
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Record({self.patient_id!r})"


_Plain = tuple[int, bool, float, float, float, float, dict[object, float] | None, frozenset[type]]
"""Place, required, training range, accept range; codes by what may be sent for them; its types."""


class FieldTable(_Frozen):
    """All fields of the model's records, in order."""

    fields: tuple[FieldSpec, ...]
    other_columns: dict[str, str] = {}
    """Columns (lower case) that mark another coding of the data, with what to say of it."""

    @model_validator(mode="after")
    def _names_differ(self) -> FieldTable:
        names = [field.name.lower() for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError("two fields have the same name")
        return self

    @cached_property
    def by_name(self) -> dict[str, FieldSpec]:
        return {field.name: field for field in self.fields}

    @cached_property
    def known_keys(self) -> frozenset[str]:
        """All keys that a JSON record may have."""
        return frozenset(self.by_name) | {RECORD_ID}

    @cached_property
    def used(self) -> tuple[int, ...]:
        """Places in `fields` of those that the model sees, in the order of its columns."""
        return tuple(i for i, field in enumerate(self.fields) if field.used)

    @cached_property
    def used_names(self) -> tuple[str, ...]:
        return tuple(self.fields[i].name for i in self.used)

    def read(self, record: Mapping[str, object]) -> Record:
        """Check a JSON record. Raises `RecordRejected` with every fault, in the table's order."""
        return self._read_plain(record) or self.read_each(record)

    def read_each(self, record: Mapping[str, object]) -> Record:
        """The same, value by value: what `read` falls back on."""
        rejections: list[FieldError] = []
        for key in sorted(record.keys() - self.known_keys)[:NAMED_UNKNOWN]:
            near = self.near(key)
            hint = f"did you mean `{near}`?" if near else ""
            rejections.append(FieldError("unknown_field", printable(key), hint=hint))
        cells = ((field, record.get(field.name)) for field in self.fields)
        return self._read_each(record.get(RECORD_ID), cells, FieldSpec.read, rejections)

    @cached_property
    def _plain(self) -> dict[str, _Plain]:
        found: dict[str, _Plain] = {}
        for place, (field, (low, high, _)) in enumerate(
            zip(self.fields, self._ranges, strict=True)
        ):
            codes: dict[object, float] | None = None
            if field.kind == "category":
                sent = {code: code for code in field.codes} | field.words
                # Others are read value by value, which gives them their warning.
                codes = {key: code for key, code in sent.items() if low <= code <= high}
            types = frozenset({int, float, str, bool} if field.boolean else {int, float, str})
            usual = max(low, field.accept[0]), min(high, field.accept[1])
            found[field.name] = (place, field.required, *usual, *field.accept, codes, types)
        return found

    @cached_property
    def _required(self) -> int:
        return sum(field.required for field in self.fields)

    def _read_plain(self, record: Mapping[str, Any]) -> Record | None:
        """Fast path: as `FieldSpec.read`, for a record of accepted values; None for any other.

        Most records are such ones, and this takes a fraction of the time.
        """
        checks = self._plain
        values = [math.nan] * len(self.fields)
        lacking, unusual = self._required, False
        for name, value in record.items():
            check = checks.get(name)
            if check is None:
                if name != RECORD_ID:
                    return None
                continue
            if value is None:  # as if it were not there
                continue
            place, required, usual_low, usual_high, low, high, codes, types = check
            kind = type(value)
            if codes is not None:
                if kind not in types:
                    return None
                if kind is str:
                    value = value.strip().lower()
                code = codes.get(value)
                if code is None:
                    return None
                values[place] = code if kind is str else float(value)
            else:
                # A bool is an int, too; NaN is in no range.
                if kind is not int and kind is not float:
                    return None
                if not usual_low <= value <= usual_high:
                    if not low <= value <= high:
                        return None
                    unusual = True
                values[place] = float(value)
            lacking -= required
        if lacking:
            return None
        warnings = self.warnings(values) if unusual else ()
        return Record(read_id(record.get(RECORD_ID)), tuple(values), warnings)

    def read_cells(
        self, cells: Mapping[str, str], patient_id: str | None, *, decimal_comma: bool = False
    ) -> Record:
        """Check the cells of a text row, by field name. Raises `RecordRejected`."""
        texts = ((field, cells.get(field.name, "")) for field in self.fields)
        read = partial(FieldSpec.read_text, decimal_comma=decimal_comma)
        return self._read_each(patient_id, texts, read, [])

    def _read_each(
        self,
        patient_id: object,
        cells: Iterable[tuple[FieldSpec, Any]],
        read: Callable[[FieldSpec, Any], float],
        rejections: list[FieldError],
    ) -> Record:
        values: list[float] = []
        checked_id = None
        try:
            checked_id = read_id(patient_id)
        except RecordRejected as error:
            rejections.extend(error.rejections)
        for field, cell in cells:
            value = math.nan
            try:
                value = read(field, cell)
                if field.required and math.isnan(value):
                    rejections.append(field.rejection("missing_required"))
            except RecordRejected as error:
                rejections.extend(error.rejections)
            values.append(value)
        if rejections:
            raise RecordRejected(tuple(rejections))
        return Record(checked_id, tuple(values), self.warnings(values))

    def warnings(self, values: Iterable[float]) -> tuple[str, ...]:
        """Warnings of the fields used by the model, for checked values in the table's order."""
        # NaN is neither below nor above.
        return tuple(
            text
            for (low, high, text), value in zip(self._ranges, values, strict=True)
            if value < low or value > high
        )

    @cached_property
    def _ranges(self) -> tuple[tuple[float, float, str], ...]:
        """Training range of each field, and what to say of a value outside it."""
        return tuple(
            (*field.training, field.warning_text) if field.used else (-math.inf, math.inf, "")
            for field in self.fields
        )

    def near(self, name: str, among: Iterable[str] | None = None) -> str | None:
        """The field (of `among`, else of all) that an unknown name probably means."""
        if len(name) > NAME_LENGTH:
            return None
        names = list(self.by_name if among is None else among)
        key = name.strip().lower().replace(" ", "_").replace("-", "_")
        for candidate in names:
            if key == candidate.lower() or key in self.by_name[candidate].aliases:
                return candidate
        import difflib  # a request without unknown names never needs it

        # Names of two letters are like too many others.
        names = [n for n in names if len(n) > 2]
        close = difflib.get_close_matches(key, names, n=1, cutoff=0.75)
        if close:
            return close[0]
        return max((n for n in names if key.startswith(n)), key=len, default=None)


def printable(name: str) -> str:
    """A column's or key's name as it may be shown: no control characters, at most 64 characters."""
    shown = "".join(c if c.isprintable() else "?" for c in name[: NAME_LENGTH + 1])
    return shown if len(shown) <= NAME_LENGTH else shown[: NAME_LENGTH - 1] + "…"


def read_id(value: object) -> str | None:
    """Check a record's own id; None: it has none. Raises `RecordRejected`."""
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            value = str(value)
        except ValueError:  # beyond the interpreter's limit of digits
            value = "0" * (RECORD_ID_LENGTH + 1)
    if not isinstance(value, str) or not is_text(value):
        raise RecordRejected((FieldError("not_text", RECORD_ID),))
    if len(value) > RECORD_ID_LENGTH:
        limit = f"{RECORD_ID_LENGTH} characters"
        raise RecordRejected((FieldError("too_long", RECORD_ID, limit),))
    return value


# Control characters but tab and line ends, and lone surrogates, which no UTF-8 file can hold.
NOT_TEXT = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
_NOT_TEXT = re.compile(NOT_TEXT + "|[\ud800-\udfff]")


def is_text(value: str) -> bool:
    """Whether a file or a page may show this text."""
    return _NOT_TEXT.search(value) is None
