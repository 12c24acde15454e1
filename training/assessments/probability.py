"""The probability of one outcome: discrimination, calibration, thresholds, benefit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from shared.records.artifact import Manifest
from shared.records.kinds import Probability
from training import plots
from training.assessments.base import FEWEST, Array, Assessment, Floats, Shown, in_words
from training.blocks import Block, Picture, Table, figure, interval
from training.figures import (
    at_threshold,
    bands,
    calibration_groups,
    figures,
    histogram,
    intervals,
    net_benefit,
    roc,
    similar_scores,
)
from training.framed import unframed
from training.recipe import Dataset, Recipe

BENEFITS = tuple(round(0.05 * step, 2) for step in range(1, 17))
"""Thresholds of the decision curve."""


class ProbabilityAssessment(Assessment):
    """An outcome of 0 or 1 and the probability of 1."""

    names: ClassVar = {
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
    loss = "Brier score"
    of_sets = (
        Shown("auc", "AUC"),
        Shown("brier", "Brier score"),
        Shown("log_loss", "log loss"),
        Shown("calibration_slope", "calibration slope", ".2f"),
    )

    def __init__(self, kind: Probability) -> None:
        self.threshold = kind.threshold

    def fault(self, outcome: Array) -> str | None:
        if outcome.dtype.kind not in "fiub":
            return (
                "the outcome is text: write 1 for the outcome that the probability is of and 0 for "
                "the other, as in (labels == 'yes').astype(int)"
            )
        values = np.unique(outcome)
        if len(values) == 1:
            return "every row has the same outcome"
        if not np.array_equal(values, [0, 1]):
            shown = " and ".join(f"{value:g}" for value in values[:3])
            more = " and others" if len(values) > 3 else ""
            return (
                f"the outcome must be 0 or 1 in every row, not {shown}{more}: write "
                "(outcome == 1).astype(int), or set the recipe's kind"
            )
        counts = np.bincount(outcome.astype(int))
        if counts.min() < FEWEST:
            return (
                f"ten folds need {FEWEST} rows of each outcome; there are {counts[0]} of 0 and "
                f"{counts[1]} of 1"
            )
        return None

    def losses(self, outcome: Array, outputs: Floats) -> Floats:
        losses: Floats = (outputs - outcome) ** 2
        return losses

    def figures(self, outcome: Array, predicted: Floats) -> dict[str, float]:
        return figures(outcome, predicted, self.threshold)

    def intervals(self, outcome: Array, predicted: Floats) -> dict[str, tuple[float, float]]:
        return intervals(outcome, predicted, self.threshold)

    def more(
        self, recipe: Recipe, whole: Dataset, data: Dataset, predicted: Mapping[str, Floats]
    ) -> dict[str, Any]:
        outcome, unseen = data.outcome, next(iter(predicted.values()))
        thresholds = sorted({self.threshold, *recipe.bands})
        return {
            "positive": int(whole.outcome.sum()),
            "thresholds": [at_threshold(outcome, unseen, one) for one in thresholds],
            "bands": {
                title: bands(outcome, of_set, recipe.bands)
                for title, of_set in predicted.items()
                if recipe.bands
            },
            "similar": _similar(recipe, data, predicted),
            "net_benefit": [net_benefit(outcome, unseen, one) for one in BENEFITS],
        }

    def curves(self, outcome: Array, predicted: Floats) -> dict[str, Any]:
        return {
            "roc": roc(outcome, predicted),
            "calibration": calibration_groups(outcome, predicted),
            "histogram": histogram(outcome, predicted),
        }

    def sample(self, found: dict[str, Any]) -> str:
        share = found["positive"] / found["rows"]
        return (
            f"{found['rows']} rows, {found['positive']} with the outcome ({share:.1%}); "
            f"{found['complete']} have all fields that the model uses."
        )

    def outcomes(self, manifest: Manifest) -> str:
        positive, rows = (manifest.figures[name] for name in ("positive", "rows"))
        return f"{positive:,} of them ({percent(positive / rows)}) had {manifest.outcome}"

    def details(self, found: dict[str, Any], curves: dict[str, Any]) -> list[Block]:
        outcomes = ("without the outcome", "with the outcome")
        return [
            Picture(plots.roc_plot(curves["roc"], found["thresholds"]), "ROC with the thresholds"),
            Picture(plots.calibration_plot(curves["calibration"]), "Calibration in ten groups"),
            Picture(
                plots.histogram_plot(curves["histogram"], outcomes),
                "Predicted probabilities by outcome",
            ),
            Picture(plots.benefit_plot(found["net_benefit"]), "Decision curve"),
        ]

    def of_every_set(self, found: dict[str, Any]) -> list[Block]:
        share = found["positive"] / found["rows"]
        text = f"Always saying {share:.0%} has a Brier score of {share * (1 - share):.3f}."
        every = found.get("all_field_sets")
        if every:
            (low, middle, high), (best, _, worst) = every["auc"], every["brier"]
            text += (
                f" Over all {every['count']} field sets AUC is {low:.3f} to {high:.3f} (median "
                f"{middle:.3f}) and the Brier score {best:.3f} to {worst:.3f} (first repeat)."
            )
        return [text]

    def thresholds(self, found: dict[str, Any]) -> list[Block]:
        columns = ("sensitivity", "specificity", "ppv", "npv", "positive")
        blocks: list[Block] = [
            f"The label `prediction` is 1 from a probability of {self.threshold:g}.",
            Table(
                (
                    *("probability from", "sensitivity", "specificity", "PPV", "NPV"),
                    "rows reaching it",
                ),
                tuple(
                    (f"{one['threshold']:g}", *(figure(one[name]) for name in columns))
                    for one in found["thresholds"]
                ),
            ),
        ]
        if found["bands"]:
            first = next(iter(found["bands"].values()))
            head = tuple(f"{one['low']:g} to {one['high']:g}" for one in first)
            rows = tuple(
                (title, *(f"{figure(one['observed'])} ({figure(one['share'])})" for one in each))
                for title, each in found["bands"].items()
            )
            blocks += [
                "Share with the outcome between two probabilities, in brackets the share of rows:",
                Table(("fields present", *head), rows),
            ]
        return blocks

    def subgroup(self, outcome: Array, predicted: Floats) -> dict[str, Any]:
        found = {"n": len(outcome), "observed": float(outcome.mean())}
        found |= {"predicted": float(predicted.mean())}
        main = self.figures(outcome, predicted)
        found |= {name: main[name] for name in ("auc", "brier", "sensitivity", "specificity")}
        return found | {"auc_interval": self.intervals(outcome, predicted)["auc"]}

    def subgroups(self, found: dict[str, Any]) -> Table:
        head = (
            *("group", "n", "observed", "predicted", "AUC", "95 % interval"),
            *("Brier score", "sensitivity", "specificity"),
        )
        rows = tuple(
            (
                title,
                str(one["n"]),
                *(figure(one[name]) for name in ("observed", "predicted", "auc")),
                interval(one["auc_interval"]),
                *(figure(one[name]) for name in ("brier", "sensitivity", "specificity")),
            )
            for title, one in found["subgroups"].items()
        )
        return Table(head, rows)

    def key_figures(self, manifest: Manifest, method: str, how: str) -> list[tuple[str, str, str]]:
        main, found = manifest.figures[method], manifest.figures
        low, high = found["intervals"]["accuracy"]
        auc = in_words(found, "auc", ".2f")
        return [
            ("AUC", f"{main['auc']:.2f}", f"{how}; {auc} (0.5 is chance, 1 is perfect)"),
            (
                f"Right at the threshold of {percent(self.threshold)}",
                percent(main["accuracy"]),
                f"{how}; 95 % interval {percent(low)} to {percent(high)}",
            ),
        ]

    def predicted(self, estimator: Any, rows: Floats) -> Array:
        labels = np.ravel(estimator.predict(rows))
        return np.asarray(labels == unframed(estimator).classes_[1]).astype(np.int8)


def percent(share: float) -> str:
    """A share in whole per cent."""
    return f"{share * 100:.0f} %"


def _similar(
    recipe: Recipe, data: Dataset, predicted: Mapping[str, Floats]
) -> list[dict[str, Any]]:
    """For each set of fields: the outcomes of the rows that have them all, by their score."""
    names = recipe.table.used_names
    found = []
    for title, present in recipe.evaluated_sets.items():
        complete = ~np.isnan(data.rows[:, [names.index(name) for name in present]]).any(axis=1)
        if complete.any():
            groups = similar_scores(data.outcome[complete], predicted[title][:, complete])
            found.append({"title": title, "fields": list(present), "groups": groups})
    return found
