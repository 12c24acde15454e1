"""Errors: one form everywhere, and never a value of the request in them or in the logs."""

from __future__ import annotations

import gzip
import io
import json
import logging
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from api.problems import KINDS
from shared.logs import configure_logging
from shared.records.artifact import Artifact
from tests.api_client import FakeStorage, a_client
from tests.builders import a_patient
from tests.fakes_model import FakeModel
from training.heart.fields import TABLE

MARK = "Mustermann77"
NUMBER = 777123456
MARKS = (MARK, str(NUMBER), MARK.lower())


class Call(NamedTuple):
    """A request that fails."""

    method: str
    path: str
    status: int
    content: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})


JSON = {"Content-Type": "application/json"}
INFER = "/v2/models/heart-cleveland/infer"


def as_json(path: str, status: int, value: object) -> Call:
    return Call("POST", path, status, json.dumps(value).encode(), JSON)


def a_tensor(**changes: object) -> dict[str, Any]:
    tensor = {"name": "age", "shape": [1], "datatype": "FP64", "data": [NUMBER]} | changes
    return {"inputs": [{name: value for name, value in tensor.items() if value is not None}]}


FIELDS = tuple(TABLE.by_name)

CALLS = [
    Call("GET", f"/{MARK}", 404),
    Call("GET", f"/batches/{MARK}!", 404),
    Call("GET", f"/v2/models/{MARK}", 404),
    Call("GET", f"/v2/{MARK}", 404),
    Call("GET", f"/static/{MARK}.js", 404),
    Call("GET", f"/predict?name={MARK}", 405),
    Call("DELETE", "/model", 405),
    Call("GET", "/model", 406, headers={"Accept": f"text/{MARK}"}),
    Call("POST", "/predict", 406, b"{}", JSON | {"Accept": f"text/{MARK}"}),
    Call("POST", "/predict", 415, b"{}", {"Content-Type": f"text/{MARK}"}),
    Call("POST", "/predict", 415, b"{}", JSON | {"Content-Encoding": MARK}),
    Call("POST", "/predict", 400, f'{{"age": {MARK}}}'.encode(), JSON),
    Call("POST", "/predict", 400, f'{{"{MARK}": '.encode(), JSON),
    Call("POST", "/predict", 400, MARK.encode() + b"\xff", JSON),
    Call("POST", "/predict", 400, MARK.encode(), JSON | {"Content-Encoding": "gzip"}),
    Call("POST", "/predict", 400, gzip.compress(MARK.encode(), mtime=0)[:-3], JSON)
    ._replace(headers=JSON | {"Content-Encoding": "gzip"}),
    Call("POST", "/predict", 413, MARK.encode() * 100_000, JSON),
    as_json(f"/predict?explain={MARK}", 422, a_patient()),
    as_json("/predict", 422, MARK),
    as_json("/predict", 422, [MARK]),
    as_json("/predict", 422, a_patient(patient_id=MARK * 20)),
    as_json("/predict", 422, a_patient(patient_id=[MARK])),
    as_json("/predict", 422, a_patient(patient_id=MARK + "\x00")),
    *(as_json("/predict", 422, a_patient(**{name: MARK})) for name in FIELDS),
    *(as_json("/predict", 422, a_patient(**{name: NUMBER})) for name in FIELDS),
    *(as_json("/predict", 422, a_patient(**{name: {MARK: MARK}})) for name in FIELDS),
    as_json("/predict", 422, a_patient(unknown=MARK)),
    as_json("/predict/many", 422, [MARK] * 1001),
    as_json("/predict/many", 422, {"records": MARK}),
    as_json(INFER, 400, MARK),
    as_json(INFER, 400, {"id": MARK * 20, **a_tensor()}),
    as_json(INFER, 400, a_tensor(name=MARK, shape=[1])),
    as_json(INFER, 400, a_tensor(datatype=MARK)),
    as_json(INFER, 400, a_tensor(shape=[MARK])),
    as_json(INFER, 400, a_tensor(shape=[NUMBER - NUMBER + 2])),
    as_json(INFER, 400, a_tensor(data=[MARK])),
    as_json(INFER, 400, a_tensor(data=MARK)),
    as_json(INFER, 400, a_tensor(parameters={"binary_data_size": NUMBER}, data=None)),
    as_json(INFER, 400, a_tensor() | {"outputs": [{"name": MARK}]}),
    as_json(INFER, 422, a_tensor(shape=[NUMBER])),
    as_json(INFER, 422, a_tensor()),
    Call("POST", INFER, 400, b"{}" + MARK.encode(), {"Inference-Header-Content-Length": MARK}),
    Call("POST", "/batches", 415, MARK.encode(), {"Content-Type": f"text/{MARK}"}),
    Call("POST", "/batches", 422, b"x", {"Content-Type": "text/csv", "Idempotency-Key": f"{MARK} "
         f"{MARK}"}),
    Call("POST", f"/batches?include_input={MARK}", 422, b"x", {"Content-Type": "text/csv"}),
    Call("POST", "/batches", 400, MARK.encode(), {"Content-Type": "text/csv"})
    ._replace(headers={"Content-Type": "text/csv", "Content-Encoding": "gzip"}),
]  # fmt: skip


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """All that this process logs, as it would write it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("debug", stream)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # the test's own client logs its URLs
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path[:30]}")
def test_no_error_shows_a_value_of_the_request(
    call: Call, artifact: Artifact, logs: io.StringIO
) -> None:
    client = a_client(artifact, FakeStorage().connect)

    answer = client.request(
        call.method,
        call.path,
        content=call.content,
        headers={**call.headers} | {"X-Request-ID": f"{MARK} {MARK}", "X-API-Key": MARK},
    )

    assert answer.status_code == call.status
    shown = answer.text + str(answer.headers) + logs.getvalue()
    assert [mark for mark in MARKS if mark in shown] == []
    assert "Traceback" not in shown
    assert_is_problem(answer, call.path)


def assert_is_problem(answer: Any, path: str) -> None:
    body = answer.json()
    media_type = "application/json" if path.startswith("/v2") else "application/problem+json"
    assert answer.headers["content-type"] == media_type
    assert isinstance(body["error"], str)
    assert body["status"] == answer.status_code == KINDS[body["code"]].status
    assert body["type"] == f"/problems#{body['code']}"
    assert body["instance"] == answer.headers["x-request-id"]


class Unscoring(FakeModel):
    """Raises where the API expects that a model may."""

    def outputs(self, rows: Any) -> Any:
        raise ValueError(f"{MARK} is wrong")


class Unexplaining(FakeModel):
    """Raises where the API expects no error."""

    def explain(self, rows: Any) -> Any:
        raise ValueError(f"{MARK} is wrong")


@pytest.mark.parametrize(
    ("model", "code", "error"),
    [
        (Unscoring(), "model_error", "ModelFault"),
        (Unexplaining(), "internal_error", "ValueError"),
    ],
)
def test_what_fails_here_shows_neither_values_nor_traceback(
    artifact: Artifact, logs: io.StringIO, model: FakeModel, code: str, error: str
) -> None:
    client = a_client(Artifact(artifact.manifest, artifact.sha256, model))

    answer = client.post("/predict?explain=true", json=a_patient(patient_id=MARK))

    assert (answer.status_code, answer.json()["code"]) == (500, code)
    shown = answer.text + logs.getvalue()
    assert MARK not in shown
    assert "Traceback" not in shown
    assert_is_problem(answer, "/predict")
    [failed] = [line for line in logs.getvalue().splitlines() if "request_failed" in line]
    assert json.loads(failed)["request_id"] == answer.json()["instance"]
    assert json.loads(failed)["error"] == error


def test_a_key_is_asked_for_without_showing_the_one_given(
    artifact: Artifact, logs: io.StringIO
) -> None:
    client = a_client(artifact, api_keys="right-key")

    answer = client.post("/predict", json=a_patient(), headers={"X-API-Key": MARK})

    assert answer.status_code == 401
    assert MARK not in answer.text + logs.getvalue()
    assert_is_problem(answer, "/predict")


def test_405_names_the_methods(artifact: Artifact) -> None:
    assert a_client(artifact).get("/predict").headers["allow"] == "POST, OPTIONS"
