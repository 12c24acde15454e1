"""Bodies of answers. The body of a record is `FieldTable.record_model`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from api.problems import ErrorEntry
from shared.records.schema import FieldSpec

Count = Annotated[int, Field(ge=0)]
CodingChecked = Annotated[
    bool, Query(description="The codes are this model's: do not guard against another coding")
]


class Body(BaseModel):
    """A body whose members are all known."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Explanation(Body):
    """Contributions of the fields; with the intercept they sum to the logit of the probability."""

    unit: Literal["log-odds"] = "log-odds"
    intercept: float
    contributions: dict[str, float]


class ScoreMembers(Body):
    """The members of `shared.records.scoring.Score`."""

    probability: Annotated[
        float, Field(ge=0, le=1, description="The model's float32 output; see the model's notice")
    ]
    prediction: Annotated[
        Literal[0, 1], Field(description="1 if the probability is at least the model's threshold")
    ]
    model_version: str
    warnings: tuple[str, ...]


class ScoreBody(ScoreMembers):
    """The score of one record."""

    patient_id: str | None
    explanation: Explanation | None = None


class ScoredRow(ScoreMembers):
    """The score of one record among several."""

    row: Annotated[int, Field(ge=1)]
    patient_id: str | None


class RejectedRow(Body):
    """A record among several that has no score."""

    row: Annotated[int, Field(ge=1)]
    patient_id: str | None
    errors: list[ErrorEntry]


class Rows(Body):
    """Numbers of rows."""

    total: Count
    scored: Count
    rejected: Count


class ScoresBody(Body):
    """The scores of several records, in their order."""

    rows: Rows
    results: list[ScoredRow | RejectedRow]
    warnings: Annotated[list[str], Field(description="What is odd about the records together")] = []


class BatchAccepted(Body):
    """A batch that was taken."""

    batch_id: str
    status: Literal["queued"] = "queued"
    status_url: str


class BatchBody(BaseModel):
    """The state of a batch; members that are not known are absent."""

    model_config = ConfigDict(extra="allow")

    batch_id: str
    status: Literal["queued", "running", "succeeded", "failed"]
    rows: Rows
    reason: Annotated[str, Field(description="Why the batch failed")] = ""
    rejections: Annotated[dict[str, int], Field(description="Rejected rows by code")] = {}
    warnings: Annotated[list[str], Field(description="What is odd about the whole batch")] = []


class ModelExample(Body):
    """A record to try."""

    title: str
    record: dict[str, float | str]


class ModelBody(BaseModel):
    """What the manifest says of the model."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    name: str
    version: str
    sha256: Annotated[str, Field(description="SHA-256 of the manifest")]
    fields: tuple[FieldSpec, ...]
    record_id: Annotated[str, Field(description="Name of the record's own id")]
    columns: Annotated[tuple[str, ...], Field(description="Fields that the model uses, in order")]
    examples: tuple[ModelExample, ...]


class Live(Body):
    """The process answers."""

    live: Literal[True] = True


class Ready(Body):
    """Whether records can be scored."""

    ready: bool
    model_version: str


JsonObject = dict[str, Any]
