"""The heart model's card: the prose that no run can compute, and the fitted estimator in detail."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from shared.records.schema import FieldSpec
from training import plots
from training.blocks import Block, Picture, Table
from training.heart.estimator import PatternLogisticRegression, Term
from training.recipe import Recipe

PROSE: dict[str, tuple[str, ...]] = {
    "Intended use": (
        "To show how a scikit-learn model is trained, checked, packed and served. "
        "For developers, operators and teachers; not for clinicians and not for patients. "
        "No decision about a person may rest on it.",
        "Show the probability first, never the yes/no label alone. To rule disease out the "
        "lower threshold is the better one: with the label's threshold more than a quarter of "
        "the ill women are missed.",
    ),
    "Setting and dates": (
        "Patients of the Cleveland Clinic, Cleveland, Ohio, who had coronary angiography between "
        "1981 and 1984. One hospital, all of its rows in the UCI collection.",
    ),
    "Eligibility": (
        "Everybody in the data had been referred for angiography. They are neither the public "
        "nor a screening population: among them those without chest pain are ill most often, "
        "because something else had brought them there.",
    ),
    "Outcome": (
        "A narrowing of more than 50 % of the diameter of at least one major coronary vessel, as "
        "seen at angiography (1), or none (0). UCI's levels 1 to 4 are one here. The "
        "probability is of that finding, not of a future event.",
    ),
    "Missing data": (
        "Nothing is ever filled in at prediction time. For every set of present fields there is "
        "a fit of its own, and the one that answers saw no other fields. Therefore adding a "
        "field may move the probability either way. In fitting, the few training rows without "
        "ca or thal take the most frequent value.",
        "Age and sex must be there. Zero is a value and never means missing.",
    ),
    "Specification": (
        "Logistic regression with an L2 penalty (C = 0.3). Numbers are clipped to the training "
        "range and standardised, and so are sex and exang, which are coded 0 and 1. Each code of "
        "cp, slope and thal has a column, and ca has one for each number of vessels reached; these "
        "are not standardised. Coefficients of age, sex, trestbps, chol, exang, "
        "oldpeak and ca may not be negative and that of thalach not positive: the column that "
        "contradicts most is taken out and the rest fitted again until none does.",
        "With all fields there age has no weight of its own: the other fields carry it. In "
        "smaller sets it has.",
    ),
    "Limits": (
        "The patients are from one hospital and forty years old: referral, treatment and "
        "measurement have changed.",
        "ca comes from fluoroscopy and thal from a nuclear scan. Most callers have neither: "
        "look at the line of their own fields in the table of field sets.",
        "Only 25 women in the data are ill; what is said of women rests on them.",
        "About 60 variants of the model were compared by the same cross-validation, so its figures "
        "are somewhat too good.",
        "Cross-validation says what the model is worth for other patients of the same kind in "
        "the same hospital, and no more.",
    ),
    "Licence and citation": (
        "Code: MIT. Data: Creative Commons Attribution 4.0 International (CC BY 4.0). Changes "
        "made: Cleveland only, 14 of 76 attributes, codes from 0, diagnosis reduced to 0 and 1, "
        "missing values left empty.",
        "Janosi, A., Steinbrunn, W., Pfisterer, M., Detrano, R. (1989). Heart Disease [Dataset]. "
        "UCI Machine Learning Repository. https://doi.org/10.24432/C52P4X. Principal "
        "investigators: Andras Janosi, M.D. (Hungarian Institute of Cardiology, Budapest); "
        "William Steinbrunn, M.D. (University Hospital, Zurich); Matthias Pfisterer, M.D. "
        "(University Hospital, Basel); Robert Detrano, M.D., Ph.D. (V.A. Medical Center, Long "
        "Beach, and Cleveland Clinic Foundation).",
        "Method: Fletcher Mercaldo, S., Blume, J. D. (2020). Missing data and prediction: the "
        "pattern submodel. Biostatistics 21(2), 236-252. "
        "https://doi.org/10.1093/biostatistics/kxy040.",
        "Educational demonstration, not a medical device.",
    ),
}


def describe(estimator: PatternLogisticRegression, recipe: Recipe) -> dict[str, list[Block]]:
    """The coefficients of the named field sets, and each field's effect when all are present."""
    return {
        "Specification": _specification(estimator, recipe),
        "Effect of each field": _effects(estimator, recipe),
        "Limits": [
            "Other hospitals of the UCI collection, whose data are not in this repository and not "
            "part of a training run. Not blind: nine variants were compared there. Switzerland "
            "(Zurich and Basel) has 8 healthy patients only. The bands of probability shift.",
            HOSPITALS,
        ],
    }


