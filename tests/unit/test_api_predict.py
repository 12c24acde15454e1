"""POST /predict and /predict/many."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from shared.records.artifact import Artifact
from shared.records.scoring import Scorer
from tests.api_client import a_client, errors_of
from tests.builders import a_patient
from tests.fakes_model import FailingModel


@pytest.fixture
def client(artifact: Artifact) -> TestClient:
    return a_client(artifact)


def test_the_tutorials_request_is_answered(client: TestClient) -> None:
    answer = client.post(
        "/predict", json={"age": 63, "sex": 1, "cp": 3, "trestbps": 145, "chol": 233}
    )

    assert answer.status_code == 200
    assert 0.5 < answer.json()["probability"] < 1
    assert answer.json()["prediction"] == 1


def test_a_score_has_the_bits_of_the_one_scoring_path(
    client: TestClient, artifact: Artifact
) -> None:
    manifest = artifact.manifest
    scorer = Scorer(artifact.model, manifest.fields, manifest.answer_kind)

    for golden in manifest.golden:
        expected = scorer.score(manifest.fields.read(golden.record))
        answer = client.post("/predict", json=golden.record).json()

        assert answer["probability"] == expected.members["probability"]
        assert answer["prediction"] == expected.members["prediction"]
        assert answer["model_version"] == manifest.version


def test_words_and_codes_mean_the_same(client: TestClient) -> None:
    codes = client.post("/predict", json=a_patient(sex=0, cp=3))
    words = client.post("/predict", json=a_patient(sex="Female", cp="asymptomatic"))

    assert codes.json() == words.json()


def test_the_patients_id_comes_back(client: TestClient) -> None:
    assert client.post("/predict", json=a_patient(patient_id="A-7")).json()["patient_id"] == "A-7"
    assert client.post("/predict", json=a_patient()).json()["patient_id"] is None


def test_a_value_outside_the_training_range_is_scored_with_a_warning(client: TestClient) -> None:
    answer = client.post("/predict", json=a_patient(age=90))

    assert answer.status_code == 200
    assert answer.json()["warnings"] == ["age outside training range 29 to 77 years"]


def test_every_fault_of_a_record_is_named_at_once(client: TestClient) -> None:
    answer = client.post(
        "/predict", json={"sex": "x", "chol": 5.2, "trestbps": "high", "cholesterl": 1}
    )

    assert answer.status_code == 422
    assert errors_of(answer) == [
        ("/cholesterl", "unknown_field"),
        ("/age", "missing_required"),
        ("/sex", "unknown_value"),
        ("/trestbps", "not_a_number"),
        ("/chol", "out_of_range"),
    ]
    chol = answer.json()["errors"][-1]
    assert (chol["field"], chol["limit"], chol["unit"]) == ("chol", "50 to 700 mg/dl", "mg/dl")
    assert "mmol/l" in chol["hint"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_json"),
        (b"{", 400, "malformed_json"),
        (b'{"age": NaN}', 400, "malformed_json"),
        (b'{"age": 1' + b"0" * 5000 + b"}", 400, "malformed_json"),
        (b"\xff\xfe{}", 400, "malformed_json"),
        (b"[]", 422, "record_rejected"),
        (b"3", 422, "record_rejected"),
        (b'{"age":50,"age":51,"sex":1}', 422, "record_rejected"),
        (b'{"age":1e999,"sex":1}', 422, "record_rejected"),
        (b'{"age":50,"sex":1,"patient_id":"a\\u0000"}', 422, "record_rejected"),
    ],
)
def test_a_body_that_is_not_a_record_is_a_problem(
    client: TestClient, body: bytes, status: int, code: str
) -> None:
    answer = client.post("/predict", content=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_contributions_and_intercept_sum_to_the_logit(
    client: TestClient, artifact: Artifact
) -> None:
    for golden in artifact.manifest.golden:
        answer = client.post("/predict?explain=true", json=golden.record).json()
        plain = client.post("/predict", json=golden.record).json()

        parts = answer["explanation"]
        total = parts["intercept"] + math.fsum(parts["contributions"].values())
        logit = math.log(answer["probability"] / (1 - answer["probability"]))
        assert total == pytest.approx(logit, abs=2e-5)
        assert answer["probability"] == plain["probability"]
        assert list(parts["contributions"]) == list(artifact.manifest.fields.used_names)


def test_a_model_that_explains_nothing_says_so(artifact: Artifact) -> None:
    client = a_client(Artifact(artifact.manifest, artifact.sha256, FailingModel(1)))

    answer = client.post("/predict?explain=1", json=a_patient())

    assert (answer.status_code, answer.json()["code"]) == (422, "not_explained")


def test_a_wrong_parameter_is_named(client: TestClient) -> None:
    answer = client.post("/predict?explain=maybe", json=a_patient())

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_parameter")
    assert answer.json()["errors"][0]["field"] == "explain"


def test_many_records_are_scored_or_rejected_each_on_its_own_in_order(client: TestClient) -> None:
    records: list[Any] = [a_patient(patient_id=str(i), age=30 + i % 40) for i in range(1000)]
    records[3] = a_patient(age=None, patient_id="no age")
    records[7] = "no object"

    answer = client.post("/predict/many", json=records)

    assert answer.status_code == 200
    body = answer.json()
    assert body["rows"] == {"total": 1000, "scored": 998, "rejected": 2}
    assert [result["row"] for result in body["results"]] == list(range(1, 1001))
    assert body["results"][3]["patient_id"] == "no age"
    assert body["results"][3]["errors"][0]["pointer"] == "/3/age"
    assert body["results"][7]["errors"][0]["code"] == "malformed"
    alone = client.post("/predict", json=records[500]).json()
    assert body["results"][500] == {"row": 501} | alone


def test_no_records_are_no_error(client: TestClient) -> None:
    assert client.post("/predict/many", json=[]).json() == {
        "rows": {"total": 0, "scored": 0, "rejected": 0},
        "results": [],
    }


def test_more_records_than_the_limit_are_refused(client: TestClient) -> None:
    answer = client.post("/predict/many", json=[{}] * 1001)

    assert (answer.status_code, answer.json()["code"]) == (422, "too_many_rows")
    assert "1000" in answer.json()["detail"]


def test_a_single_record_is_no_array(client: TestClient) -> None:
    assert client.post("/predict/many", json=a_patient()).status_code == 422


def test_where_the_model_has_no_answer_only_that_record_is_without_score(
    artifact: Artifact,
) -> None:
    client = a_client(Artifact(artifact.manifest, artifact.sha256, FailingModel(66)))

    alone = client.post("/predict", json=a_patient(age=66))
    many = client.post("/predict/many", json=[a_patient(), a_patient(age=66), a_patient()])

    assert (alone.status_code, alone.json()["code"]) == (500, "model_error")
    assert many.json()["rows"] == {"total": 3, "scored": 2, "rejected": 1}
    assert many.json()["results"][1]["errors"][0]["code"] == "model_error"


def test_a_model_that_lost_its_golden_answers_is_not_ready(artifact: Artifact) -> None:
    class Drifted(FailingModel):
        def outputs(self, rows: Any) -> Any:
            return np.full(len(rows), 0.5, np.float32)

    client = a_client(Artifact(artifact.manifest, artifact.sha256, Drifted(1)))

    assert client.get("/readyz").status_code == 503
    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/livez").status_code == 200


def test_an_answer_is_json_that_round_trips(client: TestClient) -> None:
    answer = client.post("/predict", json=a_patient())

    probability = json.loads(answer.text)["probability"]
    assert float(str(np.float32(probability))) == probability
