"""Draws how backlog and replicas move over time for given loads, so that an operator can choose.

It copies the arithmetic of KEDA and of the Kubernetes autoscaler, second by second, and takes
the speed of one replica as measured elsewhere. Standard library only, and nothing random: the
same arguments give the same bytes.

    python tests/benchmarks/simulate_scaling.py                          docs/scaling.svg again
    python tests/benchmarks/simulate_scaling.py --files 500 --rows 20000 --max-replicas 20
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HPA_SECONDS = 15
"""The autoscaler looks this often once there is a replica."""
HPA_TOLERANCE = 0.1
"""It leaves the replicas alone while the ratio of length to target is this near to 1."""
SCALE_IN_SECONDS = 300
"""It removes replicas only down to the most it wanted in this long."""


SHARED_ROWS = 1_200_000
"""Rows of a file (of 64 MiB) that all replicas share."""
PART_ROWS = 128_000
PARTS_IN_QUEUE = 64
"""Most parts of a shared file that wait or are in work."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The operator's choices, and measured speeds."""

    rows_per_second: float = 20_000
    queue_length: int = 4
    slots: int = 4
    max_replicas: int = 10
    polling_seconds: int = 15
    cooldown_seconds: int = 300
    startup_seconds: int = 20


@dataclass(frozen=True, slots=True)
class Load:
    """Files that arrive: each a second and a number of rows."""

    title: str
    files: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(rows for _, rows in self.files)


@dataclass(frozen=True, slots=True)
class Sample:
    """One second: rows not scored yet, messages not deleted yet, replicas paid for."""

    backlog: float
    messages: int
    replicas: int
    parts: int = 0
    """Messages in the queue of parts."""


@dataclass(slots=True)
class Replica:
    """One worker: when it can start, and the rows left of each file it works on."""

    ready_at: int
    files: list[float] = field(default_factory=list)
    part: float = 0
    """Rows left of the part that it works on."""


def wanted_replicas(messages: int, queue_length: int, max_replicas: int, parts: int = 0) -> int:
    """Say how many replicas the scale rules ask for at this many messages and parts of files."""
    return min(max_replicas, math.ceil(max(messages, parts) / queue_length))


def simulate(load: Load, plan: Plan, limit: int = 24 * 3600) -> list[Sample]:
    """Run a load until all is scored and the last replica is gone, at most `limit` seconds."""
    arrivals = sorted(load.files)
    waiting: list[float] = []
    parts: list[float] = []
    replicas: list[Replica] = []
    wishes: list[tuple[int, int]] = []
    last_active = 0
    samples: list[Sample] = []
    for second in range(limit):
        while arrivals and arrivals[0][0] <= second:
            waiting.append(float(arrivals.pop(0)[1]))
        messages = len(waiting) + sum(len(replica.files) for replica in replicas)
        in_work = sum(replica.part > 0 for replica in replicas)
        messages += bool(parts or in_work)  # that of the shared file
        sent = min(len(parts) + in_work, PARTS_IN_QUEUE)

        if second % HPA_SECONDS == 0 and replicas:
            wishes = [(at, wish) for at, wish in wishes if at > second - SCALE_IN_SECONDS]
            wishes.append((second, _autoscaler_wish(max(messages, sent), len(replicas), plan)))
            target = max(wish for _, wish in wishes)
            target = min(target, max(len(replicas) + 4, len(replicas) * 2))
            while len(replicas) < target:
                replicas.append(Replica(ready_at=second + plan.startup_seconds))
            while len(replicas) > max(target, 1):
                last = replicas.pop()  # gives all back; the scored blocks are kept
                waiting[:0] = last.files
                parts[:0] = [last.part] if last.part else []
        if second % plan.polling_seconds == 0 and messages:
            last_active = second
            if not replicas:
                replicas.append(Replica(ready_at=second + plan.startup_seconds))
                wishes = [(second, 1)]
        if replicas and not messages and second - last_active >= plan.cooldown_seconds:
            replicas.clear()

        _work_one_second(replicas, waiting, parts, second, plan)
        in_work_rows = sum(sum(replica.files) + replica.part for replica in replicas)
        backlog = sum(waiting) + sum(parts) + in_work_rows
        samples.append(Sample(backlog, messages, len(replicas), sent))
        if not arrivals and not messages and not replicas:
            break
    return samples


