"""How predictions are assessed: one module for each kind of answer."""

from shared.records.kinds import Classes, Kind, Probability, Value
from training.assessments.base import FOLDS, Assessment
from training.assessments.classes import ClassesAssessment
from training.assessments.probability import ProbabilityAssessment
from training.assessments.value import ValueAssessment

__all__ = ["FOLDS", "Assessment", "assessment_of"]


def assessment_of(kind: Kind) -> Assessment:
    """The assessment of this kind of answer."""
    match kind:
        case Probability():
            return ProbabilityAssessment(kind)
        case Classes():
            return ClassesAssessment(kind)
        case Value():
            return ValueAssessment(kind)
    raise NotImplementedError(kind.name)
