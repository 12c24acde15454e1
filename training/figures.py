"""Figures of predictions: discrimination, calibration, thresholds, benefit.

Predictions are [repeats, n], one row for each repeat of the cross-validation; a figure is the mean
over the repeats. Intervals are over patients (2.5th to 97.5th percentile of `RESAMPLES` bootstrap
samples), because repeats of the same patients say nothing about other patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score, roc_curve

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESAMPLES = 2000
GROUPS = 10
"""Groups of equal size for calibration."""
SIMILAR_GROUPS = 5
"""Groups of similar scores that a score is compared with: fewer, so that each says more."""
Z = 1.959964
"""Standard errors to either side of a 95 % interval."""


def mean_figures(
    of_one: Callable[[Any, Floats], dict[str, float]], outcome: Any, predicted: Floats
) -> dict[str, float]:
    """Means over the repeats."""
    each = [of_one(outcome, one) for one in predicted]
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}


def resamples(n: int) -> Floats:
    """How often each row is drawn in each bootstrap sample, [samples, n]."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, n, (RESAMPLES, n))
    return np.stack([np.bincount(one, minlength=n) for one in drawn]).astype(float)


def percentiles(resampled: Floats) -> tuple[float, float]:
    """The 95 % interval of resampled figures."""
    return float(np.nanpercentile(resampled, 2.5)), float(np.nanpercentile(resampled, 97.5))


def figures(outcome: Ints, predicted: Floats, threshold: float) -> dict[str, float]:
    """The main figures of predictions [repeats, n]; from `threshold` on the label is 1."""
    return mean_figures(partial(_figures, threshold=threshold), outcome, predicted)


def _figures(outcome: Ints, probability: Floats, threshold: float) -> dict[str, float]:
    label = probability >= threshold
    slope, intercept = calibration(outcome, probability)
    return {
        "auc": float(roc_auc_score(outcome, probability)),
        "log_loss": float(log_loss(outcome, probability)),
        "brier": float(brier_score_loss(outcome, probability)),
        "accuracy": float((label == outcome).mean()),
        "sensitivity": float(label[outcome == 1].mean()),
        "specificity": float((~label[outcome == 0]).mean()),
        "calibration_slope": slope,
        "calibration_intercept": intercept,
        "ece": calibration_error(outcome, probability),
    }


def calibration(outcome: Ints, probability: Floats) -> tuple[float, float]:
    """Slope and intercept of the outcome's logistic regression on the predicted logit."""
    clipped = np.clip(probability, 1e-9, 1 - 1e-9)
    logit = np.log(clipped / (1 - clipped))[:, None]
    line = LogisticRegression(C=np.inf, solver="newton-cholesky").fit(logit, outcome)
    return float(line.coef_[0, 0]), float(line.intercept_[0])


def calibration_error(outcome: Ints, probability: Floats) -> float:
    """Expected calibration error over groups of equal size."""
    gaps = [
        len(group) * abs(outcome[group].mean() - probability[group].mean())
        for group in equal_groups(probability, GROUPS)
    ]
    return float(sum(gaps) / len(outcome))


def equal_groups(probability: Floats, count: int) -> list[Ints]:
    """Indices in groups of equal size, from the lowest prediction to the highest."""
    order = np.argsort(probability, kind="stable")
    return [group for group in np.array_split(order, count) if len(group)]


def calibration_groups(outcome: Ints, predicted: Floats) -> list[dict[str, float]]:
    """Mean prediction and share of the outcome with its interval, in ten groups of patients.

    Patients are grouped by their mean prediction over the repeats.
    """
    probability = predicted.mean(axis=0)
    found = []
    for group in equal_groups(probability, GROUPS):
        low, high = wilson(int(outcome[group].sum()), len(group))
        found.append(
            {
                "n": len(group),
                "predicted": float(probability[group].mean()),
                "observed": float(outcome[group].mean()),
                "low": low,
                "high": high,
            }
        )
    return found


def similar_scores(outcome: Ints, predicted: Floats) -> list[dict[str, Any]]:
    """How many patients with a similar score had the outcome, in five groups from low to high.

    A group has the scores from `low` up to, but not including, `high`. Patients are grouped by
    their mean prediction over the repeats.
    """
    probability = predicted.mean(axis=0)
    groups = equal_groups(probability, SIMILAR_GROUPS)
    ends = [
        float(probability[group[-1]] + probability[following[0]]) / 2
        for group, following in pairwise(groups)
    ]
    found = []
    for group, (low, high) in zip(groups, pairwise([0.0, *ends, 1.0]), strict=True):
        positive = int(outcome[group].sum())
        found.append(
            {
                "low": low,
                "high": high,
                "n": len(group),
                "positive": positive,
                "observed": positive / len(group),
                "interval": wilson(positive, len(group)),
            }
        )
    return found


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, z2 = successes / n, Z * Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return centre - half, centre + half


