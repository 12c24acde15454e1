"""Scores while the caller waits: one record, or up to a thousand."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from api import document
from api.body import read_json
from api.problems import Fault, Problem, entry, faults_of
from api.routes import JsonText, Routes, check_accept, encode, flag, flag_parameter
from api.turns import TurnScorer
from shared import metrics
from shared.records.errors import FieldError, RecordRejected
from shared.records.schema import NAMED_UNKNOWN, RECORD_ID, Record, printable, read_id
from shared.records.scoring import Score, Scorer, shortest
from shared.records.strict_json import DuplicateKeys

if TYPE_CHECKING:
    from shared.records.artifact import Manifest
    from shared.records.schema import FieldTable
    from shared.settings import ApiSettings


NO_OBJECT = "a record must be a JSON object"
NO_ANSWER = RecordRejected((FieldError("model_error"),))


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
    async def predict(request: Request) -> JsonText:
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
        answer = f"{_id_json(record.patient_id)},{_score_json(score)}"
        if explain:
            answer += f',"explanation":{encode(_explanation(scorer, record))}'
        return JsonText(f"{{{answer}}}")

    @routes.post(
        "/predict/many",
        summary=f"Score up to {settings.request_rows:,} patients",
        description="Each record is scored or rejected on its own; results keep the order.",
        responses=document.answers("Scores", 400, 401, 406, 408, 413, 415, 422, 500, 503),
        openapi_extra=document.body("Records", document.many_examples(manifest)),
    )
    async def predict_many(request: Request) -> JsonText:
        check_accept(request)
        body = await read_json(request, settings)
        if not isinstance(body, list):
            fault = Fault("", "malformed", "the body must be an array of records")
            raise Problem("record_rejected", faults=(fault,))
        if len(body) > settings.request_rows:
            raise Problem("too_many_rows", f"a request may hold {settings.request_rows} records")
        return JsonText(_score_many(scorer, body))

    return routes


def _read(table: FieldTable, item: object) -> Record:
    """Check parsed JSON that should be a record. Raises `RecordRejected`."""
    if isinstance(item, list):
        hint = "send arrays to /predict/many"
        raise RecordRejected((FieldError("malformed", limit=NO_OBJECT, hint=hint),))
    if not isinstance(item, dict):
        raise RecordRejected((FieldError("malformed", limit=NO_OBJECT),))
    if isinstance(item, DuplicateKeys):
        names = item.names[:NAMED_UNKNOWN]
        raise RecordRejected(tuple(FieldError("duplicate_field", printable(n)) for n in names))
    return table.read(item)


def _score_many(scorer: Scorer, items: list[object]) -> str:
    found = [_record_or_fault(scorer.table, item) for item in items]
    records = [record for record in found if isinstance(record, Record)]
    scores = iter(scorer.score_each(records))
    codes: Counter[str] = Counter()
    results: list[str] = []
    rejected = 0
    for place, record in enumerate(found):
        outcome = (next(scores) or NO_ANSWER) if isinstance(record, Record) else record
        if isinstance(outcome, RecordRejected):
            rejected += 1
            codes.update({rejection.code for rejection in outcome.rejections})
            faults = faults_of(outcome.rejections, f"/{place}")
            result = f'"errors":{encode([entry(fault) for fault in faults])}'
        else:
            metrics.PROBABILITY.observe(outcome.probability)
            result = _score_json(outcome)
        own_id = _id_json(_own_id(items[place]))
        results.append(f'{{"row":{place + 1},{own_id},{result}}}')
    metrics.count_rows("api", len(items) - rejected, codes, rejected)
    rows = {"total": len(items), "scored": len(items) - rejected, "rejected": rejected}
    return f'{{"rows":{encode(rows)},"results":[{",".join(results)}]}}'


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


def _id_json(patient_id: str | None) -> str:
    return f'"{RECORD_ID}":{"null" if patient_id is None else encode(patient_id)}'


def _score_json(score: Score) -> str:
    """A score's members: of a dictionary the encoder takes four times as long."""
    return (
        f'"probability":{score.probability!r},"prediction":{score.prediction},'
        f'"model_version":{encode(score.model_version)},'
        f'"warnings":{encode(score.warnings) if score.warnings else "[]"}'
    )


def _explanation(scorer: Scorer, record: Record) -> dict[str, Any]:
    """Contributions in log-odds that with the intercept sum to the logit. Raises `Problem`."""
    explain = getattr(scorer.model, "explain", None)
    if explain is None:
        raise Problem("not_explained")
    try:
        contributions, intercept = explain(scorer.rows([record]))
    except KeyError as error:
        raise Problem("not_explained") from error
    parts = map(shortest, contributions[0])
    return {
        "unit": "log-odds",
        "intercept": shortest(intercept[0]),
        "contributions": dict(zip(scorer.table.used_names, parts, strict=True)),
    }
