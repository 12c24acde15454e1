"""The field table: the fields of a record, written by training into the manifest.

Everything that reads records is built from it: the API's record, the validation of batch files,
the OpenAPI schema, errors. No other module knows a field by name. One reader of a value
(`FieldSpec.read` for JSON, `FieldSpec.read_text` for text files) decides what is accepted.
`shared.files` checks whole blocks at once and asks this reader about every value that is not a
plain number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
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
from shared.records.names import NAME_LENGTH, Candidate, best_matches
from shared.records.shape import why_no_record
from shared.records.strict_json import DuplicateKeys

RECORD_ID_LENGTH = 128
"""Characters that a record's own id may have."""

NAMED_CHOICES = 10
"""Choices of one field that a message names."""
NAMED_UNKNOWN = 10
"""Unknown keys of one record that are named; a record may have thousands."""

OLD_RECORD_ID = "patient_id"
"""The name of a record's own id where a manifest does not state it: version 1.0 had no other."""
RESERVED = frozenset(
    ("row", "prediction", "probability", "model_version", "warnings", "error", "errors")
)
"""Names that results use, so that a record's own id cannot have them."""

RECORD_ID_ALIASES = (
    "id",
    "patient_id",
    "mrn",
    "pid",
    "patient_no",
    "patient_nr",
    "patient_number",
    "case_id",
    "record_id",
    "subject_id",
    "person_id",
)
"""Other names for a record's own id."""

MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "-", ".", "\\n", "?"})
"""Texts that mean "not known", in lower case. Zero never does."""
MISSING_PATTERN = "^({})$".format(
    "|".join(re.sub(r"([.?\\])", r"\\\1", text.upper()) for text in sorted(MISSING))
)
"""The same for JSON Schema, in upper case. An enum would give generated clients two equal names."""

TRUE_WORDS, FALSE_WORDS = ("true", "yes", "y", "t"), ("false", "no", "n", "f")
"""Words that every boolean field accepts for 1 and 0."""

