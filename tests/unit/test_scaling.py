"""How many replicas the scale rules ask for, and how soon a large file has them all."""

from __future__ import annotations

import pytest

from tests.benchmarks.simulate_scaling import (
    Load,
    Plan,
    seconds_until_scored,
    simulate,
    wanted_replicas,
)

TEN_GB = Load("10 GB in one file", ((30, 240_000_000),))


@pytest.mark.parametrize(
    ("messages", "parts", "replicas"),
    [(0, 0, 0), (1, 0, 1), (1, 4, 1), (1, 5, 2), (1, 37, 10), (1, 64, 10), (20, 8, 5)],
)
def test_the_larger_of_both_queues_decides(messages: int, parts: int, replicas: int) -> None:
    assert wanted_replicas(messages, 4, 10, parts) == replicas


def test_a_large_file_has_all_replicas_two_polls_after_it_is_cut() -> None:
    plan = Plan()

    samples = simulate(TEN_GB, plan)

    cut = next(at for at, sample in enumerate(samples) if sample.parts)
    polled = [samples[cut + polls * plan.polling_seconds] for polls in (1, 2)]
    wanted = [wanted_replicas(each.messages, 4, 10, each.parts) for each in polled]
    assert wanted == [plan.max_replicas] * 2
    assert polled[1].replicas == plan.max_replicas


def test_ten_replicas_score_a_file_ten_times_as_fast_as_one() -> None:
    one, ten = (seconds_until_scored(simulate(TEN_GB, Plan(max_replicas=most))) for most in (1, 10))

    assert one > 9 * ten
