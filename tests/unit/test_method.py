"""Properties of the method: golden answers, directions, clipping, missing fields, bits."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.records.artifact import Golden, Manifest, OnnxModel
from training.errors import TrainingError
from training.heart.dataset import read_heart
from training.heart.estimator import PatternLogisticRegression
from training.heart.fields import TABLE
from training.heart.graph import pattern_explanation, pattern_graph
from training.heart.model import MODEL, SIGNS, terms

NAMES = TABLE.used_names
FIRST_VISIT: dict[str, float] = {"age": 67, "sex": 1, "cp": 3, "trestbps": 160, "chol": 286}
ROW_2 = FIRST_VISIT | {
    "thalach": 108,
    "exang": 1,
    "oldpeak": 1.5,
    "slope": 1,
    "ca": 3,
    "thal": 0,
}
GOLDEN: list[tuple[dict[str, float], float]] = [
    (
        {
            "age": 63,
            "sex": 1,
            "cp": 0,
            "trestbps": 145,
            "chol": 233,
            "thalach": 150,
            "exang": 0,
            "oldpeak": 2.3,
            "slope": 2,
            "ca": 0,
            "thal": 1,
        },
        0.274084,
    ),
    (ROW_2, 0.981183),
    (
        ROW_2 | {"trestbps": 120, "chol": 229, "thalach": 129, "oldpeak": 2.6, "ca": 2, "thal": 2},
        0.985325,
    ),
    (FIRST_VISIT, 0.923743),
    ({name: value for name, value in ROW_2.items() if name not in ("ca", "thal")}, 0.978063),
    ({"age": 45, "sex": 0}, 0.150275),
    ({"age": 60, "sex": 1}, 0.641596),
    ({"age": 60, "sex": 1, "cp": 3, "trestbps": 140, "chol": 564}, 0.949473),
    ({"age": 60, "sex": 1, "cp": 3, "trestbps": 140, "chol": 900}, 0.949473),
]
"""Computed once, by other code: a change of the method must show here."""


@cache
def fitted() -> PatternLogisticRegression:
    data = read_heart()
    return PatternLogisticRegression(terms()).fit(data.rows, data.outcome)


@cache
def served() -> OnnxModel:
    manifest = Manifest(
        name="test",
        version="1",
        files={},
        data_sha256="",
        threshold=0.5,
        fields=TABLE,
        golden=(Golden(record={}, output=()),),
    )
    graphs = [build(fitted(), TABLE) for build in (pattern_graph, pattern_explanation)]
    return OnnxModel(graphs[0], manifest, graphs[1])


def row(record: dict[str, float]) -> NDArray[np.float32]:
    return np.array([[record.get(name, np.nan) for name in NAMES]], np.float32)


def probability(record: dict[str, float]) -> float:
    return float(fitted().predict_proba(row(record))[0, 1])


@pytest.mark.parametrize(("record", "expected"), GOLDEN)
def test_golden_answers(record: dict[str, float], expected: float) -> None:
    assert probability(record) == pytest.approx(expected, abs=1e-5)
    assert served().outputs(row(record))[0] == pytest.approx(expected, abs=1e-5)


def test_the_recipe_records_the_same_golden_answers() -> None:
    rows = [TABLE.read(record).values for record in MODEL.golden]
    found = fitted().predict_proba(np.array(rows)[:, list(TABLE.used)])[:, 1]

    assert found == pytest.approx([answer for _, answer in GOLDEN], abs=1e-5)


def value(name: str) -> st.SearchStrategy[float]:
    field = TABLE.by_name[name]
    if field.kind == "category":
        return st.sampled_from(sorted(field.codes))
    return st.floats(*field.accept, width=32)


records = st.fixed_dictionaries(
    {name: value(name) for name in ("age", "sex")},
    optional={name: value(name) for name in NAMES if name not in ("age", "sex")},
)


@settings(deadline=None, max_examples=300)
@given(record=records, data=st.data())
def test_a_worse_value_never_lowers_the_risk(record: dict[str, float], data: Any) -> None:
    name = data.draw(st.sampled_from([n for n in SIGNS if n in record]))
    low, high = sorted([record[name], data.draw(value(name))])
    better, worse = (low, high) if SIGNS[name] > 0 else (high, low)

    assert probability(record | {name: worse}) >= probability(record | {name: better})


@settings(deadline=None, max_examples=200)
@given(record=records)
def test_a_value_beyond_the_training_range_scores_like_its_end(record: dict[str, float]) -> None:
    ranges = {name: TABLE.by_name[name].training for name in record}
    clipped = {name: float(np.clip(record[name], *ranges[name])) for name in record}

    found = served().outputs(np.concatenate([row(record), row(clipped)]))
    assert found[0] == found[1]
    assert probability(record) == pytest.approx(probability(clipped), abs=1e-6)


@settings(deadline=None, max_examples=200)
@given(record=records)
def test_contributions_and_intercept_sum_to_the_logit(record: dict[str, float]) -> None:
    contributions, intercept = served().explain(row(record))
    logit = contributions.astype(float).sum() + intercept[0]

    [found] = served().outputs(row(record))
    assert 1 / (1 + np.exp(-logit)) == pytest.approx(found, abs=1e-6)
    absent = [name not in record for name in NAMES]
    assert not contributions[0, absent].any()
    assert not np.signbit(contributions[0, absent]).any()


def test_missing_is_never_filled() -> None:
    complete = read_heart().rows[1:2]
    for place, name in enumerate(NAMES):
        if TABLE.by_name[name].required:
            continue
        without = complete.copy()
        without[0, place] = np.nan
        answers = []
        for stand_in in np.linspace(*TABLE.by_name[name].training, 7):
            filled = complete.copy()
            filled[0, place] = stand_in
            answers.append(fitted().predict_proba(filled)[0, 1])

        own = fitted().coefficients_[fitted().field_sets(without)[0]]
        assert not np.array_equal(own, fitted().coefficients_[0])
        assert np.isfinite(fitted().predict_proba(without)).all()
        assert fitted().predict_proba(without)[0, 1] not in answers


def test_each_field_set_scores() -> None:
    model = fitted()
    rows = np.array(
        [np.where(model.present(number), 1.0, np.nan) for number in range(model.set_count)]
    )

    found = model.predict_proba(rows)[:, 1]

    assert model.field_sets(rows).tolist() == list(range(model.set_count))
    assert ((found > 0) & (found < 1)).all()
    assert served().outputs(rows.astype(np.float32)) == pytest.approx(found, abs=1e-6)


def test_field_sets_are_numbered_by_their_missing_fields() -> None:
    optional = np.isnan(row(FIRST_VISIT)[0, 2:])  # without age and sex
    first_visit = sum(2**i for i, missing in enumerate(optional) if missing)

    assert fitted().field_sets(np.zeros((1, len(TABLE.used)))).tolist() == [0]
    assert fitted().field_sets(row(FIRST_VISIT)).tolist() == [first_visit]


@pytest.mark.parametrize("name", ["age", "sex"])
def test_a_missing_required_field_has_no_answer(name: str) -> None:
    record = {key: number for key, number in ROW_2.items() if key != name}

    assert np.isnan(probability(record))
    assert np.isnan(served().outputs(row(record))[0])


def test_no_coefficient_points_the_wrong_way() -> None:
    signs = np.repeat([term.sign for term in fitted().terms], fitted().widths)

    assert (fitted().coefficients_[:-1] * signs >= 0).all()


def test_a_fit_of_some_field_sets_is_the_same_fit() -> None:
    data = read_heart()
    few = PatternLogisticRegression(terms()).fit(data.rows, data.outcome, sets=[0, 504])

    for number in (0, 504):
        assert np.array_equal(few.coefficients_[number], fitted().coefficients_[number])
        assert few.intercepts_[number] == fitted().intercepts_[number]
    assert np.isnan(few.predict_proba(row({"age": 45, "sex": 0}))).all()


def test_a_row_has_the_same_bits_alone_and_among_others() -> None:
    rows = np.tile(read_heart().rows.astype(np.float32), (9, 1))

    together = served().outputs(rows)
    alone = np.concatenate([served().outputs(one[None]) for one in rows])

    assert together.tobytes() == alone.tobytes()


def test_the_estimator_is_a_scikit_learn_classifier() -> None:
    from sklearn.base import clone, is_classifier

    data = read_heart()

    assert is_classifier(fitted())
    assert clone(fitted()).get_params()["C"] == 0.3
    assert fitted().score(data.rows, data.outcome) == pytest.approx(0.865, abs=0.01)
    with pytest.raises(ValueError, match=f"rows have 3 fields, not {len(TABLE.used)}"):
        clone(fitted()).fit(data.rows[:, :3], data.outcome)


def test_steps_that_do_not_begin_above_the_lowest_value_are_refused() -> None:
    estimator = copy(fitted())
    estimator.terms = tuple(
        replace(term, low=term.levels[0]) if term.shape == "steps" else term for term in terms()
    )

    with pytest.raises(TrainingError, match="ca: levels must rise, and steps begin above 1"):
        pattern_graph(estimator, TABLE)
