"""The field table: values that a field accepts, and the errors for others."""

from __future__ import annotations

import math
import re

import pytest
from pydantic import ValidationError

from shared.records.errors import CODES, FieldError, RecordRejected
from shared.records.schema import (
    MISSING,
    Choice,
    FieldSpec,
    FieldTable,
    Hint,
    printable,
)
from tests.builders import a_patient
from training.heart.fields import TABLE

AGE = TABLE.by_name["age"]
SEX = TABLE.by_name["sex"]
FBS = TABLE.by_name["fbs"]
CHOL = TABLE.by_name["chol"]


def rejections(record: dict[str, object]) -> tuple[FieldError, ...]:
    with pytest.raises(RecordRejected) as caught:
        TABLE.read(record)
    return caught.value.rejections


@pytest.mark.parametrize("text", ["", " ", "NA", "na", "NaN", "nan", "?", " ? "])
def test_texts_for_missing_are_missing_in_files_and_in_json(text: str) -> None:
    assert math.isnan(CHOL.read_text(text))
    assert math.isnan(CHOL.read(text))
    assert math.isnan(SEX.read(text))


def test_zero_is_never_missing() -> None:
    with pytest.raises(RecordRejected, match="0 does not mean missing"):
        CHOL.read(0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("54", 54),
        ("+54", 54),
        ("54.", 54),
        ("5.4E1", 54),
        (" 54\t", 54),
        ("054", 54),
        ("54.5", 54.5),
    ],
)
def test_numbers_in_files_are_plain_ascii_numbers(text: str, value: float) -> None:
    assert AGE.read_text(text) == value


@pytest.mark.parametrize(
    "text", ["5_4", "0x36", "٥٤", "５４", "54 years", "5 4", "--54", "1e", "+."]
)
def test_text_that_only_python_reads_as_a_number_is_refused(text: str) -> None:
    with pytest.raises(RecordRejected, match="not_a_number: age must be a number from 18 to 110"):
        AGE.read_text(text)


def test_a_decimal_comma_is_read_only_where_asked_for() -> None:
    assert CHOL.read_text("250,5", decimal_comma=True) == CHOL.read_text("250.5") == 250.5
    for text in ("1.250,5", "1,250,5", "250,5.0"):
        with pytest.raises(RecordRejected):
            CHOL.read_text(text, decimal_comma=True)
    with pytest.raises(RecordRejected):
        CHOL.read_text("250,5")


def test_words_are_accepted_like_codes_in_any_case() -> None:
    assert (
        SEX.read("Female") == SEX.read_text(" FEMALE ") == SEX.read(0) == SEX.read_text("0.0") == 0
    )
    assert FBS.read(True) == FBS.read("yes") == FBS.read(1) == 1


def test_booleans_are_for_fields_that_are_one() -> None:
    for field in (SEX, AGE):
        with pytest.raises(RecordRejected):
            field.read(True)


def test_the_edges_of_a_range_are_accepted_and_warned_of() -> None:
    record = TABLE.read(a_patient(age=18, chol=700))

    assert record.warnings == (
        "age outside training range 29 to 77 years",
        "chol outside training range 126 to 564 mg/dl",
    )
    assert TABLE.read(a_patient(age=29, chol=564)).warnings == ()


def test_a_field_that_the_model_does_not_use_is_checked_and_never_warned_of() -> None:
    assert "fbs" not in TABLE.used_names
    assert rejections(a_patient(fbs=2))[0].field == "fbs"


def test_a_rejection_says_field_limit_unit_and_hint() -> None:
    [rejection] = rejections(a_patient(chol=5.2))

    assert rejection == FieldError(
        "out_of_range",
        "chol",
        "50 to 700 mg/dl",
        "mg/dl",
        "looks like mmol/l: multiply by 38.67 for mg/dl",
    )
    assert str(rejection) == (
        "out_of_range: chol must be from 50 to 700 mg/dl "
        "(looks like mmol/l: multiply by 38.67 for mg/dl)"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("cp", 4), ("slope", 3), ("thal", 3), ("thal", 6), ("thal", 7), ("ca", 4), ("trestbps", -9)],
)
def test_a_value_of_another_coding_is_marked(field: str, value: float) -> None:
    [rejection] = rejections(a_patient(**{field: value}))

    assert rejection.coding
    assert rejection.hint


