"""Scores while the caller waits: one record, or up to a thousand."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from api import document
from api.body import read_json
from api.problems import Fault, Problem, entry, faults_of
from api.routes import JsonAnswer, Routes, check_accept, flag, flag_parameter
from api.turns import TurnScorer
from shared import metrics
from shared.errors import RecordRejected
from shared.fields import NAMED_UNKNOWN, RECORD_ID, Record, Rejection, printable, read_id
from shared.scoring import Score, Scorer, shortest
from shared.strict_json import DuplicateKeys

if TYPE_CHECKING:
    from shared.artifact import Manifest
    from shared.fields import FieldTable
    from shared.settings import ApiSettings


NO_OBJECT = "a record must be a JSON object"
NO_ANSWER = RecordRejected((Rejection("model_error"),))


def routes(scorer: Scorer, manifest: Manifest, settings: ApiSettings) -> Routes:
    """`/predict` and `/predict/many`."""
    routes = Routes("Scores")
    table = scorer.table
    turns = TurnScorer(scorer)
    scored = metrics.ROWS.labels("api", "scored")

    @routes.post(
        "/predict",
        summary="Score one patient",
        description=document.predict_description(manifest),
        responses=document.answers("Score", 400, 401, 406, 408, 413, 415, 422, 500, 503),
        openapi_extra=document.body("Record", document.examples(manifest))
        | {"parameters": [flag_parameter("explain", "Add what each field contributes")]},
    )
    async def predict(request: Request) -> JsonAnswer:
        explain = flag(request, "explain")
        check_accept(request)
        body = await read_json(request, settings)
        try:
            record = _read(table, body)
        except RecordRejected as error:
            metrics.count_rows("api", 0, {r.code: 1 for r in error.rejections}, 1)
            raise
        score = await turns.score(record)
        scored.inc()
        metrics.PROBABILITY.observe(score.probability)
        answer = {RECORD_ID: record.patient_id} | _score_json(score)
        if explain:
            answer["explanation"] = _explanation(scorer, record)
        return JsonAnswer(answer)

    @routes.post(
        "/predict/many",
        summary=f"Score up to {settings.request_rows:,} patients",
        description="Each record is scored or rejected on its own; results keep the order.",
        responses=document.answers("Scores", 400, 401, 406, 408, 413, 415, 422, 500, 503),
        openapi_extra=document.body("Records", document.many_examples(manifest)),
    )
    async def predict_many(request: Request) -> JsonAnswer:
        check_accept(request)
        body = await read_json(request, settings)
        if not isinstance(body, list):
            fault = Fault("", "malformed", "the body must be an array of records")
            raise Problem("record_rejected", faults=(fault,))
        if len(body) > settings.request_rows:
            raise Problem("too_many_rows", f"a request may hold {settings.request_rows} records")
        return JsonAnswer(_score_many(scorer, body))

    return routes


def _read(table: FieldTable, item: object) -> Record:
    """Check parsed JSON that should be a record. Raises `RecordRejected`."""
    if isinstance(item, list):
        hint = "send arrays to /predict/many"
        raise RecordRejected((Rejection("malformed", limit=NO_OBJECT, hint=hint),))
    if not isinstance(item, dict):
        raise RecordRejected((Rejection("malformed", limit=NO_OBJECT),))
    if isinstance(item, DuplicateKeys):
        names = item.names[:NAMED_UNKNOWN]
        raise RecordRejected(tuple(Rejection("duplicate_field", printable(n)) for n in names))
    return table.read(item)


def _score_many(scorer: Scorer, items: list[object]) -> dict[str, Any]:
    found = [_record_or_fault(scorer.table, item) for item in items]
    records = [record for record in found if isinstance(record, Record)]
    scores = iter(scorer.score_each(records))
    codes: Counter[str] = Counter()
    results: list[dict[str, Any]] = []
    for place, record in enumerate(found):
        outcome = (next(scores) or NO_ANSWER) if isinstance(record, Record) else record
        result: dict[str, Any] = {"row": place + 1, RECORD_ID: _own_id(items[place])}
        if isinstance(outcome, RecordRejected):
            codes.update({rejection.code for rejection in outcome.rejections})
            faults = faults_of(outcome.rejections, f"/{place}")
            result["errors"] = [entry(fault) for fault in faults]
        else:
            metrics.PROBABILITY.observe(outcome.probability)
            result |= _score_json(outcome)
        results.append(result)
    rejected = sum("errors" in result for result in results)
    metrics.count_rows("api", len(items) - rejected, codes, rejected)
    rows = {"total": len(items), "scored": len(items) - rejected, "rejected": rejected}
    return {"rows": rows, "results": results}


def _record_or_fault(table: FieldTable, item: object) -> Record | RecordRejected:
    try:
        return _read(table, item)
    except RecordRejected as error:
        return error


def _own_id(item: object) -> str | None:
    """A record's id, also of a rejected one when the id itself is sound."""
    if not isinstance(item, dict) or RECORD_ID in getattr(item, "names", ()):
        return None
    with suppress(RecordRejected):
        return read_id(item.get(RECORD_ID))
    return None


def _score_json(score: Score) -> dict[str, Any]:
    return {
        "probability": score.probability,
        "prediction": score.prediction,
        "model_version": score.model_version,
        "warnings": score.warnings,
    }


def _explanation(scorer: Scorer, record: Record) -> dict[str, Any]:
    """Contributions in log-odds that with the intercept sum to the logit. Raises `Problem`."""
    explain = getattr(scorer.model, "explain", None)
    if explain is None:
        raise Problem("not_explained")
    try:
        _, contributions, intercept = explain(scorer.rows([record]))
    except KeyError as error:
        raise Problem("not_explained") from error
    parts = map(shortest, contributions[0])
    return {
        "unit": "log-odds",
        "intercept": shortest(intercept[0]),
        "contributions": dict(zip(scorer.table.used_names, parts, strict=True)),
    }
