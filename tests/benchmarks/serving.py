"""Requests per second, latency, and the time from process start to the first answer."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tests.benchmarks.sides import Bench, Target, alternate

PEER_NAMES = {"mlserver": "MLServer", "bentoml": "BentoML", "litserve": "LitServe"}

Serve = Callable[[], AbstractContextManager[Target]]


def measure_rate(bench: Bench) -> None:
    """Requests/s of servers on one core, with the load on another."""
    servers = [bench.api, bench.empty, bench.tutorial, *peers_of(bench)]
    with ExitStack() as stack:
        with on_core(0):
            targets = [stack.enter_context(serve()) for serve in servers]
        for target in targets:
            wait_for_answer(target)
        with on_core(-1):
            # Short loads, and more of them: the machine's speed changes within seconds.
            runs = alternate(3 * bench.rounds, *(partial(load, target) for target in targets))
    ours, empty, tutorial, *peers = runs

    def figures(runs: list[dict[str, float]], key: str = "per_second") -> list[float]:
        return [run[key] for run in runs]

    rate = figures(ours)
    bench.note(
        "requests/s of `/predict`, against FastAPI with the same models that computes nothing",
        rate,
        figures(empty),
        "≥ 0.8",
    )
    bench.note("requests/s, against the tutorial's app", rate, figures(tutorial), "")
    for name, run in zip(bench.peers, peers, strict=True):
        bench.note(f"requests/s, against {PEER_NAMES[name]}", rate, figures(run), "≥ 3")
    for key, text in (("p50", "median"), ("p99", "99th percentile")):
        bench.note(
            f"{text} in ms at 16 connections, against the tutorial's app",
            figures(ours, key),
            figures(tutorial, key),
            "",
        )


def measure_start(bench: Bench) -> None:
    """Seconds from process start to the first 200."""

    def start(serve: Serve) -> float:
        begun = time.perf_counter()
        with serve() as target:
            wait_for_answer(target, pause=0.002)
            return time.perf_counter() - begun

    servers = [bench.api, bench.tutorial, *peers_of(bench)]
    ours, tutorial, *peers = alternate(bench.rounds, *(partial(start, serve) for serve in servers))
    measure = "seconds from process start to the first 200, against {}"
    bench.note(measure.format("the tutorial's app"), ours, tutorial, "≤ 0.4")
    for name, run in zip(bench.peers, peers, strict=True):
        bench.note(measure.format(PEER_NAMES[name]), ours, run, "< 1")


def peers_of(bench: Bench) -> list[Serve]:
    """The peers that are installed."""
    return [partial(bench.peer, name) for name in bench.peers]


def load(target: Target) -> dict[str, float]:
    """Requests/s and latencies in ms: a second of `wrk` over 16 connections."""
    assert urlsplit(target.url).hostname == "127.0.0.1", "only this machine"
    script = str(Path(__file__).with_name("wrk.lua"))
    done = subprocess.run(
        ["wrk", "-t1", "-c16", "-d1s", "-s", script, target.url, "--", target.body],
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert not figures["failed"], f"{figures['failed']:g} requests to {target.url} failed"
    return figures


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """Processes that are started within have this core and no other."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def wait_for_answer(target: Target, pause: float = 0.05, seconds: float = 60) -> None:
    """Ask for a score until there is one."""
    ends = time.monotonic() + seconds
    while not answers(target):
        if time.monotonic() > ends:
            raise TimeoutError(f"{target.url} did not answer:\n{target.log.read_text()[-2000:]}")
        time.sleep(pause)


def answers(target: Target) -> bool:
    """Whether a request is answered with 200."""
    request = urllib.request.Request(
        target.url, target.body.encode(), {"Content-Type": "application/json"}
    )
    with suppress(OSError, urllib.error.HTTPError), urllib.request.urlopen(request, timeout=5):
        return True
    return False
