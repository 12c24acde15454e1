"""The worker's model: counts its scores in metrics, and checks that it still works."""

from __future__ import annotations

from shared import metrics
from shared.files.base import Scored
from shared.records.artifact import Artifact
from shared.records.errors import ModelBroken
from shared.records.kinds import Kind, Outputs
from shared.records.scoring import Matrix, Model, Scorer


class _ObservedModel:
    def __init__(self, model: Model, kind: Kind) -> None:
        self._model = model
        self._kind = kind
        self.version = model.version

    def outputs(self, rows: Matrix) -> Outputs:
        outputs = self._model.outputs(rows)
        probabilities = self._kind.probabilities(outputs)
        if probabilities is not None:
            metrics.BATCH_SCORES.observe(probabilities)
        return outputs


def batch_scorer(artifact: Artifact) -> Scorer:
    """The artifact's scorer, with its scores in the metrics of batches."""
    manifest = artifact.manifest
    kind = manifest.answer_kind
    return Scorer(_ObservedModel(artifact.model, kind), manifest.fields, kind)


def check_model(artifact: Artifact, scored: Scored) -> None:
    """Rows without an answer are rejected only while the model is otherwise sound.

    Raises `ModelBroken`.
    """
    if scored.counts.codes.get("model_error") and not artifact.golden_holds():
        raise ModelBroken("the model no longer gives its golden answers")