def test_every_fault_of_a_record_is_named() -> None:
    record = {"sex": 7, "cp": "cold", "chol": 1e9, "patient_id": "\0", "colour": 1, "Age": 54}

    assert [(r.code, r.field) for r in rejections(record)] == [
        ("unknown_field", "Age"),
        ("unknown_field", "colour"),
        ("not_text", "patient_id"),
        ("missing_required", "age"),
        ("unknown_value", "sex"),
        ("unknown_value", "cp"),
        ("out_of_range", "chol"),
    ]


def test_a_number_in_quotes_gets_the_hint_to_send_it_without() -> None:
    [rejection] = rejections(a_patient(age="54"))

    assert rejection.hint == "send it without quotes"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("Age", "age"),
        ("cholesterol", "chol"),
        ("Chest Pain", "cp"),
        ("trestbp", "trestbps"),
        ("thalassaemia", "thal"),
        ("gender", "sex"),
        ("old-peak", "oldpeak"),
        ("colour", None),
        ("cap", None),
        ("", None),
        ("chol" * 20_000, None),
    ],
)
def test_a_name_near_a_field_is_known(name: str, field: str | None) -> None:
    assert TABLE.near(name) == field


def test_names_are_shown_short_and_printable() -> None:
    assert printable("a\x00\ud800\u202eb") == "a???b"
    assert len(printable("x" * 1000)) == 64
    assert printable("x" * 64) == "x" * 64


def test_ids_are_text_of_128_characters_or_whole_numbers() -> None:
    assert TABLE.read_id(None) is None
    assert TABLE.read_id("") is None
    assert TABLE.read_id("é" * 128) == "é" * 128
    assert TABLE.read_id(7) == "7"
    assert TABLE.read_id(1001.0) == "1001.0"
    refused: list[object] = ["x" * 129, 10**128, 10**5000, math.inf, True, [], "\x07", "\ud800"]
    for value in refused:
        with pytest.raises(RecordRejected):
            TABLE.read_id(value)


def test_a_record_prints_as_its_id() -> None:
    assert repr(TABLE.read(a_patient(patient_id="P1"))) == "Record('P1')"


def test_every_code_has_a_sentence_without_holes() -> None:
    for code in CODES:
        text = str(FieldError(code, "age", limit="18 to 110 years"))

        assert text.startswith(f"{code}: ")
        assert "None" not in text
        assert len(text) > len(code) + 10


def test_the_json_schema_of_a_field_says_what_is_accepted() -> None:
    assert AGE.json_schema["minimum"] == 18
    assert SEX.json_schema["anyOf"] == [
        {"type": "integer", "enum": [0, 1]},
        {"type": "string", "enum": ["female", "male"]},
    ]
    *known, null, missing = FBS.json_schema["anyOf"]
    assert known == [
        {"type": "integer", "enum": [0, 1]},
        {"type": "string", "enum": ["no", "yes"]},
        {"type": "boolean"},
    ]
    assert null == {"type": "null"}
    for text in MISSING:
        assert re.search(missing["pattern"], text.upper()), text
    assert not re.search(missing["pattern"], "0")


def test_a_table_that_does_not_hold_together_is_refused() -> None:
    number = FieldSpec(name="x", title="X", kind="number", accept=(0, 1), training=(0, 1))
    with pytest.raises(ValidationError, match="same name"):
        FieldTable(fields=(number, number.model_copy(update={"name": "X"})))
    with pytest.raises(ValidationError, match="a category needs choices"):
        FieldSpec(name="x", title="X", kind="category", accept=(0, 1), training=(0, 1))
    for name in ("X", "prediction"):
        with pytest.raises(ValidationError, match="the record's own id"):
            FieldTable(fields=(number,), record_id=name)


def test_a_table_survives_the_manifest() -> None:
    table = FieldTable(
        fields=(
            FieldSpec(
                name="x",
                title="X",
                kind="category",
                choices=(Choice(code=0, word="no"),),
                accept=(0, 0),
                training=(0, 0),
                hints=(Hint(low=1, high=2, text="one too many", coding="other"),),
            ),
        ),
        other_columns={"y": "marks another"},
    )

    assert FieldTable.model_validate_json(table.model_dump_json()) == table
    assert FieldTable.model_validate_json(TABLE.model_dump_json()) == TABLE
