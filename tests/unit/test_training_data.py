"""Data that training accepts, and the errors for all other data."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from shared.records.errors import RecordRejected
from training.errors import TrainingError
from training.heart.dataset import DATA, read_heart
from training.heart.fields import HEART_CSV, TABLE, UCI, UCI_OR_HEART_CSV, UCI_RAW

Change = Callable[[pd.DataFrame], pd.DataFrame]


def the_data() -> pd.DataFrame:
    return pd.read_csv(DATA)


def written(frame: pd.DataFrame, directory: Path) -> Path:
    path = directory / "sample.csv"
    frame.to_csv(path, index=False, float_format="%g")
    return path


def heart_csv(frame: pd.DataFrame) -> pd.DataFrame:
    """The 303-row heart.csv form, as data/README.md describes it."""
    return (
        frame.assign(
            cp=3 - frame.cp,
            slope=2 - frame.slope,
            thal=frame.thal.map({0: 2, 1: 1, 2: 3}).fillna(0),
            ca=frame.ca.fillna(4),
            target=1 - frame.condition,
        )
    ).drop(columns="condition")


def uci(frame: pd.DataFrame) -> pd.DataFrame:
    """UCI's own coding."""
    return frame.assign(
        cp=frame.cp + 1,
        slope=frame.slope + 1,
        thal=frame.thal.map({0: 3, 1: 6, 2: 7}),
        num=frame.condition,
    ).drop(columns="condition")


def test_the_recorded_file_has_its_patients() -> None:
    data = read_heart()

    assert data.rows.shape == (303, len(TABLE.used))
    assert data.outcome.sum() == 139
    assert data.demonstration


REFUSED: dict[str, tuple[Change, str]] = {
    "reversed label": (
        lambda frame: frame.assign(condition=1 - frame.condition),
        "label is reversed",
    ),
    "heart.csv": (heart_csv, "use other codes than this model"),
    "heart.csv, label renamed": (
        lambda frame: heart_csv(frame).rename(columns={"target": "condition"}),
        r"heart\.csv",
    ),
    "only cp turned round": (
        lambda frame: frame.assign(cp=3 - frame.cp),
        "asymptomatic patients are ill less often: cp has other codes",
    ),
    "only slope turned round": (
        lambda frame: frame.assign(slope=2 - frame.slope),
        "slope has other codes",
    ),
    "uci": (uci, "use other codes than this model"),
    "uci, label renamed": (
        lambda frame: uci(frame).rename(columns={"num": "condition"}),
        "UCI's own codes",
    ),
    "five levels": (
        lambda frame: frame.assign(condition=frame.condition * 3),
        "UCI's five levels",
    ),
    "a patient twice": (
        lambda frame: pd.concat([frame, frame.head(1)]),
        "1 patients more than once",
    ),
    "a code out of range": (
        lambda frame: frame.assign(sex=frame.sex.where(frame.index != 4, 2)),
        "row 5: unknown_value: sex must be one of",
    ),
    "a number out of range": (
        lambda frame: frame.assign(chol=frame.chol.where(frame.index != 6, 0)),
        "row 7: out_of_range: chol",
    ),
    "no age": (lambda frame: frame.drop(columns="age"), "lacks the columns age"),
    "an empty label": (
        lambda frame: frame.assign(condition=frame.condition.where(frame.index != 1)),
        "condition must be 0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_data_with_another_meaning_is_refused_by_name(name: str, tmp_path: Path) -> None:
    change, reason = REFUSED[name]
    path = written(change(the_data()), tmp_path)

    with pytest.raises(TrainingError, match=reason) as caught:
        read_heart(path)

    assert str(caught.value).startswith("sample.csv")
    assert "\n" not in str(caught.value)


def test_a_refusal_never_states_the_value(tmp_path: Path) -> None:
    frame = the_data().assign(chol=lambda f: f.chol.where(f.index != 6, 4711))

    with pytest.raises(TrainingError) as caught:
        read_heart(written(frame, tmp_path))

    assert "4711" not in str(caught.value)


def test_another_sample_of_the_same_fields_is_taken(tmp_path: Path) -> None:
    data = read_heart(written(the_data().sample(200, random_state=1), tmp_path))

    assert len(data.outcome) == 200
    assert not data.demonstration


def test_a_changed_recorded_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(the_data().head(302), tmp_path)
    monkeypatch.setattr("training.heart.dataset.DATA", path)

    with pytest.raises(TrainingError, match="not the recorded file"):
        read_heart()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"nowhere\.csv: No such file"):
        read_heart(tmp_path / "nowhere.csv")


def test_training_ranges_are_those_of_the_data() -> None:
    frame = the_data()

    found = {f.name: (frame[f.name].min(), frame[f.name].max()) for f in TABLE.fields}

    assert found == {f.name: f.training for f in TABLE.fields}


def test_every_patient_is_a_record_of_the_table() -> None:
    for row in the_data().to_dict("records"):
        record = {str(k): None if pd.isna(v) else v for k, v in row.items() if k != "condition"}
        assert TABLE.read(record).warnings == ()


HINTS = [
    ("chol", 5.2, "38.67", None),
    ("cp", 4, "UCI", UCI),
    ("slope", 3, "UCI", UCI),
    ("thal", 3, "UCI", UCI_OR_HEART_CSV),
    ("thal", 6, "UCI", UCI),
    ("thal", 7, "UCI", UCI),
    ("ca", 4, "missing", HEART_CSV),
    ("trestbps", 16, "kPa", None),
    ("chol", 0, "does not mean missing", None),
    ("oldpeak", -9, "-9", UCI_RAW),
]


@pytest.mark.parametrize(("name", "value", "words", "coding"), HINTS)
def test_a_value_of_another_coding_or_unit_gets_a_hint(
    name: str, value: float, words: str, coding: str | None
) -> None:
    with pytest.raises(RecordRejected) as caught:
        TABLE.by_name[name].read(value)

    [rejection] = caught.value.rejections
    assert words in rejection.hint
    assert rejection.coding == coding


def test_hints_lie_outside_what_is_accepted() -> None:
    for field in TABLE.fields:
        for hint in field.hints:
            assert hint.high < field.accept[0] or hint.low > field.accept[1], field.name


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("cholesterol", "chol"),
        ("Serum Cholesterol", "chol"),
        ("resting_bp", "trestbps"),
        ("MaxHR", "thalach"),
        ("ST_Slope", "slope"),
        ("ChestPainType", "cp"),
        ("gender", "sex"),
    ],
)
def test_headers_that_people_use_lead_to_the_field(alias: str, name: str) -> None:
    assert TABLE.near(alias) == name


def test_no_alias_means_two_fields() -> None:
    aliases = [alias for field in TABLE.fields for alias in (field.name, *field.aliases)]

    assert len(set(aliases)) == len(aliases)
    assert all(re.fullmatch("[a-z0-9_]+", alias) for alias in aliases)
