"""What the model card says: a list of sections of text, tables and pictures.

Everything with a number comes from the manifest's figures and the estimator; what no run can
compute comes from the recipe's prose. `report.py` writes the sections down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.records.artifact import Manifest
from shared.records.schema import FieldSpec
from training import plots
from training.pipeline import PatternLogisticRegression, Term
from training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first column names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG with its caption, for the page; Markdown leaves it out."""

    svg: str
    caption: str
    small: bool = False


Block = str | Table | Picture


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the card."""

    title: str
    blocks: tuple[Block, ...]


def sections(
    recipe: Recipe, manifest: Manifest, curves: dict[str, Any], estimator: Any
) -> list[Section]:
    """The card in reading order; sections without content are left out."""
    found = manifest.figures
    parts: list[tuple[str, list[Block]]] = [
        ("Intended use", []),
        ("Setting and dates", []),
        ("Eligibility", []),
        ("Outcome", []),
        ("Predictors", [_predictors(manifest)]),
        ("Missing data", []),
        ("Sample size", [_sample(found)]),
        ("Specification", _specification(estimator, recipe)),
        ("Performance", _performance(found, curves)),
        ("Field sets", _field_sets(found)),
        ("Thresholds", _thresholds(found, manifest.threshold)),
        ("Subgroups", _subgroups(found)),
        ("Importance", _importance(found)),
        ("Effect of each field", _effects(estimator, manifest)),
        ("Limits", []),
        ("Licence and citation", []),
        ("Origin", [_origin(manifest)]),
    ]
    whole = [Section(title, (*recipe.prose.get(title, ()), *blocks)) for title, blocks in parts]
    return [section for section in whole if section.blocks]


def _predictors(manifest: Manifest) -> Table:
    return Table(
        ("field", "meaning", "unit or codes", "accepted", "seen in training", "use"),
        tuple(_predictor(field) for field in manifest.fields.fields),
    )


def _predictor(field: FieldSpec) -> tuple[str, ...]:
    number = field.kind == "number"
    codes = ", ".join(f"{c.code} {c.title or c.word or ''}".strip() for c in field.choices)
    use = "required" if field.required else "optional" if field.used else "checked, not used"
    return (
        field.name,
        field.title,
        field.unit if number else codes,
        _range(field.accept) if number else "",
        _range(field.training),
        use,
    )


def _sample(found: dict[str, Any]) -> str:
    share = found["positive"] / found["rows"]
    return (
        f"{found['rows']} rows, {found['positive']} with the outcome ({share:.1%}); "
        f"{found['complete']} have all fields that the model uses."
    )


def _specification(estimator: Any, recipe: Recipe) -> list[Block]:
    if not isinstance(estimator, PatternLogisticRegression):
        return [f"scikit-learn `{type(estimator).__name__}`, in full in `model.joblib`."]
    numbers = {
        title: _set_number(estimator, present) for title, present in recipe.field_sets.items()
    }
    names = [name for term in estimator.terms for name in _column_names(term)]

    def there(number: int) -> NDArray[np.bool_]:
        return np.repeat(estimator.present(number), estimator.widths)

    rows = [
        (
            name,
            f"{mean:.4f}" if scale != 1 else "",
            f"{scale:.4f}" if scale != 1 else "",
            *(
                _weight(estimator.coefficients_[n, place]) if there(n)[place] else ""
                for n in numbers.values()
            ),
        )
        for place, (name, mean, scale) in enumerate(
            zip(names, estimator.mean_, estimator.scale_, strict=True)
        )
    ]
    intercepts = [f"{estimator.intercepts_[n]:.4f}" for n in numbers.values()]
    return [
        f"The probability is 1 / (1 + exp(-z)), where z is the intercept and the sum of "
        f"coefficient times column. A number's column is (value - mean) / sd; a code's column "
        f"is 1 or 0. {estimator.set_count} such fits stand in the model; here are the named sets. "
        "An empty cell is a column that the set does not have, 0 one that was taken out.",
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


NAMES = {
    "auc": "AUC",
    "log_loss": "log loss",
    "brier": "Brier score",
    "accuracy": "accuracy at the threshold",
    "sensitivity": "sensitivity at the threshold",
    "specificity": "specificity at the threshold",
    "calibration_slope": "calibration slope",
    "calibration_intercept": "calibration intercept",
    "ece": "calibration error (ten groups)",
}


def _performance(found: dict[str, Any], curves: dict[str, Any]) -> list[Block]:
    rows = tuple(
        (
            title,
            f"{found['cross_validated'][name]:.3f}",
            _interval(found["intervals"].get(name)),
            f"{found['apparent'][name]:.3f}",
        )
        for name, title in NAMES.items()
    )
    return [
        f"Cross-validated: ten stratified folds, repeated {_times(found['repeats'])}; means over "
        "the repeats. Intervals are over patients (95 %, bootstrap). The apparent figures, on "
        "the training rows themselves, are shown for the optimism only.",
        Table(("figure", "cross-validated", "95 % interval", "apparent"), rows),
        Picture(plots.roc_plot(curves["roc"], found["thresholds"]), "ROC with the thresholds"),
        Picture(plots.calibration_plot(curves["calibration"]), "Calibration in ten groups"),
        Picture(
            plots.histogram_plot(curves["histogram"], ("without the outcome", "with the outcome")),
            "Predicted probabilities by outcome",
        ),
        Picture(plots.benefit_plot(found["net_benefit"]), "Decision curve"),
    ]


def _field_sets(found: dict[str, Any]) -> list[Block]:
    sets: dict[str, dict[str, float]] = found["field_sets"]
    table = Table(
        ("fields present", "AUC", "Brier score", "log loss", "calibration slope"),
        tuple(
            (
                title,
                *(f"{one[name]:.3f}" for name in ("auc", "brier", "log_loss")),
                f"{one['calibration_slope']:.2f}",
            )
            for title, one in sets.items()
        ),
    )
    share = found["positive"] / found["rows"]
    text = f"Always saying {share:.0%} has a Brier score of {share * (1 - share):.3f}."
    every = found.get("all_field_sets")
    if every:
        (low, middle, high), (best, _, worst) = every["auc"], every["brier"]
        text += (
            f" Over all {every['count']} field sets AUC is {low:.3f} to {high:.3f} (median "
            f"{middle:.3f}) and the Brier score {best:.3f} to {worst:.3f} (first repeat)."
        )
    return [text, table]


def _thresholds(found: dict[str, Any], label: float) -> list[Block]:
    columns = ("sensitivity", "specificity", "ppv", "npv", "positive")
    blocks: list[Block] = [
        f"The label `prediction` is 1 from a probability of {label:g}.",
        Table(
            ("probability from", "sensitivity", "specificity", "PPV", "NPV", "rows reaching it"),
            tuple(
                (f"{one['threshold']:g}", *(_figure(one[name]) for name in columns))
                for one in found["thresholds"]
            ),
        ),
    ]
    if found["bands"]:
        first = next(iter(found["bands"].values()))
        head = tuple(f"{one['low']:g} to {one['high']:g}" for one in first)
        rows = tuple(
            (title, *(f"{_figure(one['observed'])} ({_figure(one['share'])})" for one in each))
            for title, each in found["bands"].items()
        )
        blocks += [
            "Share with the outcome between two probabilities, in brackets the share of rows:",
            Table(("fields present", *head), rows),
        ]
    return blocks


def _subgroups(found: dict[str, Any]) -> list[Block]:
    if not found["subgroups"]:
        return []
    head = (
        *("group", "n", "observed", "predicted", "AUC", "95 % interval"),
        *("Brier score", "sensitivity", "specificity"),
    )
    rows = tuple(
        (
            title,
            str(one["n"]),
            *(_figure(one[name]) for name in ("observed", "predicted", "auc")),
            _interval(one["auc_interval"]),
            *(_figure(one[name]) for name in ("brier", "sensitivity", "specificity")),
        )
        for title, one in found["subgroups"].items()
    )
    return [Table(head, rows)]


def _importance(found: dict[str, Any]) -> list[Block]:
    rises: dict[str, float] = found["importance"]
    ranked = sorted(rises.items(), key=lambda item: -item[1])
    return [
        "How much the Brier score rises for unseen patients when one field's values are shuffled "
        "among them.",
        Table(
            ("field", "rise of the Brier score"),
            tuple((name, f"{rise:.4f}") for name, rise in ranked),
        ),
        Picture(plots.importance_plot(rises), "Importance"),
    ]


def _effects(estimator: Any, manifest: Manifest) -> list[Block]:
    if not isinstance(estimator, PatternLogisticRegression):
        return []
    fields = [manifest.fields.fields[place] for place in manifest.fields.used]
    curves = [_effect(estimator, place, field) for place, field in enumerate(fields)]
    values = [y for points in curves for _, y in points]
    reach = (min(values) - 0.2, max(values) + 0.2)
    return [
        "What each value adds in log-odds when all fields are there; 0.7 doubles the odds.",
        *(
            Picture(plots.effect_plot(field.name, points, reach, _codes(field)), field.title, True)
            for field, points in zip(fields, curves, strict=True)
        ),
    ]


def _effect(
    estimator: PatternLogisticRegression, place: int, field: FieldSpec
) -> list[tuple[float, float]]:
    at = sorted(field.codes) if field.kind == "category" else list(field.training)
    rows = np.tile([term.low for term in estimator.terms], (len(at), 1))
    rows[:, place] = at
    contributions = estimator.contributions(rows)[0][:, place]
    return [(float(x), float(y)) for x, y in zip(at, contributions, strict=True)]


def _codes(field: FieldSpec) -> list[str]:
    return [f"{choice.code}" for choice in field.choices]


def _origin(manifest: Manifest) -> Table:
    rows = [
        ("model", f"{manifest.name} {manifest.version}"),
        ("runtime", manifest.runtime),
        *((f"SHA-256 of {name}", digest) for name, digest in sorted(manifest.files.items())),
        ("SHA-256 of the data", manifest.data_sha256),
        *((name, number) for name, number in sorted(manifest.libraries.items())),
    ]
    parity = manifest.figures.get("parity")
    if parity:
        text = f"{parity['largest_difference']:.1e} over {parity['rows']} rows"
        rows.append(("largest difference to scikit-learn", text))
    return Table(("what", "which"), tuple(rows))


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:g} to {ends[1]:g}"


def _interval(ends: Sequence[float | None] | None) -> str:
    if not ends or ends[0] is None:
        return ""
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _times(repeats: int) -> str:
    return "once" if repeats == 1 else f"{repeats} times"


def named_figures(found: dict[str, Any]) -> list[str]:
    """For a terminal: the sample and the main figures with their intervals, a line each."""
    lines = [f"{_sample(found)} Cross-validation repeated {_times(found['repeats'])}:"]
    for name, value in found["cross_validated"].items():
        interval = _interval(found["intervals"].get(name))
        lines.append(f"  {NAMES[name]:32}{value:7.3f}  {interval}".rstrip())
    return lines


def run_tables(manifest: Manifest) -> list[Table]:
    """For a terminal: field sets, thresholds, bands and subgroups."""
    found = manifest.figures
    blocks = [
        *_field_sets(found),
        *_thresholds(found, manifest.threshold),
        *_subgroups(found),
    ]
    return [block for block in blocks if isinstance(block, Table)]
