"""The content of the model card: sections of text, tables and pictures.

Every number comes from the manifest's figures or the estimator. The recipe's prose says what no run
can compute. `report.py` renders the sections.
"""

from __future__ import annotations

from typing import Any

from shared.records.artifact import Manifest
from shared.records.schema import FieldSpec
from training import plots
from training.assessments import Assessment, assessment_of
from training.blocks import Block, Picture, Section, Table, figure, interval
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
    assess = assessment_of(manifest.answer_kind)
    parts: list[tuple[str, list[Block]]] = [
        ("Intended use", []),
        ("Setting and dates", []),
        ("Eligibility", []),
        ("Outcome", []),
        ("Predictors", [_predictors(manifest)]),
        ("Missing data", []),
        ("Sample size", [assess.sample(figures)] if evaluated else []),
        ("Specification", []),
        ("Performance", _performance(assess, figures, curves) if evaluated else [NOT_EVALUATED]),
        ("Field sets", _field_sets(assess, figures) if evaluated else []),
        ("Thresholds", assess.thresholds(figures) if evaluated else []),
        ("Subgroups", _subgroups(assess, figures) if evaluated else []),
        ("Importance", _importance(assess, figures) if evaluated else []),
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


NOT_EVALUATED = "Imported, not evaluated here: this card does not say how well the model predicts."
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


def _performance(assess: Assessment, found: dict[str, Any], curves: dict[str, Any]) -> list[Block]:
    method = method_of(found) or ""
    apparent = found.get("apparent")
    rows = tuple(
        (
            title,
            figure(found[method][name], assess.form),
            interval(found["intervals"].get(name), assess.form),
            *([figure(apparent[name], assess.form)] if apparent else []),
        )
        for name, title in assess.names.items()
    )
    head = ("figure", HOW[method], "95 % interval", *(["apparent"] if apparent else []))
    return [
        *_thinning(found),
        _method(assess, found, method),
        Table(head, rows),
        *assess.details(found, curves),
    ]


def _method(assess: Assessment, found: dict[str, Any], method: str) -> str:
    intervals = "Intervals are over rows (95 %, bootstrap)."
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
        f"Cross-validated: ten {assess.folds_are}, repeated {_times(found['repeats'])}; means over "
        f"the repeats. {intervals} The apparent figures, on the training rows themselves, are "
        "shown for the optimism only."
    )


def _field_sets(assess: Assessment, found: dict[str, Any]) -> list[Block]:
    table = Table(
        ("fields present", *(one.title for one in assess.of_sets)),
        tuple(
            (title, *(figure(main[one.name], one.form) for one in assess.of_sets))
            for title, main in found["field_sets"].items()
        ),
    )
    return [*assess.of_every_set(found), table]


def _subgroups(assess: Assessment, found: dict[str, Any]) -> list[Block]:
    return [assess.subgroups(found)] if found["subgroups"] else []


def _importance(assess: Assessment, found: dict[str, Any]) -> list[Block]:
    rises: dict[str, float] = found["importance"]
    spread: dict[str, float] = found["importance_spread"]
    ranked = sorted(rises.items(), key=lambda item: -item[1])
    return [
        f"How much the {assess.loss} rises for unseen rows when one field's values are shuffled "
        f"among them: mean and standard deviation of {SHUFFLES} shuffles.",
        Table(
            ("field", f"rise of the {assess.loss}", "sd"),
            tuple((name, f"{rise:.4f}", f"{spread[name]:.4f}") for name, rise in ranked),
        ),
        Picture(plots.importance_plot(rises, assess.loss), "Importance"),
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
    """Comparisons of the served model with its origin, one per line."""
    parity, rounding = figures["parity"], figures["rounding"]
    predictions = figures["predictions"]
    reference = "the imported model" if "imported" in figures else "scikit-learn"
    return [
        f"largest difference from {reference}: "
        f"{parity['largest_difference']:.1e} over {parity['rows']} rows",
        f"largest difference from {reference} on the data as they are: "
        f"{rounding['largest_difference']:.1e}, {rounding['differing']} of {rounding['rows']} rows "
        "differ by more than rounding",
        "predictions that differ from the estimator's predict: "
        f"{predictions['differing']} of {predictions['rows']} rows",
    ]


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:g} to {ends[1]:g}"


def _times(repeats: int) -> str:
    return "once" if repeats == 1 else f"{repeats} times"


def named_figures(manifest: Manifest) -> list[str]:
    """For a terminal: the sample and the main figures with their intervals, a line each."""
    found = manifest.figures
    method = method_of(found)
    if method is None:
        return [NOT_EVALUATED]
    assess = assessment_of(manifest.answer_kind)
    repeated = f"Cross-validation repeated {_times(found['repeats'])}"
    how = repeated if method == "cross_validated" else HOW[method]
    return [f"{assess.sample(found)} {how}:"] + [
        f"  {title:32}{figure(found[method][name], assess.form):>7}  "
        f"{interval(found['intervals'].get(name), assess.form)}".rstrip()
        for name, title in assess.names.items()
    ]


def run_tables(manifest: Manifest) -> list[Table]:
    """For a terminal: field sets, thresholds, bands and subgroups."""
    found = manifest.figures
    if method_of(found) is None:
        return []
    assess = assessment_of(manifest.answer_kind)
    blocks = [
        *_field_sets(assess, found),
        *assess.thresholds(found),
        *_subgroups(assess, found),
    ]
    return [block for block in blocks if isinstance(block, Table)]