def _autoscaler_wish(messages: int, replicas: int, plan: Plan) -> int:
    ratio = messages / (plan.queue_length * replicas)
    if abs(ratio - 1) <= HPA_TOLERANCE:
        return replicas
    return max(1, wanted_replicas(messages, plan.queue_length, plan.max_replicas))


def _work_one_second(
    replicas: Iterable[Replica],
    waiting: list[float],
    parts: list[float],
    second: int,
    plan: Plan,
) -> None:
    for replica in replicas:
        if second < replica.ready_at:
            continue
        budget = plan.rows_per_second
        while budget > 0:
            _take(replica, waiting, parts, plan)
            if replica.files:  # the slots share the cores fairly
                step = min(min(replica.files), budget / len(replica.files))
                budget -= step * len(replica.files)
                replica.files = [rows - step for rows in replica.files if rows - step > 1e-6]
            elif replica.part:
                step = min(replica.part, budget)
                budget -= step
                replica.part -= step
            else:
                break


def _take(replica: Replica, waiting: list[float], parts: list[float], plan: Plan) -> None:
    """Fill the free slots; with no message, take a part."""
    while waiting and len(replica.files) < plan.slots:
        rows = waiting.pop(0)
        if rows < SHARED_ROWS:
            replica.files.append(rows)
            continue
        while rows > 0:  # cutting takes a twentieth of scoring: it is left out
            parts.append(min(rows, PART_ROWS))
            rows -= parts[-1]
    if not replica.files and not replica.part and parts:
        replica.part = parts.pop(0)


def seconds_until_scored(samples: Sequence[Sample]) -> int:
    """Say when the last row was scored."""
    return max((at + 1 for at, sample in enumerate(samples) if sample.messages), default=0)


def replica_hours(samples: Sequence[Sample]) -> float:
    """Say what was paid for."""
    return sum(sample.replicas for sample in samples) / 3600


LOADS: tuple[Load, ...] = (
    Load("200 files of 100,000 rows, dropped at once", ((30, 100_000),) * 200),
    Load("The same 20 million rows as one file, which all replicas share", ((30, 20_000_000),)),
    Load(
        "A file of 100,000 rows every 2 seconds for twenty minutes",
        tuple((second, 100_000) for second in range(30, 1230, 2)),
    ),
)

WIDTH, PANEL, LEFT, RIGHT, TOP = 760, 190, 64, 52, 44
INK, GRID, BACKLOG, REPLICAS = "#333333", "#dddddd", "#4c78a8", "#d95f02"


