"""The content of the model card: sections of text, tables and pictures.

Every number comes from the manifest's figures or the estimator. The recipe's prose says what no run
can compute. `report.py` renders the sections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.records.artifact import Manifest
from shared.records.schema import FieldSpec
from training import plots
from training.blocks import Block, Picture, Section, Table
from training.evaluation import SHUFFLES
from training.export import is_estimator
from training.recipe import Recipe


def sections(
    recipe: Recipe, manifest: Manifest, curves: dict[str, Any], estimator: Any
) -> list[Section]:
    """The card in reading order, without empty sections.

    A section starts with the recipe's prose. The figures of the run follow, and after them what
    the recipe says of the fitted estimator.
    """
    figures = manifest.figures
    described = (recipe.describe or _any_estimator)(estimator, recipe)
    evaluated = method_of(figures) is not None
    parts: list[tuple[str, list[Block]]] = [
        ("Intended use", []),
        ("Setting and dates", []),
        ("Eligibility", []),
        ("Outcome", []),
        ("Predictors", [_predictors(manifest)]),
        ("Missing data", []),
        ("Sample size", [_sample(figures)] if evaluated else []),
        ("Specification", []),
        ("Performance", _performance(figures, curves) if evaluated else [NOT_EVALUATED]),
        ("Field sets", _field_sets(figures) if evaluated else []),
        ("Thresholds", _thresholds(figures, manifest.threshold) if evaluated else []),
        ("Subgroups", _subgroups(figures) if evaluated else []),
        ("Importance", _importance(figures) if evaluated else []),
        ("Effect of each field", []),
        ("Limits", []),
        ("Licence and citation", []),
        ("Origin", [_origin(manifest)]),
    ]
    filled = [
        Section(title, (*recipe.prose.get(title, ()), *blocks, *described.get(title, ())))
        for title, blocks in parts
    ]
    return [section for section in filled if section.blocks]


NOT_EVALUATED = (
    "Imported, not evaluated here: this card knows nothing of how well the model predicts."
)
HOW = {
    "cross_validated": "cross-validated",
    "held_out": "on held-out rows",
    "in_sample": "in-sample",
}
"""How the main figures were found, by their name in the manifest."""
EVALUATED_ON = {
    "cross_validated": "training data",
    "held_out": "held-out data",
    "in_sample": "training data",
}


def method_of(figures: dict[str, Any]) -> str | None:
    """The name of the main figures; None: the model was imported and not evaluated."""
    return next((name for name in HOW if name in figures), None)


def _any_estimator(estimator: Any, _: Recipe) -> dict[str, list[Block]]:
    """All that can be said of an estimator of any kind."""
    if not is_estimator(estimator):
        return {"Specification": ["An ONNX file of another tool."]}
    text = f"scikit-learn `{type(estimator).__name__}`, in full in `model.skops` or `model.joblib`."
    return {"Specification": [text]}


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


def _thinning(found: dict[str, Any]) -> list[Block]:
    if found["evaluated"] == found["rows"]:
        return []
    sample = f"a random sample of {found['evaluated']} of the {found['rows']} rows"
    fitted = "" if "imported" in found else "; the model is fitted to all of them"
    return [f"The figures are those of {sample}{fitted}."]


def _sample(found: dict[str, Any]) -> str:
    share = found["positive"] / found["rows"]
    return (
        f"{found['rows']} rows, {found['positive']} with the outcome ({share:.1%}); "
        f"{found['complete']} have all fields that the model uses."
    )


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
    method = method_of(found) or ""
    apparent = found.get("apparent")
    rows = tuple(
        (
            title,
            f"{found[method][name]:.3f}",
            _interval(found["intervals"].get(name)),
            *([f"{apparent[name]:.3f}"] if apparent else []),
        )
        for name, title in NAMES.items()
    )
    head = ("figure", HOW[method], "95 % interval", *(["apparent"] if apparent else []))
    return [
        *_thinning(found),
        _method(found, method),
        Table(head, rows),
        Picture(plots.roc_plot(curves["roc"], found["thresholds"]), "ROC with the thresholds"),
        Picture(plots.calibration_plot(curves["calibration"]), "Calibration in ten groups"),
        Picture(
            plots.histogram_plot(curves["histogram"], ("without the outcome", "with the outcome")),
            "Predicted probabilities by outcome",
        ),
        Picture(plots.benefit_plot(found["net_benefit"]), "Decision curve"),
    ]


def _method(found: dict[str, Any], method: str) -> str:
    intervals = "Intervals are over patients (95 %, bootstrap)."
    if method == "held_out":
        return (
            "Imported, and evaluated without a fit on rows that the model was not fitted to, as "
            f"whoever imported it states. {intervals}"
        )
    if method == "in_sample":
        return (
            "Imported, and evaluated without a fit on rows that the model was fitted to: figures "
            f"for other rows are worse. {intervals}"
        )
    return (
        f"Cross-validated: ten stratified folds, repeated {_times(found['repeats'])}; means over "
        f"the repeats. {intervals} The apparent figures, on the training rows themselves, are "
        "shown for the optimism only."
    )


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
    spread: dict[str, float] = found["importance_spread"]
    ranked = sorted(rises.items(), key=lambda item: -item[1])
    return [
        "How much the Brier score rises for unseen patients when one field's values are shuffled "
        f"among them: mean and standard deviation of {SHUFFLES} shuffles.",
        Table(
            ("field", "rise of the Brier score", "sd"),
            tuple((name, f"{rise:.4f}", f"{spread[name]:.4f}") for name, rise in ranked),
        ),
        Picture(plots.importance_plot(rises), "Importance"),
    ]


def _origin(manifest: Manifest) -> Table:
    rows = [
        ("model", f"{manifest.name} {manifest.version}"),
        ("runtime", manifest.runtime),
        *((f"SHA-256 of {name}", digest) for name, digest in sorted(manifest.files.items())),
        *_source(manifest),
        *((name, number) for name, number in sorted(manifest.libraries.items())),
    ]
    for line in comparisons(manifest.figures):
        what, _, which = line.partition(": ")
        rows.append((what, which))
    return Table(("what", "which"), tuple(rows))


def _source(manifest: Manifest) -> list[tuple[str, str]]:
    found = manifest.figures
    lines = [("imported from", found["imported"])] if "imported" in found else []
    if manifest.data_sha256:
        lines.append(("SHA-256 of the data", manifest.data_sha256))
    if "cross_validated" in found:
        lines.append(("repeats of the cross-validation", str(found["repeats"])))
    return lines


def comparisons(figures: dict[str, Any]) -> list[str]:
    """The comparisons of the served model with what it came from, a line each."""
    parity, rounding = figures["parity"], figures["rounding"]
    predictions = figures["predictions"]
    reference = "the imported model" if "imported" in figures else "scikit-learn"
    return [
        f"largest difference to {reference}: "
        f"{parity['largest_difference']:.1e} over {parity['rows']} rows",
        f"largest difference to {reference} on the data as they are: "
        f"{rounding['largest_difference']:.1e}, {rounding['differing']} of {rounding['rows']} rows "
        "differ by more than rounding",
        "predictions other than the estimator's predict: "
        f"{predictions['differing']} of {predictions['rows']} rows",
    ]


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
    method = method_of(found)
    if method is None:
        return [NOT_EVALUATED]
    repeated = f"Cross-validation repeated {_times(found['repeats'])}"
    lines = [f"{_sample(found)} {repeated if method == 'cross_validated' else HOW[method]}:"]
    for name, value in found[method].items():
        interval = _interval(found["intervals"].get(name))
        lines.append(f"  {NAMES[name]:32}{value:7.3f}  {interval}".rstrip())
    return lines


def run_tables(manifest: Manifest) -> list[Table]:
    """For a terminal: field sets, thresholds, bands and subgroups."""
    found = manifest.figures
    if method_of(found) is None:
        return []
    blocks = [
        *_field_sets(found),
        *_thresholds(found, manifest.threshold),
        *_subgroups(found),
    ]
    return [block for block in blocks if isinstance(block, Table)]
