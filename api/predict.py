"""Scores while the caller waits: one record, or up to a thousand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.responses import JSONResponse

from api import document
from api.body import read_json
from api.problems import Fault, Problem, entry, faults_of
from api.routes import flag, flag_parameter, new_router
from shared import metrics
from shared.errors import RecordRejected
from shared.fields import RECORD_ID, RECORD_ID_LENGTH, Rejection, is_text
from shared.scoring import ModelFault, Score, Scorer

if TYPE_CHECKING:
    from fastapi import APIRouter, Request

    from shared.artifact import Manifest
    from shared.fields import Record
    from shared.settings import ApiSettings


def router(scorer: Scorer, manifest: Manifest, settings: ApiSettings) -> APIRouter:
    """`/predict` and `/predict/many`."""
    routes = new_router("Scores")
    table = scorer.table
    scored = metrics.ROWS.labels("api", "scored")

    @routes.post(
        "/predict",
        summary="Score one patient",
        description=document.predict_description(manifest),
        responses=document.answers("Score", 400, 401, 406, 408, 413, 415, 422, 500, 503),
        openapi_extra=document.body("Record", document.examples(manifest))
        | {"parameters": [flag_parameter("explain", "Add what each field contributes")]},
    )
    async def predict(request: Request) -> JSONResponse:
        explain = flag(request, "explain")
        document.check_accept(request)
        body = await read_json(request, settings)
        if not isinstance(body, dict):
            raise _not_an_object(body)
        try:
            record = table.read(body)
        except RecordRejected as error:
            metrics.count_rows("api", 0, {r.code: 1 for r in error.rejections}, 1)
            raise
        score = scorer.score(record)
        scored.inc()
        metrics.PROBABILITY.observe(score.probability)
        answer = score_json(record, score)
        if explain:
            answer["explanation"] = explanation(scorer, record)
        return JSONResponse(answer)

    @routes.post(
        "/predict/many",
        summary=f"Score up to {settings.request_rows:,} patients",
        description="Each record is scored or rejected on its own; results keep the order.",
        responses=document.answers("Scores", 400, 401, 406, 408, 413, 415, 422, 500, 503),
        openapi_extra=document.body("Records", document.many_examples(manifest)),
    )
    async def predict_many(request: Request) -> JSONResponse:
        document.check_accept(request)
        body = await read_json(request, settings)
        if not isinstance(body, list):
            raise _malformed("the body must be an array of records")
        if len(body) > settings.request_rows:
            raise Problem("too_many_rows", f"a request may hold {settings.request_rows} records")
        return JSONResponse(_score_many(scorer, body))

    return routes


def _score_many(scorer: Scorer, items: list[object]) -> dict[str, Any]:
    found = [_read(scorer, item) for item in items]
    records = [entry for entry in found if not isinstance(entry, RecordRejected)]
    scores = iter(_scores(scorer, records))
    results: list[dict[str, Any]] = []
    codes: Counter[str] = Counter()
    for place, (item, read) in enumerate(zip(items, found, strict=True)):
        outcome = read if isinstance(read, RecordRejected) else next(scores)
        if isinstance(outcome, RecordRejected):
            faults = faults_of(outcome.rejections, f"/{place}")
            codes.update({rejection.code for rejection in outcome.rejections})
            results.append(
                {
                    "row": place + 1,
                    RECORD_ID: _own_id(item),
                    "errors": [entry(fault) for fault in faults],
                }
            )
        else:
            assert not isinstance(read, RecordRejected)  # noqa: S101  # scores are of records
            metrics.PROBABILITY.observe(outcome.probability)
            results.append({"row": place + 1} | score_json(read, outcome))
    rejected = sum("errors" in result for result in results)
    metrics.count_rows("api", len(items) - rejected, codes, rejected)
    rows = {"total": len(items), "scored": len(items) - rejected, "rejected": rejected}
    return {"rows": rows, "results": results}


def _read(scorer: Scorer, item: object) -> Record | RecordRejected:
    if not isinstance(item, dict):
        return RecordRejected((Rejection("malformed", limit="a record must be an object"),))
    try:
        return scorer.table.read(item)
    except RecordRejected as error:
        return error


def _scores(scorer: Scorer, records: list[Record]) -> list[Score | RecordRejected]:
    try:
        return list(scorer.score_many(records))
    except ModelFault:
        return [_score_alone(scorer, record) for record in records]


def _score_alone(scorer: Scorer, record: Record) -> Score | RecordRejected:
    try:
        return scorer.score(record)
    except ModelFault:
        return RecordRejected((Rejection("model_error"),))


def _own_id(item: object) -> str | None:
    """A rejected record's id, where it has a sound one."""
    found = item.get(RECORD_ID) if isinstance(item, dict) else None
    sound = isinstance(found, str) and len(found) <= RECORD_ID_LENGTH and is_text(found)
    return found if sound else None


def score_json(record: Record, score: Score) -> dict[str, Any]:
    """A score as it is sent."""
    return {
        RECORD_ID: record.patient_id,
        "probability": score.probability,
        "prediction": score.prediction,
        "model_version": score.model_version,
        "warnings": score.warnings,
    }


def explanation(scorer: Scorer, record: Record) -> dict[str, Any]:
    """Contributions in log-odds that with the intercept sum to the logit. Raises `Problem`."""
    explain = getattr(scorer.model, "explain", None)
    if explain is None:
        raise Problem("not_explained")
    row = np.array([[record.values[i] for i in scorer.table.used]], np.float32)
    try:
        _, contributions, intercept = explain(row)
    except KeyError as error:
        raise Problem("not_explained") from error
    # str() of a float32 is its shortest form.
    parts = (float(str(value)) for value in contributions[0])
    return {
        "unit": "log-odds",
        "intercept": float(str(intercept[0])),
        "contributions": dict(zip(scorer.table.used_names, parts, strict=True)),
    }


def _not_an_object(body: object) -> Problem:
    hint = "send arrays to /predict/many" if isinstance(body, list) else ""
    return _malformed("the body must be one record, an object", hint)


def _malformed(detail: str, hint: str = "") -> Problem:
    return Problem("record_rejected", detail, (Fault("", "malformed", detail, hint=hint or None),))
