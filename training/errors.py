"""The one error of training."""

from shared.records.errors import ScorerError


class TrainingError(ScorerError):
    """Data, figures or an exported model that must not become an artifact.

    The message is one line that says what is wrong and what to do.
    """