# ASCII digits only: float() would also take 1_000, Arabic digits and "infinity".
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
DECIMAL_COMMA = re.compile(r"[+-]?(?:[0-9]+,?[0-9]*|,[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)


_WORD_BREAKS = re.compile(r"[\s_\-\u2010-\u2014]+")


def fold_word(text: str) -> str:
    """A word for comparison: without case, blanks, hyphens and underscores."""
    return _WORD_BREAKS.sub("", text.lower())


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Choice(_Frozen):
    """One code of a category field."""

    code: int
    word: str | None = None
    """The word that may be sent in place of the code; case, blanks and hyphens do not matter."""
    synonyms: tuple[str, ...] = ()
    """Other words for the same code."""
    title: str = ""

    @property
    def accepted_words(self) -> tuple[str, ...]:
        """All words for this code."""
        return self.synonyms if self.word is None else (self.word, *self.synonyms)


class Hint(_Frozen):
    """A hint for a rejected number from `low` to `high`."""

    low: float
    high: float
    text: str
    factor: float | None = None
    """Converts the number to the field's unit, if it is in another unit."""
    coding: str | None = None
    """The other coding of the data, if only that one has such a value."""


class FieldSpec(_Frozen):
    """One field of a record: a number with an accept range, or a category with codes."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")
    title: str
    column: str = ""
    """Name of the column in a DataFrame, if it is not `name`; may hold any characters."""
    kind: Literal["number", "category"]
    unit: str = ""
    choices: tuple[Choice, ...] = ()
    boolean: bool = False
    """A category of 0 and 1 that may also be stated as false and true, or as no and yes."""
    accept: tuple[float, float]
    """A value outside is an error, not a record."""
    training: tuple[float, float]
    """A value outside is scored with a warning."""
    required: bool = False
    used: bool = True
    """False: checked, but not used by the model."""
    hints: tuple[Hint, ...] = ()
    aliases: tuple[str, ...] = ()
    """Other names of this field: a column with such a name is refused, with a hint."""
    unlike: tuple[str, ...] = ()
    """Words in a name that show that the column is something else."""
    reference: tuple[float, ...] = ()
    """Of a category: the share of each choice in the training data. Empty: not recorded."""

    @model_validator(mode="after")
    def _holds_together(self) -> FieldSpec:
        if self.kind == "category" and not self.choices:
            raise ValueError(f"{self.name}: a category needs choices")
        if self.reference and len(self.reference) != len(self.choices):
            raise ValueError(f"{self.name}: the reference needs a share for each choice")
        self._check_words()
        return self

    def _check_words(self) -> None:
        """Refuse codes and words that two readers would read differently."""
        codes = [choice.code for choice in self.choices]
        if len(set(codes)) != len(codes):
            raise ValueError(f"{self.name}: two choices have the same code")
        seen: dict[str, int] = {}
        for choice in self.choices:
            for word in choice.accepted_words:
                folded = fold_word(word)
                plain = word.strip().lower()
                if plain in MISSING or folded in MISSING:
                    raise ValueError(f"{self.name}: the word {word!r} means missing")
                if NUMBER.fullmatch(plain) or NUMBER.fullmatch(folded):
                    raise ValueError(f"{self.name}: the word {word!r} is a number")
                if seen.setdefault(folded, choice.code) != choice.code:
                    raise ValueError(f"{self.name}: the word {word!r} means two codes")

    @cached_property
    def words(self) -> dict[str, float]:
        """Accepted words, folded, with their codes."""
        words = {
            fold_word(word): float(choice.code)
            for choice in self.choices
            for word in choice.accepted_words
        }
        if self.boolean:
            for code, usual in ((1.0, TRUE_WORDS), (0.0, FALSE_WORDS)):
                words = dict.fromkeys(usual, code) | words
        return words

    @cached_property
    def codes(self) -> frozenset[float]:
        return frozenset(float(choice.code) for choice in self.choices)

    @property
    def limit(self) -> str:
        """Accepted values in words: `50 to 700 mg/dl`, or the list of codes."""
        if self.kind == "number":
            low, high = self.accept
            return f"{low:g} to {high:g} {self.unit}".rstrip()
        shown = [
            f"{c.code} ({c.word})" if c.word is not None else f"{c.code}"
            for c in self.choices[:NAMED_CHOICES]
        ]
        more = len(self.choices) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")

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
            code = self.words.get(fold_word(text))
            if code is not None:
                return code
            return self._refuse_type("send it without quotes" if NUMBER.fullmatch(text) else "")
        if isinstance(value, list | dict):
            return self._refuse_type("send the value itself, not an array or object")
        return self._refuse_type()

    def read_text(self, text: str, *, decimal_comma: bool = False) -> float:
        """Read one cell of a text file. NaN means missing. Raises `RecordRejected`."""
        text = text.strip().lower()
        if text in MISSING:
            return math.nan
        if NUMBER.fullmatch(text):
            return self._check(float(text))
        code = self.words.get(fold_word(text))
        if code is not None:
            return code
        if DECIMAL_COMMA.fullmatch(text):
            if decimal_comma:
                return self._check(float(text.replace(",", ".")))
            return self._refuse_type("write a decimal point, not a comma")
        return self._refuse_type()

    @cached_property
    def warning_text(self) -> str:
        """The warning for a value that is accepted, but outside the training range."""
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
            low, high = self.accept
            options: list[dict[str, Any]] = [{"type": "number", "minimum": low, "maximum": high}]
        else:
            # One enum for each type: generators of clients refuse mixed ones.
            codes = [choice.code for choice in self.choices]
            words = [choice.word for choice in self.choices if choice.word is not None]
            options = [{"type": "integer", "enum": codes}]
            if words:
                options.append({"type": "string", "enum": words})
        if self.boolean:
            options.append({"type": "boolean"})
        if not self.required:
            options += [{"type": "null"}, {"type": "string", "pattern": MISSING_PATTERN}]
        schema = options[0] if len(options) == 1 else {"anyOf": options}
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
        return schema | described


@dataclass(frozen=True, slots=True, repr=False)
class Record:
    """A record's fields, checked. Prints as its id, so that no log can show a value."""

    id: str | None
    values: tuple[float, ...]
    """All fields of the table, in its order; NaN is missing."""
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Record({self.id!r})"


def _collected(error: RecordRejected) -> PydanticCustomError:
    """Rejections of one value, as pydantic collects them."""
    return PydanticCustomError("rejected", "rejected", {"rejections": error.rejections})


_JSON_ID = {
    "anyOf": [
        {
            "type": "string",
            "maxLength": RECORD_ID_LENGTH,
            "pattern": r"^[^\u0000-\u0008\u000B\u000C\u000E-\u001F\u007F]*$",
        },
        {"type": "number"},
        {"type": "null"},
    ],
    "description": "Your own id for the record, returned with its score",
}


class RecordBody(BaseModel):
    """A record as it is sent; `FieldTable.record_model` adds its members."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    record_id: str | None = None
    table: ClassVar[FieldTable]

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, item: object, read: ModelWrapValidatorHandler[RecordBody]) -> RecordBody:
        """Raises `RecordRejected`, which pydantic lets through, with every fault of the record."""
        why = why_no_record(item, cls.table)
        if why is not None or not isinstance(item, dict):
            raise RecordRejected((FieldError("malformed", limit=why or ""),))
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
        return [(None, self.record_id)]


def _id_member(name: str) -> Any:
    """The record's own id as a member of the record model."""

    def read(value: object) -> str | None:
        try:
            return read_id(value, name)
        except RecordRejected as error:
            raise _collected(error) from error

    return (
        Annotated[str | None, PlainValidator(read), WithJsonSchema(_JSON_ID)],
        Field(None, alias=name),
    )


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
    record_id: str = Field(default="id", pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")
    """Name of the record's own id, which comes back with its score."""
    other_columns: dict[str, str] = {}
    """Columns (lower case) that mark another coding of the data, with the text that says so."""
    codings: dict[str, str] = {}
    """Other codings of the data, by the names that hints use, with how they differ from this."""
    reference_limit: float = 0
    """Population stability index above which a batch of 100 rows or more is unlike `reference`."""

    @model_validator(mode="after")
    def _names_differ(self) -> FieldTable:
        names = [field.name.lower() for field in self.fields]
        if len(set(names)) != len(names):
            raise ValueError("two fields have the same name")
        if self.record_id.lower() in {*names, *RESERVED}:
            raise ValueError(
                f"record_id: {self.record_id} is the name of a field or of a result's column: the "
                "record's own id needs another"
            )
        return self

    @cached_property
    def by_name(self) -> dict[str, FieldSpec]:
        return {field.name: field for field in self.fields}

    @cached_property
    def known_keys(self) -> frozenset[str]:
        """All keys that a JSON record may have."""
        return frozenset(self.by_name) | {self.record_id}

    @cached_property
    def used(self) -> tuple[int, ...]:
        """Indexes in `fields` of those that the model uses, in the order of its columns."""
        return tuple(i for i, field in enumerate(self.fields) if field.used)

    @cached_property
    def used_names(self) -> tuple[str, ...]:
        return tuple(self.fields[i].name for i in self.used)

    @cached_property
    def coding_marks(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a field and another coding, which some value of that field proves."""
        pairs = ((f.name, hint.coding) for f in self.fields for hint in f.hints if hint.coding)
        return tuple(dict.fromkeys(pairs))

    def read(self, record: object) -> Record:
        """Check a JSON record. Raises `RecordRejected` with every fault, in the table's order."""
        return self.record_of(self.record_model.model_validate(record))

    def read_id(self, value: object) -> str | None:
        """Check a record's own id; None: it has none. Raises `RecordRejected`."""
        return read_id(value, self.record_id)

    def shown_id(self, record: object) -> str | None:
        """The id of a record, also of a rejected one if the id itself is accepted."""
        if not isinstance(record, dict) or self.record_id in getattr(record, "names", ()):
            return None
        try:
            return self.read_id(record.get(self.record_id))
        except RecordRejected:
            return None

    def read_cells(
        self, cells: Mapping[str, str], record_id: str | None, *, decimal_comma: bool = False
    ) -> Record:
        """Check the cells of a text row, by field name. Raises `RecordRejected`."""
        known = {name: cells[name] for name in self.by_name if name in cells}
        context = {"decimal_comma": decimal_comma}
        return self.record_of(
            self.record_model.model_validate(known | {self.record_id: record_id}, context=context)
        )

    def record_of(self, body: RecordBody) -> Record:
        """The checked record of a body that `record_model` has read."""
        found = (getattr(body, name) for name in self._members)
        values = tuple(math.nan if value is None else value for value in found)
        return Record(body.record_id, values, self.warnings(values))

    @cached_property
    def record_model(self) -> type[RecordBody]:
        """The record as a pydantic model: each value is read by its field's own reader.

        Raises `RecordRejected` instead of pydantic's own error.
        """
        members = dict(zip(self._members, map(_member, self.fields), strict=True))
        members["record_id"] = _id_member(self.record_id)
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
        """Training range of each field, and the warning for a value outside it."""
        return tuple(
            (*field.training, field.warning_text) if field.used else (-math.inf, math.inf, "")
            for field in self.fields
        )

    def rejections_of_unknown(self, keys: Iterable[str]) -> list[FieldError]:
        """A rejection for each key that is not a field, up to a limit."""
        rejections = []
        for key in sorted(keys)[:NAMED_UNKNOWN]:
            near = self.near(key)
            marker = self.other_columns.get(key.strip().lower())
            hint = marker or (f"did you mean `{near}`?" if near else "")
            rejections.append(FieldError("unknown_field", printable(key), hint=hint))
        return rejections

    @cached_property
    def near(self) -> Callable[[str], str | None]:
        """The field, or the record's id, that an unknown name probably means.

        Results are cached: usually the same key is in all records of a file.
        """
        return lru_cache(1024)(lambda name: self.near_all([name]).get(name))

    def near_all(
        self, names: Collection[str], among: Collection[str] | None = None
    ) -> dict[str, str]:
        """The probable meaning of unknown names, of `among` or of all fields and the record's id.

        Each field is given to the name that is most like it.
        """
        wanted = [c for c in self._candidates if among is None or c.name in among]
        return best_matches(names, wanted)

    @cached_property
    def _candidates(self) -> tuple[Candidate, ...]:
        fields = (
            Candidate(field.name, (field.title, *field.aliases), field.unlike)
            for field in self.fields
        )
        aliases = tuple(name for name in RECORD_ID_ALIASES if name != self.record_id)
        return (*fields, Candidate(self.record_id, aliases, (), misspelt=False))


def printable(name: str) -> str:
    """A column's or key's name as it may be shown: no control characters, at most 64 characters."""
    shown = "".join(c if c.isprintable() else "?" for c in name[: NAME_LENGTH + 1])
    return shown if len(shown) <= NAME_LENGTH else shown[: NAME_LENGTH - 1] + "…"


def read_id(value: object, name: str) -> str | None:
    """Check a record's own id of this name; None: it has none. Raises `RecordRejected`."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) != math.inf:
        try:
            value = str(value)
        except ValueError:  # beyond the interpreter's limit of digits
            value = "0" * (RECORD_ID_LENGTH + 1)
    if not isinstance(value, str) or not is_text(value):
        raise RecordRejected((FieldError("not_text", name),))
    if len(value) > RECORD_ID_LENGTH:
        limit = f"{RECORD_ID_LENGTH} characters"
        raise RecordRejected((FieldError("too_long", name, limit),))
    return value


# Control characters but tab and line ends, and lone surrogates, which no UTF-8 file can hold.
NOT_TEXT = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
_NOT_TEXT = re.compile(NOT_TEXT + "|[\ud800-\udfff]")


def is_text(value: str) -> bool:
    """Whether a file or a page may show this text."""
    return _NOT_TEXT.search(value) is None