def draw(runs: Sequence[tuple[Load, list[Sample]]], plan: Plan) -> str:
    """Draw one panel per load: backlog as an area, replicas as steps, one time axis for all."""
    span = max(len(samples) for _, samples in runs)
    step = next(s for s in (60, 300, 600, 1800, 3600, 7200, 14400) if span / s <= 10)
    height = PANEL * len(runs) + 40
    caption = (
        f"{plan.rows_per_second:,.0f} rows/s a replica, queueLength {plan.queue_length}, "
        f"slots {plan.slots}, maxReplicas {plan.max_replicas}, polling {plan.polling_seconds} s, "
        f"cool-down {plan.cooldown_seconds} s, start-up {plan.startup_seconds} s"
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="11" fill="{INK}">',
        f"<title>Backlog and replicas over time: {caption}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for index, (load, samples) in enumerate(runs):
        lines += _panel(load, samples, PANEL * index, span, step, plan)
    lines.append(f'<text x="{LEFT}" y="{height - 16}">{caption}</text>')
    lines.append("</svg>")
    return "\n".join(lines) + "\n"


def _panel(
    load: Load, samples: Sequence[Sample], top: int, span: int, step: int, plan: Plan
) -> list[str]:
    base = top + PANEL - 22
    tall = base - top - TOP
    wide = WIDTH - LEFT - RIGHT
    most_rows = max(sample.backlog for sample in samples) or 1.0
    most_replicas = max(plan.max_replicas, 1)

    def x(second: float) -> str:
        return f"{LEFT + wide * second / span:.1f}"

    def y(share: float) -> str:
        return f"{base - tall * share:.1f}"

    scored = seconds_until_scored(samples)
    lines = [
        f'<text x="{LEFT}" y="{top + 18}" font-weight="bold">{load.title}</text>',
        f'<text x="{LEFT}" y="{top + 33}">scored after {_clock(scored - load.files[0][0])}, '
        f"{replica_hours(samples):.1f} replica-hours</text>",
    ]
    lines += [
        f'<path d="M{x(second)} {y(0)}V{y(1)}" stroke="{GRID}"/>'
        f'<text x="{x(second)}" y="{base + 14}" text-anchor="middle">{_clock(second)}</text>'
        for second in range(0, span + 1, step)
    ]
    lines += [
        f'<path d="M{LEFT} {y(share)}H{WIDTH - RIGHT}" stroke="{GRID}"/>'
        f'<text x="{LEFT - 6}" y="{y(share)}" dy="4" text-anchor="end" fill="{BACKLOG}">'
        f"{_short(most_rows * share)}</text>"
        f'<text x="{WIDTH - RIGHT + 6}" y="{y(share)}" dy="4" fill="{REPLICAS}">'
        f"{most_replicas * share:g}</text>"
        for share in (0.0, 0.5, 1.0)
    ]
    area = "".join(
        f"L{x(second)} {y(sample.backlog / most_rows)}"
        for second, sample in enumerate(samples)
        if second % 5 == 0
    )
    lines.append(
        f'<path d="M{x(0)} {y(0)}{area}L{x(len(samples))} {y(0)}Z" fill="{BACKLOG}" '
        'fill-opacity="0.35"/>'
    )
    steps, last = f"M{x(0)} {y(0)}", 0
    for second, sample in enumerate(samples):
        if sample.replicas != last:
            last = sample.replicas
            steps += f"H{x(second)}V{y(last / most_replicas)}"
    lines.append(
        f'<path d="{steps}H{x(len(samples))}" fill="none" stroke="{REPLICAS}" stroke-width="2"/>'
    )
    if top == 0:
        lines.append(
            f'<text x="{LEFT - 6}" y="{top + 33}" text-anchor="end" fill="{BACKLOG}">rows left'
            f'</text><text x="{WIDTH - 6}" y="{top + 33}" text-anchor="end" fill="{REPLICAS}">'
            "replicas</text>"
        )
    return lines


def _clock(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _short(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.3g}M"
    if number >= 1e3:
        return f"{number / 1e3:.3g}k"
    return f"{number:.3g}"


def main() -> None:
    """Print one line per load, and write the drawing."""
    default = Plan()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows-per-second", type=float, default=default.rows_per_second)
    parser.add_argument("--queue-length", type=int, default=default.queue_length)
    parser.add_argument("--slots", type=int, default=default.slots)
    parser.add_argument("--max-replicas", type=int, default=default.max_replicas)
    parser.add_argument("--polling-seconds", type=int, default=default.polling_seconds)
    parser.add_argument("--cooldown-seconds", type=int, default=default.cooldown_seconds)
    parser.add_argument("--startup-seconds", type=int, default=default.startup_seconds)
    parser.add_argument("--files", type=int, help="files dropped at once, in place of the page's")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of each such file")
    parser.add_argument("--svg", type=Path, help="where to draw; docs/scaling.svg for the page's")
    options = vars(parser.parse_args())
    files, rows, svg = options.pop("files"), options.pop("rows"), options.pop("svg")
    plan = Plan(**options)

    loads = LOADS
    if files:
        loads = (Load(f"{files:,} files of {rows:,} rows, dropped at once", ((0, rows),) * files),)
    elif svg is None:
        svg = Path(__file__).parents[2] / "docs" / "scaling.svg"
    runs = [(load, simulate(load, plan)) for load in loads]
    for load, samples in runs:
        print(
            f"{load.title}: scored after "
            f"{_clock(seconds_until_scored(samples) - load.files[0][0])}, most replicas "
            f"{max(sample.replicas for sample in samples)}, "
            f"{replica_hours(samples):.1f} replica-hours"
        )
    if svg:
        svg.write_text(draw(runs, plan))
        print(f"drawn in {svg}")


if __name__ == "__main__":
    main()
