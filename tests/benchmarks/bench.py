"""`make bench`: measure the product against its baselines and print one table of ratios.

Both sides of a ratio are measured in the same run, alternating, and compared round by round:
machines are noisy, ratios less so. Nothing is asserted. `--page` writes the table into a page.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import platform
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from cli.local import ROOT
from tests.benchmarks import batches, serving, sharing
from tests.benchmarks.sides import DATA, Bench
from tests.benchmarks.tutorial_app import train

BEGIN, END = "<!-- figures: make bench -->\n", "<!-- end of figures -->\n"

MEASURES: dict[str, Callable[[Bench], Any]] = {
    "requests": serving.measure_rate,
    "start": serving.measure_start,
    "file": batches.measure_file,
    "formats": batches.measure_formats,
    "memory": batches.measure_memory,
    "sharing": sharing.measure_sharing,
    "messages": batches.measure_messages,
    "worker-start": batches.measure_start,
}


def table(bench: Bench) -> str:
    """The figures so far as a table in Markdown, with the day and the machine."""
    day = datetime.now(UTC).date()
    peers = "" if bench.peers else "; the peers are not installed (`make bench-peers`)"
    lines = [
        f"Measured on {day} with Python {platform.python_version()}, {bench.rounds} rounds{peers}.",
        "",
        "| measure | here | baseline | ratio | wanted |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in bench.rows:
        cells = (row.measure, _number(row.ours), _number(row.baseline), f"{row.ratio:.2f}")
        lines.append(f"| {' | '.join(cells)} | {row.wanted} |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def write_page(page: Path, figures: str) -> None:
    """Replace what is between the page's two marks."""
    before, found, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise SystemExit(f"{page} lacks the lines {BEGIN.strip()} and {END.strip()}")
    page.write_text(f"{before}{BEGIN}{figures}{END}{after}", encoding="utf-8")


def main() -> None:
    """Measure what is named, else all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measures", nargs="*", choices=[*MEASURES, []], help="default: all")
    parser.add_argument("--rounds", type=int, default=5, help="alternating runs of each side")
    parser.add_argument("--page", type=Path, help="write the table into this page")
    options = parser.parse_args()
    measures = options.measures or list(MEASURES)
    if "requests" in measures and not shutil.which("wrk"):
        parser.error("requests/s are measured with wrk: apt-get install wrk")
    for package in ("shared", "api", "worker", "training", "tests"):
        # As in an image: with PYTHONDONTWRITEBYTECODE each start would compile everything again.
        compileall.compile_dir(ROOT / package, quiet=1)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), options.rounds)
        if not bench.peers:
            print("without MLServer, BentoML and LitServe: make bench-peers installs them")
        train(str(DATA), str(bench.tutorial_model), str(bench.peers_model))
        for measure in measures:
            done = MEASURES[measure](bench)
            if asyncio.iscoroutine(done):
                uvloop.run(done)  # as the worker does
    print(f"\n{table(bench)}")
    if options.page:
        write_page(options.page, table(bench))


if __name__ == "__main__":
    main()
