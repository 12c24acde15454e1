"""The demonstration model: coronary disease from the Cleveland data.

Joins field table, data and estimator, and holds the allowed direction of each field, the golden
records and the expected figures.
"""

from __future__ import annotations

from training.heart.card import PROSE, describe
from training.heart.dataset import read_heart
from training.heart.estimator import PatternLogisticRegression, Sign, Term, fit_asked
from training.heart.fields import TABLE
from training.heart.graph import pattern_explanation, pattern_graph
from training.recipe import Recipe

SIGNS: dict[str, Sign] = {
    "age": 1,
    "sex": 1,
    "trestbps": 1,
    "chol": 1,
    "thalach": -1,
    "exang": 1,
    "oldpeak": 1,
    "ca": 1,
}
"""The direction in which more of a field moves the risk. The other fields' codes have no order."""

STEPS = {"ca": (1.0, 2.0, 3.0)}


def terms() -> tuple[Term, ...]:
    """A term for each field used: numbers and yes/no as lines, codes as levels, ca as steps."""
    return tuple(_term(name) for name in TABLE.used_names)


def _term(name: str) -> Term:
    field = TABLE.by_name[name]
    low, high = field.training
    sign, optional = SIGNS.get(name, 0), not field.required
    if name in STEPS:
        return Term(name, "steps", low, high, STEPS[name], sign, optional)
    if len(field.choices) > 2:
        levels = tuple(float(choice.code) for choice in field.choices)
        return Term(name, "levels", low, high, levels, sign, optional)
    return Term(name, "line", low, high, (), sign, optional)


_FIRST_VISIT = ("age", "sex", "cp", "trestbps", "chol")
_ROW_2: dict[str, float | str] = {
    "age": 67,
    "sex": "male",
    "cp": "asymptomatic",
    "trestbps": 160,
    "chol": 286,
    "fbs": "no",
    "restecg": "lv_hypertrophy",
    "thalach": 108,
    "exang": "yes",
    "oldpeak": 1.5,
    "slope": "flat",
    "ca": 3,
    "thal": "normal",
}

GOLDEN: tuple[dict[str, float | str], ...] = (
    {
        "age": 63,
        "sex": "male",
        "cp": "typical_angina",
        "trestbps": 145,
        "chol": 233,
        "fbs": "yes",
        "restecg": "lv_hypertrophy",
        "thalach": 150,
        "exang": "no",
        "oldpeak": 2.3,
        "slope": "down",
        "ca": 0,
        "thal": "fixed_defect",
    },
    _ROW_2,
    _ROW_2
    | {
        "trestbps": 120,
        "chol": 229,
        "thalach": 129,
        "oldpeak": 2.6,
        "ca": 2,
        "thal": "reversible_defect",
    },
    {name: _ROW_2[name] for name in _FIRST_VISIT},
    {name: value for name, value in _ROW_2.items() if name not in ("ca", "thal")},
    {"age": 45, "sex": "female"},
    {"age": 60, "sex": "male"},
    {"age": 60, "sex": "male", "cp": 3, "trestbps": 140, "chol": 564},
    {"age": 60, "sex": "male", "cp": 3, "trestbps": 140, "chol": 700},
)
"""The first three patients of the file, the second one with fields missing, and records at and
beyond the training range."""

_USED = TABLE.used_names

MODEL = Recipe(
    name="heart-cleveland",
    version="1.0.0",
    title="Probability of coronary disease (over 50 % narrowing of a major vessel at angiography)",
    notice="Educational demonstration, not a medical device. "
    "Fitted to 303 patients referred for angiography in 1981 to 1984.",
    noun="patient",
    outcome="coronary disease",
    table=TABLE,
    load=read_heart,
    allow=("training_range",),  # another sample of the same patients has narrower ranges
    estimator=lambda: PatternLogisticRegression(terms()),
    fit=fit_asked,
    convert=pattern_graph,
    explain=pattern_explanation,
    golden=GOLDEN,
    field_sets={
        "all fields": _USED,
        "without ca": tuple(n for n in _USED if n != "ca"),
        "without ca and thal": tuple(n for n in _USED if n not in ("ca", "thal")),
        "age, sex, cp, trestbps, chol": _FIRST_VISIT,
        "age, sex, cp": ("age", "sex", "cp"),
        "age, sex": ("age", "sex"),
    },
    every_field_set=True,
    subgroups={
        "women": lambda column: column["sex"] == 0,
        "men": lambda column: column["sex"] == 1,
        "under 50": lambda column: column["age"] < 50,
        "50 to 59": lambda column: (column["age"] >= 50) & (column["age"] < 60),
        "60 and over": lambda column: column["age"] >= 60,
    },
    bands=(0.2, 0.7),
    prose=PROSE,
    describe=describe,
    expected={
        1: {
            "auc": 0.9187,
            "log_loss": 0.3593,
            "brier": 0.1117,
            "accuracy": 0.855,
            "sensitivity": 0.806,
            "specificity": 0.896,
        },
        5: {
            "auc": 0.9170,
            "log_loss": 0.3626,
            "brier": 0.1124,
            "accuracy": 0.852,
            "sensitivity": 0.807,
            "specificity": 0.889,
        },
        20: {
            "auc": 0.9165,
            "log_loss": 0.3639,
            "brier": 0.1129,
            "accuracy": 0.851,
            "sensitivity": 0.806,
            "specificity": 0.889,
        },
    },
)