def intervals(outcome: Ints, predicted: Floats, threshold: float) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals over patients of those figures that are means over patients or pairs."""
    n = len(outcome)
    weights = resamples(n)
    ill = outcome == 1
    clipped = np.clip(predicted, 1e-15, 1 - 1e-15)
    right = ((predicted >= threshold) == ill).mean(axis=0)
    loss = -np.log(np.where(ill, clipped, 1 - clipped)).mean(axis=0)
    of_ill, of_healthy = weights[:, ill], weights[:, ~ill]
    # A sample without one of the outcomes has no such figure.
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = {
            "auc": ((of_ill @ _wins(predicted, ill)) * of_healthy).sum(axis=1)
            / (of_ill.sum(axis=1) * of_healthy.sum(axis=1)),
            "log_loss": weights @ loss / n,
            "brier": weights @ ((predicted - outcome) ** 2).mean(axis=0) / n,
            "accuracy": weights @ right / n,
            "sensitivity": of_ill @ right[ill] / of_ill.sum(axis=1),
            "specificity": of_healthy @ right[~ill] / of_healthy.sum(axis=1),
        }
    return {name: percentiles(one) for name, one in resampled.items()}


def _wins(predicted: Floats, ill: NDArray[np.bool_]) -> Floats:
    """Share of repeats that rank each ill patient above each healthy one, [ill, healthy].

    A tie counts half.
    """
    wins = np.zeros((int(ill.sum()), int((~ill).sum())))
    for probability in predicted:
        first, second = probability[ill][:, None], probability[~ill]
        wins += (first > second) + 0.5 * (first == second)
    return wins / len(predicted)


def at_threshold(outcome: Ints, predicted: Floats, threshold: float) -> dict[str, float]:
    """Sensitivity, specificity and predictive values of "probability reaches the threshold"."""
    positive, ill = predicted >= threshold, np.broadcast_to(outcome == 1, predicted.shape)
    return {
        "threshold": threshold,
        "sensitivity": _share(positive[ill]),
        "specificity": _share(~positive[~ill]),
        "ppv": _share(ill[positive]),
        "npv": _share(~ill[~positive]),
        "positive": _share(positive),
    }


def bands(outcome: Ints, predicted: Floats, edges: Iterable[float]) -> list[dict[str, float]]:
    """Share of patients and share of the outcome between neighbouring probabilities."""
    ill = np.broadcast_to(outcome == 1, predicted.shape)
    ends = [0.0, *sorted(edges), 1.0]
    found = []
    for low, high in pairwise(ends):
        inside = (predicted >= low) & ((predicted < high) | (high == 1.0))
        found.append(
            {"low": low, "high": high, "share": _share(inside), "observed": _share(ill[inside])}
        )
    return found


def net_benefit(outcome: Ints, predicted: Floats, threshold: float) -> dict[str, float]:
    """Net benefit of acting on the model and of acting on everyone (Vickers and Elkin 2006)."""
    positive, ill = predicted >= threshold, np.broadcast_to(outcome == 1, predicted.shape)
    odds = threshold / (1 - threshold)
    share = float(outcome.mean())
    return {
        "threshold": threshold,
        "model": _share(positive & ill) - odds * _share(positive & ~ill),
        "everyone": share - odds * (1 - share),
    }


def roc(outcome: Ints, predicted: Floats) -> list[tuple[float, float]]:
    """False and true positive rates at each hundredth: the mean curve over the repeats."""
    grid = np.linspace(0, 1, 101)
    curves = [np.interp(grid, *roc_curve(outcome, one)[:2]) for one in predicted]
    mean = np.mean(curves, axis=0)
    mean[0] = 0
    return [(float(x), float(y)) for x, y in zip(grid, mean, strict=True)]


def histogram(outcome: Ints, predicted: Floats) -> dict[str, list[float]]:
    """Patients in twenty bins of probability, by outcome; means over the repeats."""
    edges = np.linspace(0, 1, 21)
    return {
        name: [
            float(count) / len(predicted)
            for count in np.histogram(predicted[:, outcome == value], edges)[0]
        ]
        for name, value in (("0", 0), ("1", 1))
    }


def _share(flags: Any) -> float:
    return float(flags.mean()) if flags.size else math.nan
