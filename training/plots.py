"""Small SVG plots for the model card: the same figures give the same text, and nothing is fetched.

Colours are classes; the page's style says what they look like in light and in dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]


@dataclass
class Plot:
    """Axes to draw on, in the units of the data."""

    label: str
    """The text alternative of the picture."""
    x: tuple[float, float]
    y: tuple[float, float]
    x_ticks: Sequence[float] = ()
    y_ticks: Sequence[float] = ()
    x_title: str = ""
    y_title: str = ""
    x_names: Sequence[str] = ()
    """Texts for the ticks of x, in place of their numbers."""
    y_names: Sequence[str] = ()
    width: int = 440
    height: int = 320
    margins: tuple[int, int, int, int] = (12, 14, 44, 54)
    """Top, right, bottom, left."""
    parts: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._axes()

    def at(self, x: float, y: float) -> Point:
        """The place of a point in pixels."""
        top, right, bottom, left = self.margins
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            left + across * (self.width - left - right),
            top + (1 - up) * (self.height - top - bottom),
        )

    def line(self, points: Iterable[Point], kind: str = "a") -> None:
        """A line through the points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        self.parts.append(f'<polyline class="line {kind}" points="{path}"/>')

    def dot(self, x: float, y: float, kind: str = "a", radius: float = 4) -> None:
        """A filled circle."""
        px, py = self.at(x, y)
        self.parts.append(
            f'<circle class="fill {kind}" cx="{px:.1f}" cy="{py:.1f}" r="{radius:g}"/>'
        )

    def bar(self, start: Point, end: Point, kind: str = "a") -> None:
        """A filled rectangle between two corners."""
        (x1, y1), (x2, y2) = self.at(*start), self.at(*end)
        self.parts.append(
            f'<rect class="fill {kind}" x="{min(x1, x2):.1f}" y="{min(y1, y2):.1f}" '
            f'width="{abs(x2 - x1):.1f}" height="{abs(y2 - y1):.1f}"/>'
        )

    def text(self, x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> None:
        """Words at a point of the data."""
        px, py = self.at(x, y)
        self.words_at(px, py, words, anchor, kind)

    def words_at(self, px: float, py: float, words: str, anchor: str, kind: str = "") -> None:
        """Words at a place in pixels."""
        self.parts.append(
            f'<text class="{kind}" x="{px:.1f}" y="{py:.1f}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )

    def svg(self) -> str:
        """The whole picture."""
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(self.label)}" xmlns="http://www.w3.org/2000/svg">'
            f"{''.join(self.parts)}</svg>"
        )

    def _axes(self) -> None:
        names = list(self.x_names) or [f"{tick:g}" for tick in self.x_ticks]
        for tick, name in zip(self.x_ticks, names, strict=True):
            self.line([(tick, self.y[0]), (tick, self.y[1])], "grid")
            px, py = self.at(tick, self.y[0])
            self.words_at(px, py + 16, name, "middle", "tick")
        names = list(self.y_names) or [f"{tick:g}" for tick in self.y_ticks]
        for tick, name in zip(self.y_ticks, names, strict=True):
            self.line([(self.x[0], tick), (self.x[1], tick)], "grid")
            px, py = self.at(self.x[0], tick)
            self.words_at(px - 6, py + 4, name, "end", "tick")
        middle = self.at(sum(self.x) / 2, self.y[0])[0]
        if self.x_title:
            self.words_at(middle, self.height - 8, self.x_title, "middle")
        if self.y_title:
            py = self.at(self.x[0], sum(self.y) / 2)[1]
            self.parts.append(
                f'<text transform="translate(14 {py:.1f}) rotate(-90)" text-anchor="middle">'
                f"{escape(self.y_title)}</text>"
            )


FIFTHS = tuple(step / 5 for step in range(6))


def roc_plot(curve: Sequence[Point], thresholds: Sequence[dict[str, float]]) -> str:
    """The ROC curve with the thresholds on it."""
    plot = Plot(
        "ROC curve with the thresholds marked",
        (0, 1),
        (0, 1),
        FIFTHS,
        FIFTHS,
        "1 - specificity",
        "sensitivity",
    )
    plot.line([(0, 0), (1, 1)], "thin")
    plot.line(curve)
    for one in thresholds:
        x, y = 1 - one["specificity"], one["sensitivity"]
        plot.dot(x, y, "b", 5)
        plot.text(x + 0.03, y - 0.05, f"p ≥ {one['threshold']:g}")
    return plot.svg()


def calibration_plot(groups: Sequence[dict[str, float]]) -> str:
    """Observed share by mean prediction, in groups of equal size, with intervals."""
    plot = Plot(
        "Observed share by predicted probability in groups of equal size, with intervals",
        (0, 1),
        (0, 1),
        FIFTHS,
        FIFTHS,
        "predicted probability",
        "observed share (95 % interval)",
    )
    plot.line([(0, 0), (1, 1)], "thin")
    for group in groups:
        x = group["predicted"]
        plot.line([(x, group["low"]), (x, group["high"])])
        plot.dot(x, group["observed"], "a", 4.5)
    return plot.svg()