HOSPITALS = Table(
    ("hospital", "n", "AUC", "Brier score", "calibration slope", "calibration intercept"),
    (
        ("Budapest", "294", ".893", ".129", "1.03", "-0.64"),
        ("Switzerland", "123", ".747", ".147", "0.64", "+2.41"),
        ("Long Beach", "200", ".744", ".166", "0.66", "+0.13"),
        ("all three", "617", ".864", ".145", "0.93", "+0.09"),
    ),
)


def _specification(estimator: PatternLogisticRegression, recipe: Recipe) -> list[Block]:
    numbers = {
        title: _set_number(estimator, present) for title, present in recipe.field_sets.items()
    }
    names = [name for term in estimator.terms for name in _column_names(term)]

    def present(number: int) -> NDArray[np.bool_]:
        return np.repeat(estimator.present(number), estimator.widths)

    rows = [
        (
            name,
            f"{mean:.4f}" if scale != 1 else "",
            f"{scale:.4f}" if scale != 1 else "",
            *(
                _weight(estimator.coefficients_[n, index]) if present(n)[index] else ""
                for n in numbers.values()
            ),
        )
        for index, (name, mean, scale) in enumerate(
            zip(names, estimator.mean_, estimator.scale_, strict=True)
        )
    ]
    intercepts = [f"{estimator.intercepts_[n]:.4f}" for n in numbers.values()]
    return [
        f"The probability is 1 / (1 + exp(-z)), where z is the intercept plus the sum of "
        f"coefficient times column. A number's column is (value - mean) / sd; a code's column "
        f"is 1 or 0. The model has {estimator.set_count} such fits; the table shows the named "
        "sets. An empty cell is a column that the set does not have, 0 one that was taken out.",
        Table(("column", "mean", "sd", *numbers), (("intercept", "", "", *intercepts), *rows)),
    ]


def _set_number(estimator: PatternLogisticRegression, present: Iterable[str]) -> int:
    missing = [term.field not in present for term in estimator.terms]
    return int(estimator.powers[missing].sum())


def _column_names(term: Term) -> list[str]:
    sign = "=" if term.shape == "levels" else "≥"
    return (
        [term.field]
        if term.shape == "line"
        else [f"{term.field} {sign} {level:g}" for level in term.levels]
    )


def _weight(value: float) -> str:
    return f"{value:+.4f}" if value else "0"


def _effects(estimator: PatternLogisticRegression, recipe: Recipe) -> list[Block]:
    fields = [recipe.table.fields[index] for index in recipe.table.used]
    curves = [_effect(estimator, index, field) for index, field in enumerate(fields)]
    values = [y for points in curves for _, y in points]
    limits = (min(values) - 0.2, max(values) + 0.2)
    return [
        "What each value adds in log-odds when all fields are present; 0.7 doubles the odds.",
        *(
            Picture(plots.effect_plot(field.name, points, limits, _codes(field)), field.title, True)
            for field, points in zip(fields, curves, strict=True)
        ),
    ]


def _effect(
    estimator: PatternLogisticRegression, index: int, field: FieldSpec
) -> list[tuple[float, float]]:
    at = sorted(field.codes) if field.kind == "category" else list(field.training)
    rows = np.tile([term.low for term in estimator.terms], (len(at), 1))
    rows[:, index] = at
    contributions = estimator.contributions(rows)[0][:, index]
    return [(float(x), float(y)) for x, y in zip(at, contributions, strict=True)]


def _codes(field: FieldSpec) -> list[str]:
    return [f"{choice.code}" for choice in field.choices]
