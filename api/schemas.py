"""Bodies of answers. The body of a record is `FieldTable.record_model`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, create_model

from api.problems import ErrorEntry
from shared.batches.status import BatchStatus, Status
from shared.records.artifact import ModelFacts
from shared.records.kinds import Kind
from shared.records.schema import FieldSpec

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0)]
CodingChecked = Annotated[
    bool, Query(description="The codes are right: turn off the guards against another coding")
]


class Body(BaseModel):
    """A body whose members are all known."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Explanation(Body):
    """Contributions of the fields; with the intercept they sum to the logit of the probability."""

    unit: Literal["log-odds"] = "log-odds"
    intercept: float
    contributions: dict[str, float]


class Rows(Body):
    """Numbers of rows."""

    total: Count
    scored: Count
    rejected: Count


class ScoreModels(NamedTuple):
    """Bodies that hold scores; their members depend on the kind of answer."""

    score: type[Any]
    scored_row: type[Any]
    rejected_row: type[Any]
    scores: type[Any]


def score_models(kind: Kind, record_id: str) -> ScoreModels:
    """The bodies of scores of this kind; `record_id` names the record's own id."""
    members: dict[str, Any] = {column.name: column.schema for column in kind.columns}
    members |= {"model_version": str, "warnings": tuple[str, ...]}
    own: dict[str, Any] = {record_id: str | None}
    row = {"row": Annotated[int, Field(ge=1)], **own}
    score = _body(
        "ScoreBody",
        "The score of one record.",
        **own,
        **members,
        explanation=(Explanation | None, None),
    )
    scored = _body("ScoredRow", "The score of one record among several.", **row, **members)
    rejected = _body(
        "RejectedRow",
        "A record among several that has no score.",
        **row,
        errors=list[ErrorEntry],
    )
    several = Annotated[list[str], Field(description="Warnings about the records as a whole")]
    scores = _body(
        "ScoresBody",
        "The scores of several records, in their order.",
        rows=Rows,
        results=list[scored | rejected],  # type: ignore[valid-type]
        warnings=(several, []),
    )
    return ScoreModels(score, scored, rejected, scores)


def _body(name: str, description: str, **members: Any) -> type[Any]:
    return create_model(name, __base__=Body, __doc__=description, **members)


class FileForm(Body):
    """A form with one file."""

    file: Annotated[
        bytes, Field(description="A file of records; its extension determines the format")
    ]


class BatchAccepted(Body):
    """An accepted batch."""

    batch_id: str
    status: Literal["queued"] = "queued"
    status_url: str


class Bytes(Body):
    """Bytes of a batch's file."""

    done: Count
    total: Count


class Parts(Body):
    """Parts of a large file, which workers share."""

    done: Count
    total: (
        Annotated[Count, Field(description="Absent while the file is still being cut")] | None
    ) = None
    workers: Annotated[Count, Field(description="Workers that have started a part")]


class BatchModel(BaseModel):
    """The model that scored a batch."""

    name: str
    version: str
    sha256: Annotated[str, Field(description="SHA-256 of its manifest")]
    served_sha256: (
        Annotated[str, Field(description="SHA-256 of the file that computed the scores")] | None
    ) = None


class BatchTimes(BaseModel):
    """When a batch was sent, last started and finished (UTC)."""

    sent: Time | None
    started: Time | None
    finished: Time


class BatchBody(Body):
    """The state of a batch; members that are not known are absent."""

    batch_id: str
    status: Status
    rows: Annotated[Rows, Field(description="Rows so far; all rows once the batch has ended")]
    created: Annotated[datetime, Field(description="When the batch was submitted")] | None = None
    bytes: Annotated[Bytes, Field(description="Progress in the uploaded file")] | None = None
    parts: Annotated[Parts, Field(description="Progress of a file that workers share")] | None = (
        None
    )
    deliveries: Annotated[Count, Field(description="How often a worker has started it")] | None = (
        None
    )
    reason: Annotated[str, Field(description="Why the batch failed")] | None = None
    rejections: Annotated[dict[str, int], Field(description="Rejected rows by code")] | None = None
    warnings: Annotated[list[str], Field(description="Warnings about the whole batch")] | None = (
        None
    )
    other_coding_rows: Count | None = None
    ignored_columns: list[str] | None = None
    absent_fields: list[str] | None = None
    model: Annotated[BatchModel, Field(description="The model that scored")] | None = None
    times: BatchTimes | None = None
    replay_of: str | None = None

    @classmethod
    def of(cls, found: BatchStatus) -> BatchBody:
        """A body with what is known of a batch. The names of files are left out."""
        body: dict[str, Any] = {
            "batch_id": found.batch_id,
            "status": found.status,
            "rows": found.rows,
            "created": found.created,
            "deliveries": found.progress.deliveries,
        }
        if found.status in ("queued", "running") and found.input_bytes is not None:
            # The last rows may be staged before a line end that the file does not have.
            done = min(found.progress.offset, found.input_bytes)
            body["bytes"] = {"done": done, "total": found.input_bytes}
        if (parts := found.progress.parts) is not None:
            known = {name: value for name, value in asdict(parts).items() if value is not None}
            body["parts"] = Parts(**known)
        summary = found.summary or {}
        body |= {name: summary.get(name) for name in cls.model_fields if name not in body}
        return cls(**{name: value for name, value in body.items() if value is not None})


class QueueBody(Body):
    """The queue of batches."""

    messages: Annotated[Count, Field(description="Approximate number, including those in progress")]
    oldest_seconds: (
        Annotated[float, Field(description="Age of the oldest waiting message")] | None
    ) = None


class BatchListBody(Body):
    """Batches, the newest first."""

    batches: list[BatchBody]
    cursor: Annotated[str, Field(description="Pass it to list older batches")] | None = None
    queue: Annotated[QueueBody, Field(description="Absent if the API may not read it")] | None = (
        None
    )


class ModelExample(Body):
    """A record to try."""

    title: str
    record: dict[str, float | str]


class ModelBody(ModelFacts):
    """The model, its fields and its figures."""

    sha256: Annotated[str, Field(description="SHA-256 of the manifest")]
    fields: tuple[FieldSpec, ...]
    record_id: Annotated[str, Field(description="Name of the record's own id")]
    columns: Annotated[tuple[str, ...], Field(description="Fields that the model uses, in order")]
    examples: tuple[ModelExample, ...]


class Live(Body):
    """The process is alive."""

    live: Literal[True] = True


class Ready(Body):
    """Whether records can be scored."""

    ready: bool
    model_version: str