def value_plot(groups: Sequence[dict[str, float]], unit: str) -> str:
    """Mean outcome by mean prediction, in groups of equal size."""
    values = [one[name] for one in groups for name in ("predicted", "observed")]
    low, high = min(values), max(values)
    pad = (high - low) * 0.05 or 1.0
    ends = (low - pad, high + pad)
    ticks = [low + (high - low) * step / 4 for step in range(5)]
    names = [f"{tick:.3g}" for tick in ticks]
    in_unit = f" in {unit}" if unit else ""
    plot = Plot(
        "Mean outcome by mean prediction in groups of equal size",
        ends,
        ends,
        ticks,
        ticks,
        f"prediction{in_unit}",
        f"outcome{in_unit}",
        x_names=names,
        y_names=names,
    )
    plot.line([(ends[0], ends[0]), (ends[1], ends[1])], "thin")
    for group in groups:
        plot.dot(group["predicted"], group["observed"], "a", 4.5)
    return plot.svg()


def histogram_plot(counts: dict[str, list[float]], names: tuple[str, str]) -> str:
    """Patients by predicted probability: those with the outcome upwards, the others downwards."""
    most = max(max(counts["0"]), max(counts["1"]))
    nice = (digit * 10**power for power in range(9) for digit in (1, 2, 5))
    step = next(number for number in nice if most < 5 * number)
    top = step * (int(most / step) + 1)
    ticks = range(-top, top + 1, step)
    plot = Plot(
        "Histogram of predicted probabilities by outcome",
        (0, 1),
        (-top, top),
        FIFTHS,
        list(ticks),
        "predicted probability",
        "rows",
        y_names=[str(abs(tick)) for tick in ticks],
    )
    width = 1 / len(counts["0"])
    for place, (healthy, ill) in enumerate(zip(counts["0"], counts["1"], strict=True)):
        left, right = (place + 0.08) * width, (place + 0.92) * width
        plot.bar((left, 0), (right, ill), "b")
        plot.bar((left, 0), (right, -healthy), "a")
    plot.text(0.02, top * 0.86, names[1], kind="b")
    plot.text(0.98, -top * 0.92, names[0], "end", "a")
    return plot.svg()


def benefit_plot(curve: Sequence[dict[str, float]]) -> str:
    """The decision curve."""
    low, high = -0.1, max(max(one["model"], one["everyone"]) for one in curve) + 0.05
    last, middle = curve[-1]["threshold"], curve[len(curve) // 2]
    plot = Plot(
        "Net benefit by threshold of acting on the model, on everyone and on nobody",
        (0, last),
        (low, high),
        [tick / 10 for tick in range(9) if tick / 10 <= last],
        [tick / 10 for tick in range(-1, int(high * 10) + 1)],
        "threshold",
        "net benefit",
    )
    plot.line([(0, 0), (last, 0)], "thin")
    everyone = _until([(one["threshold"], one["everyone"]) for one in curve], low)
    plot.line(everyone, "b")
    plot.line([(one["threshold"], one["model"]) for one in curve])
    plot.text(middle["threshold"], middle["model"] + 0.02, "model", kind="a")
    x, y = everyone[-1]
    plot.text(x + 0.01, y + 0.02, "everyone", kind="b")
    plot.text(last, 0.012, "nobody", "end")
    return plot.svg()


def _until(points: Sequence[Point], low: float) -> list[Point]:
    """The points up to where their line falls to `low`."""
    kept: list[Point] = []
    for x, y in points:
        if y < low:
            (x0, y0) = kept[-1]
            kept.append((x0 + (x - x0) * (y0 - low) / (y0 - y), low))
            break
        kept.append((x, y))
    return kept


def importance_plot(rises: dict[str, float], loss: str) -> str:
    """A bar a field, the longest on top."""
    ranked = sorted(rises.items(), key=lambda item: item[1])
    most = max(max(rises.values()), 1e-6)
    steps = (digit * 10.0**power for power in range(-3, 12) for digit in (1, 2, 5))
    step = next(one for one in steps if most / one <= 6)
    plot = Plot(
        f"Rise of the {loss} when a field's values are shuffled",
        (min(0, min(rises.values())), most * 1.05),
        (-0.6, len(ranked) - 0.4),
        [step * tick for tick in range(int(most / step) + 1)],
        list(range(len(ranked))),
        f"rise of the {loss}",
        y_names=[name for name, _ in ranked],
        height=max(120, 56 + 22 * len(ranked)),
        margins=(8, 14, 44, max(54, 8 * max(len(name) for name in rises) + 14)),
    )
    for place, (_, rise) in enumerate(ranked):
        plot.bar((0, place - 0.35), (rise, place + 0.35))
    return plot.svg()


def effect_plot(
    title: str, points: Sequence[Point], reach: tuple[float, float], names: Sequence[str]
) -> str:
    """Log-odds by a field's value: a line for a number, bars for the codes of a category."""
    low, high = points[0][0], points[-1][0]
    pad = 0.6 if names else 0.0
    plot = Plot(
        f"Effect of {title} in log-odds",
        (low - pad, high + pad),
        reach,
        [x for x, _ in points] if names else [low, (low + high) / 2, high],
        [tick for tick in range(-9, 10) if reach[0] <= tick <= reach[1]],
        x_names=names,
        width=220,
        height=150,
        margins=(22, 12, 22, 26),
    )
    if names:
        for x, y in points:
            plot.bar((x - 0.3, 0), (x + 0.3, y))
    else:
        plot.line(points)
    plot.words_at(110, 14, title, "middle", "name")
    return plot.svg()
