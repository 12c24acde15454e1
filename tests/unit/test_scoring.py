"""The one scoring path: the same bits alone and among others, and broken models."""

from __future__ import annotations

import numpy as np
import pytest

from shared.records.artifact import Artifact
from shared.records.kinds import Outputs, Probability, shortest
from shared.records.scoring import Matrix, ModelFault, Scorer


def scorer_of(artifact: Artifact) -> Scorer:
    return Scorer(artifact.model, artifact.manifest.fields, artifact.manifest.answer_kind)


class Failing:
    """A model that cannot answer rows whose first value is negative."""

    version = "failing"

    def __init__(self, answer: float | None) -> None:
        self._answer = answer

    def outputs(self, rows: Matrix) -> Outputs:
        bad = rows[:, 0] < 0
        if self._answer is None and bad.any():
            raise RuntimeError("no")
        return np.where(bad, np.float32(self._answer or 0), np.float32(0.25)).astype(np.float32)


def test_a_record_scores_the_same_bits_alone_and_among_twenty_thousand(
    artifact: Artifact,
) -> None:
    scorer = scorer_of(artifact)
    random = np.random.default_rng(7)
    fields = [artifact.manifest.fields.fields[i] for i in artifact.manifest.fields.used]
    rows = np.column_stack([random.uniform(*field.accept, 20_000) for field in fields])
    optional = np.array([not field.required for field in fields])
    rows[(random.random(rows.shape) < 0.3) & optional] = np.nan
    matrix = rows.astype(np.float32)

    together = scorer.outputs(matrix)
    alone = np.concatenate([scorer.outputs(matrix[n : n + 1]) for n in range(0, 20_000, 37)])
    sevens = np.concatenate([scorer.outputs(matrix[n : n + 7]) for n in range(0, 700, 7)])

    assert (together[::37] == alone).all()
    assert (together[:700] == sevens).all()


def test_a_record_read_from_json_scores_as_its_row_does(artifact: Artifact) -> None:
    scorer = scorer_of(artifact)
    record = scorer.table.read({"age": 60, "sex": "male", "oldpeak": 1.4})

    score = scorer.score(record)

    row = np.array([[record.values[i] for i in scorer.table.used]], np.float32)
    assert np.float32(score.members["probability"]) == scorer.outputs(row)[0]
    assert score.members["prediction"] == int(float(score.members["probability"]) >= 0.5)


@pytest.mark.parametrize("answer", [None, -0.5, 1.5, float("nan")])
def test_only_the_rows_that_the_model_cannot_answer_are_without_a_score(
    artifact: Artifact, answer: float | None
) -> None:
    scorer = Scorer(Failing(answer), artifact.manifest.fields, Probability(0.5))
    rows = np.ones((100, 11), np.float32)
    rows[[3, 50, 99], 0] = -1

    with pytest.raises(ModelFault):
        scorer.outputs(rows)
    found = scorer.outputs_each(rows)

    assert np.flatnonzero(np.isnan(found)).tolist() == [3, 50, 99]
    assert (found[~np.isnan(found)] == np.float32(0.25)).all()


def test_the_shortest_text_gives_the_float32_back() -> None:
    random = np.random.default_rng(3)
    values = random.random(10_000).astype(np.float32)

    texts = [repr(shortest(value)) for value in values]

    assert all(np.float32(text) == value for text, value in zip(texts, values, strict=True))
    assert max(map(len, texts)) <= 15
