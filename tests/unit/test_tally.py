"""The counts of a profile are those of plain Python, and the same in whichever order they add."""

from __future__ import annotations

import csv
import random
from collections import Counter
from functools import cache

import numpy as np
import pytest

from shared.files.base import Limits
from shared.files.formats import open_table
from shared.files.options import Options
from shared.records.artifact import Artifact
from shared.records.columns import Outcome
from shared.records.kinds import Probability
from shared.records.reference import Reference
from shared.records.scoring import Scorer
from shared.records.tally import Tallier, Tally, mean_of, sum_exponent
from tests.builders import a_csv, a_patient, a_scorer, blocks_of, cut
from tests.faults.patients import patients
from training.heart.dataset import read_heart
from training.heart.fields import TABLE
from training.reference import reference_of


@cache
def reference() -> Reference:
    return reference_of(a_scorer(), read_heart().rows)


def tallies(content: bytes, rows: int, scorer: Scorer | None = None) -> list[Tally]:
    """The tally of each block of a file."""
    scorer = scorer or a_scorer()
    table = open_table("csv", scorer, Options(), Limits(rows=rows))
    tallier = Tallier(TABLE, Probability(0.5), reference())
    found, first_row = [], 1
    for block in blocks_of(table, cut(content, 1 << 20)):
        outcome: Outcome = table.score(table.read(block), first_row).outcome
        found.append(tallier.count(outcome, first_row))
        first_row += outcome.counts.rows
    return found


def added(parts: list[Tally]) -> Tally:
    total = Tallier(TABLE, Probability(0.5), reference()).empty()
    for part in parts:
        total.add(part)
    return total


def test_blocks_of_any_size_added_in_any_order_give_the_same_bytes() -> None:
    content = patients(1000, seed=3)
    whole = added(tallies(content, 5000)).line()

    for rows in (3, 70, 500):
        parts = tallies(content, rows)
        random.Random(rows).shuffle(parts)

        assert added(parts).line() == whole


def test_a_tally_is_read_back_from_its_line() -> None:
    tally = added(tallies(patients(500), 100))

    assert Tally.of_line(tally.line()) == tally


def test_counts_are_those_of_plain_python() -> None:
    content = patients(2000, seed=5)
    lines = list(csv.DictReader(content.decode().splitlines()))
    accepted = [
        line
        for line in lines
        if not {line["age"], line["sex"], line["cp"]} & {"old", "inf", "-1", "1e999"}
    ]

    tally = added(tallies(content, 300))

    fields = dict(zip(TABLE.by_name, tally.fields, strict=True))
    assert tally.scored == len(accepted)
    assert sum(tally.scores) == len(accepted)
    chol = [line["chol"] for line in accepted]
    assert fields["chol"].missing == sum(text in ("", "NA") for text in chol)
    known = [int(text) for text in chol if text not in ("", "NA")]
    edges = reference().fields["chol"].edges
    bins = Counter(sum(value >= edge for edge in edges) for value in known)
    assert fields["chol"].bins == [bins[i] for i in range(len(edges) + 1)]
    exponent = sum_exponent(TABLE.by_name["chol"])
    mean = mean_of(fields["chol"].total, len(known), exponent)
    assert mean == pytest.approx(sum(known) / len(known), rel=1e-5)
    codes = Counter(line["ca"] for line in accepted)
    assert fields["ca"].bins == [codes[str(code)] for code in range(4)]
    assert fields["ca"].missing == codes[""]
    high = TABLE.by_name["trestbps"].training[1]
    assert fields["trestbps"].above == sum(float(line["trestbps"]) > high for line in accepted)


def test_rejections_keep_the_lowest_five_row_numbers_of_each_code_and_field() -> None:
    content = a_csv(*(a_patient(age=None if n % 2 else 54) for n in range(1, 31)))

    tally = added(list(reversed(tallies(content, 4))))

    [(kind, rejection)] = tally.rejections.items()
    assert kind == ("missing_required", "age")
    assert (rejection.rows, rejection.first_rows) == (15, [1, 3, 5, 7, 9])


def test_names_that_a_file_made_up_are_not_kept() -> None:
    content = b'{"age": 54, "sex": 1, "cp": 3, "Erika Mustermann": 1}\n'
    scorer = a_scorer()
    table = open_table("jsonl", scorer, Options(), Limits())
    [block] = blocks_of(table, [content])

    tally = Tallier(TABLE, Probability(0.5), None).count(
        table.score(table.read(block), 1).outcome, 1
    )

    assert list(tally.rejections) == [("unknown_field", "")]


def test_a_score_on_the_edge_of_a_bin_belongs_to_the_bin_above() -> None:
    class Steps:
        version = "steps"

        def outputs(self, rows: np.ndarray) -> np.ndarray:
            return np.linspace(0, 1, len(rows), dtype=np.float32)

    content = a_csv(*(a_patient() for _ in range(21)))

    tally = added(tallies(content, 100, a_scorer(Steps())))

    assert tally.scores == [1] * 19 + [2]
    assert tally.positive == 11
    assert mean_of(tally.score_total, tally.scored) == 0.5


def test_training_writes_the_counts_of_its_own_rows(artifact: Artifact) -> None:
    rows = read_heart().rows
    made = reference_of(
        Scorer(artifact.model, artifact.manifest.fields, artifact.manifest.answer_kind), rows
    )

    assert made.rows == 303
    assert made.fields["age"].mean == pytest.approx(rows[:, 0].mean(), rel=1e-5)
    assert made.fields["ca"].missing == pytest.approx(4.5 / 304, abs=1e-6)
    for field in TABLE.fields:
        if not field.used:
            assert field.name not in made.fields
            continue
        known = made.fields[field.name]
        assert sum(known.shares) == pytest.approx(1, abs=1e-4)
        assert list(known.edges) == sorted(set(known.edges))
    assert sum(made.scores) == pytest.approx(1, abs=1e-4)
    # A third of the patients have no ST depression: its lower deciles are one bin.
    assert made.fields["oldpeak"].edges[0] > 0
