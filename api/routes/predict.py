"""Scores while the caller waits: one record, or up to a thousand."""

from collections import Counter
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body
from pydantic import BeforeValidator

from api.body import BodyLimits, body_problems, strict_route
from api.microbatch import MicroBatcher
from api.openapi import (
    another_coding,
    examples,
    many_examples,
    predict_description,
    problems,
    rejected,
)
from api.problems import ErrorEntry, Problem, bad_parameter, entries_of
from api.schemas import (
    CodingChecked,
    Explanation,
    Rows,
    ScoreModels,
    score_models,
)
from shared import metrics
from shared.files.advice import check_keys
from shared.records.artifact import Manifest
from shared.records.coding import (
    FEWEST_ROWS,
    check_coding,
    coding_warnings,
    count_categories,
    distribution_warnings,
)
from shared.records.counts import Counts
from shared.records.errors import FieldError, RecordRejected
from shared.records.kinds import shortest
from shared.records.schema import FieldTable, Record
from shared.records.scoring import Score, Scorer
from shared.records.shape import why_no_record
from shared.settings import ApiSettings

NO_ARRAY = "the body must be an array of records"
NO_ANSWER = RecordRejected((FieldError("model_error"),))


def router(scorer: Scorer, manifest: Manifest, settings: ApiSettings) -> APIRouter:
    """`/predict` and `/predict/many`."""
    limits = BodyLimits(settings.body_bytes, settings.body_seconds)
    router = APIRouter(tags=["Scores"], route_class=strict_route(limits), strict_content_type=False)
    table = scorer.table
    models = score_models(scorer.kind, table.record_id)
    batcher = MicroBatcher(scorer)
    scored = metrics.ROWS.labels("api", "scored")
    most = settings.request_rows

    @router.post(
        "/predict",
        summary=f"Score one {manifest.noun}",
        description=predict_description(manifest),
        response_model=models.score,
        response_model_exclude_unset=True,
        responses=problems(
            *body_problems(limits),
            rejected(table),
            bad_parameter("explain", "true or false"),
            "not_explained",
            "model_error",
        ),
    )
    async def predict(
        body: Annotated[table.record_model, Body(openapi_examples=examples(manifest))],  # type: ignore[name-defined]
        explain: bool = False,
    ) -> Any:
        record = table.record_of(body)
        score = await batcher.score(record)
        scored.inc()
        metrics.observe_score(scorer.kind.probability(score.members))
        members = {table.record_id: record.id, **members_of(score)}
        if explain:
            members["explanation"] = _explanation(scorer, record)
        return models.score(**members)

    def check_rows(items: Any) -> Any:
        if not isinstance(items, list):
            why = why_no_record(items, table)
            detail = NO_ARRAY + (f": {why}" if why else "")
            raise no_array(detail)
        if len(items) > most:
            raise too_many(most)
        return items

    @router.post(
        "/predict/many",
        summary=f"Score up to {most:,} {manifest.nouns}",
        description="Each record is scored or rejected on its own; results have the same order.",
        response_model=models.scores,
        response_model_exclude_unset=True,
        responses=problems(
            *body_problems(limits),
            no_array(NO_ARRAY),
            too_many(most),
            *another_coding(table),
            bad_parameter("coding_checked", "true or false"),
        ),
    )
    async def predict_many(
        items: Annotated[
            list[Any],
            BeforeValidator(check_rows),
            Body(max_length=most, openapi_examples=many_examples(manifest)),
        ],
        coding_checked: CodingChecked = False,
    ) -> Any:
        return _score_many(scorer, models, items, coding_checked=coding_checked)

    return router


def no_array(detail: str) -> Problem:
    """The problem of a body that is not an array."""
    entry = ErrorEntry(pointer="", code="malformed", detail=detail)
    return Problem("record_rejected", errors=[entry])


def too_many(most: int) -> Problem:
    """The problem of more records than one request may have."""
    return Problem("too_many_rows", f"a request may hold {most} records")


def members_of(score: Score) -> dict[str, Any]:
    """The members of a score's body, but for the record's own."""
    return {
        **score.members,
        "model_version": score.model_version,
        "warnings": score.warnings,
    }


def _score_many(
    scorer: Scorer, models: ScoreModels, items: list[Any], *, coding_checked: bool
) -> Any:
    """Score each record. Raises `AnotherCoding` if together they prove one."""
    table = scorer.table
    check_keys(items, table)
    checked = [_record_or_rejection(table, item) for item in items]
    records = [record for record in checked if isinstance(record, Record)]
    warnings = [] if coding_checked else _guard(checked, records, table)
    scores = iter(scorer.score_each(records))
    codes: Counter[str] = Counter()
    results: list[Any] = []
    rejected = 0
    for index, (item, record) in enumerate(zip(items, checked, strict=True)):
        outcome = (next(scores) or NO_ANSWER) if isinstance(record, Record) else record
        own_id = table.shown_id(item)
        if isinstance(outcome, RecordRejected):
            codes.update({rejection.code for rejection in outcome.rejections})
            members: dict[str, Any] = {"errors": entries_of(outcome.rejections, f"/{index}")}
            model = models.rejected_row
            rejected += 1
        else:
            metrics.observe_score(scorer.kind.probability(outcome.members))
            members, model = members_of(outcome), models.scored_row
        results.append(model(row=index + 1, **{table.record_id: own_id}, **members))
    scored = len(items) - rejected
    metrics.count_rows("api", scored, codes, rejected)
    rows = Rows(total=len(items), scored=scored, rejected=rejected)
    return models.scores(rows=rows, results=results, **({"warnings": warnings} if warnings else {}))


def _guard(
    checked: list[Record | RecordRejected], records: list[Record], table: FieldTable
) -> list[str]:
    """Warnings about the codes of all records. Raises `AnotherCoding`."""
    counts = Counts(len(checked))
    for record in checked:
        if isinstance(record, RecordRejected):
            counts.reject(record.rejections, table.coding_marks)
    check_coding(counts, table)
    warnings = coding_warnings(counts, table)
    if len(records) >= FEWEST_ROWS:
        values = np.array([record.values for record in records]).T
        warnings += distribution_warnings(count_categories(values, table), table)
    return warnings


def _record_or_rejection(table: FieldTable, item: object) -> Record | RecordRejected:
    try:
        return table.read(item)
    except RecordRejected as error:
        return error


def _explanation(scorer: Scorer, record: Record) -> Explanation:
    """Contributions in log-odds that with the intercept sum to the logit. Raises `Problem`."""
    explain = getattr(scorer.model, "explain", None)
    if explain is None:
        raise Problem("not_explained")
    try:
        contributions, intercept = explain(scorer.rows([record]))
    except KeyError as error:
        raise Problem("not_explained") from error
    parts = map(shortest, contributions[0])
    return Explanation(
        unit="log-odds",
        intercept=shortest(intercept[0]),
        contributions=dict(zip(scorer.table.used_names, parts, strict=True)),
    )
