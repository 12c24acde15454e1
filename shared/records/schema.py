"""The field table: what a record may hold, written once by training and carried by the manifest.

Everything that reads records is built from it: the API's record, the validation of batch files,
the OpenAPI schema, errors. No other module knows a field by name. The reader of one value here
(`FieldSpec.read`, `FieldSpec.read_text`) is the reference. `shared.files` checks whole blocks at
once and may only take shortcuts that give the same answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shared.records.errors import Code, FieldError, RecordRejected
from shared.records.strict_json import DuplicateKeys

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
    factor: float | None = None
    """Converts the number to the field's unit, if it is in another unit."""
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
        # The texts that mean "not known" are accepted like null.
        missing = sorted("NaN" if text == "nan" else text.upper() for text in MISSING)
        return {"anyOf": [schema, {"type": "null"}, {"enum": missing}]} | described


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """One patient's fields, checked. Prints as its id, so that no log can show a value."""

    patient_id: str | None
    values: tuple[float, ...]
    """All fields of the table, in its order; NaN is missing."""
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Record({self.patient_id!r})"


def _collected(error: RecordRejected) -> PydanticCustomError:
    """Rejections of one value, as pydantic collects them."""
    return PydanticCustomError("rejected", "rejected", {"rejections": error.rejections})


def _read_id(value: object) -> str | None:
    try:
        return read_id(value)
    except RecordRejected as error:
        raise _collected(error) from error


_JSON_ID = {
    "anyOf": [
        {
            "type": "string",
            "maxLength": RECORD_ID_LENGTH,
            "pattern": r"^[^\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F]*$",
        },
        {"type": "integer"},
        {"type": "null"},
    ],
    "description": "Your own id of the record; it comes back with the score",
}


class RecordBody(BaseModel):
    """A record as it is sent; `FieldTable.record_model` adds a member for each field."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    patient_id: Annotated[
        str | None,
        PlainValidator(_read_id),
        WithJsonSchema(_JSON_ID),
    ] = None
    """The record's own id."""
    table: ClassVar[FieldTable]

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, item: object, read: ModelWrapValidatorHandler[RecordBody]) -> RecordBody:
        """Raises `RecordRejected`, which pydantic lets through, with every fault of the record."""
        if not isinstance(item, dict):
            raise RecordRejected((FieldError("malformed", limit="a record must be a JSON object"),))
        if isinstance(item, DuplicateKeys):
            names = map(printable, item.names[:NAMED_UNKNOWN])
            raise RecordRejected(tuple(FieldError("duplicate_field", name) for name in names))
        unknown = item.keys() - cls.table.known_keys
        rejections = cls.table.rejections_of_unknown(unknown)
        try:
            body = read({key: item[key] for key in item.keys() - unknown} if unknown else item)
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_input=False):
                if fault["type"] == "missing":
                    field = cls.table.by_name[str(fault["loc"][0])]
                    rejections.append(field.rejection("missing_required"))
                else:
                    rejections.extend(fault["ctx"]["rejections"])
        if rejections:
            raise RecordRejected(tuple(rejections))
        return body

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        # Prints as its id, like the record that it becomes.
        return [(None, self.patient_id)]


def _member(field: FieldSpec) -> Any:
    """A field as a member of the record model."""

    def read(value: Any, info: ValidationInfo) -> float:
        cell = info.context
        try:
            number = field.read(value) if cell is None else field.read_text(value, **cell)
            if field.required and math.isnan(number):
                raise RecordRejected((field.rejection("missing_required"),))
        except RecordRejected as error:
            raise _collected(error) from error
        return number

    schema = WithJsonSchema(field.json_schema)
    default = ... if field.required else None
    return Annotated[float, PlainValidator(read), schema], Field(default, alias=field.name)


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

    def read(self, record: object) -> Record:
        """Check a JSON record. Raises `RecordRejected` with every fault, in the table's order."""
        return self.record_of(self.record_model.model_validate(record))

    def read_cells(
        self, cells: Mapping[str, str], patient_id: str | None, *, decimal_comma: bool = False
    ) -> Record:
        """Check the cells of a text row, by field name. Raises `RecordRejected`."""
        known = {name: cells[name] for name in self.by_name if name in cells}
        context = {"decimal_comma": decimal_comma}
        return self.record_of(
            self.record_model.model_validate(known | {RECORD_ID: patient_id}, context=context)
        )

    def record_of(self, body: RecordBody) -> Record:
        """The checked record of a body that `record_model` has read."""
        found = (getattr(body, name) for name in self._members)
        values = tuple(math.nan if value is None else value for value in found)
        return Record(body.patient_id, values, self.warnings(values))

    @cached_property
    def record_model(self) -> type[RecordBody]:
        """The record as a pydantic model: each value is read by its field's own reader.

        Raises `RecordRejected` instead of pydantic's own error.
        """
        members = dict(zip(self._members, map(_member, self.fields), strict=True))
        model = create_model("Record", __base__=RecordBody, **members)
        model.table = self
        return model

    @cached_property
    def _members(self) -> tuple[str, ...]:
        """Attributes of the model; a field's own name might be one that pydantic uses."""
        return tuple(f"field_{number}" for number in range(len(self.fields)))

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

    def rejections_of_unknown(self, keys: Iterable[str]) -> list[FieldError]:
        """A rejection for each key that is no field, up to a limit."""
        rejections = []
        for key in sorted(keys)[:NAMED_UNKNOWN]:
            near = self.near(key)
            hint = f"did you mean `{near}`?" if near else ""
            rejections.append(FieldError("unknown_field", printable(key), hint=hint))
        return rejections

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
