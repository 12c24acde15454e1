"""The one error of training."""

from shared.records.errors import ScorerError


class TrainingError(ScorerError):
    """Data, figures or a converted model that must not become an artifact.

    The message is one line that says what is wrong and how to fix it.
    """
