"""The Open Inference Protocol in JSON and in binary, as its document says it."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from api.v2.tensors import KINDS
from shared.metrics import api_registry
from shared.records.artifact import Artifact
from shared.records.scoring import Scorer
from tests.api_client import a_client, errors_of
from tests.builders import golden_rows

LENGTH = "Inference-Header-Content-Length"
AGE, SEX = 54.0, 1.0


@pytest.fixture
def client(artifact: Artifact) -> TestClient:
    return a_client(artifact)


@pytest.fixture
def rows(artifact: Artifact) -> Any:
    return golden_rows(artifact.manifest)


@pytest.fixture
def expected(artifact: Artifact, rows: Any) -> list[float]:
    manifest = artifact.manifest
    scorer = Scorer(artifact.model, manifest.fields, manifest.threshold)
    return [float(str(p)) for p in scorer.probabilities(rows)]


def infer(client: TestClient, body: object, path: str = "/v2/models/heart-cleveland") -> Any:
    return client.post(f"{path}/infer", json=body)


def nested(values: Any) -> list[Any]:
    """Rows as JSON; NaN is null."""
    return [[None if v != v else float(v) for v in row] for row in values]


def whole(values: Any, **changes: Any) -> dict[str, Any]:
    tensor = {"name": "fields", "shape": list(values.shape), "datatype": "FP64"}
    return {"inputs": [tensor | {"data": nested(values)} | changes]}


def named(**columns: list[Any]) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": name, "shape": [len(data)], "datatype": "FP64", "data": data}
            for name, data in columns.items()
        ]
    }


def test_one_tensor_has_the_bits_of_the_one_scoring_path(
    client: TestClient, rows: Any, expected: list[float]
) -> None:
    answer = infer(client, whole(rows) | {"id": "call-7"})

    body = answer.json()
    assert answer.status_code == 200
    assert body["model_name"] == "heart-cleveland"
    assert body["id"] == "call-7"
    probability, prediction = body["outputs"]
    assert probability == {
        "name": "probability",
        "datatype": "FP32",
        "shape": [len(rows)],
        "data": expected,
    }
    assert prediction["data"] == [int(p >= 0.5) for p in expected]


def test_flat_data_is_row_by_row(client: TestClient, rows: Any, expected: list[float]) -> None:
    flat = [value for row in nested(rows) for value in row]

    assert infer(client, whole(rows, data=flat)).json()["outputs"][0]["data"] == expected


def test_one_tensor_a_field_may_leave_fields_out(client: TestClient) -> None:
    answer = infer(client, named(sex=[1, 0], age=[54, 60]))
    alone = client.post("/predict", json={"age": 54, "sex": 1}).json()

    assert answer.json()["outputs"][0]["data"][0] == alone["probability"]


def test_a_column_vector_is_accepted(client: TestClient) -> None:
    flat = named(age=[54, 60], sex=[1, 0])
    upright = named(age=[54, 60], sex=[1, 0])
    for tensor in upright["inputs"]:
        tensor["shape"] = [2, 1]
        tensor["data"] = [[value] for value in tensor["data"]]

    assert infer(client, upright).json()["outputs"] == infer(client, flat).json()["outputs"]


@pytest.mark.parametrize("datatype", [kind for kind in KINDS if kind != "BOOL"])
def test_every_number_type_is_read(client: TestClient, datatype: str) -> None:
    body = named(age=[54], sex=[1])
    expected = infer(client, body).json()["outputs"]
    for tensor in body["inputs"]:
        tensor["datatype"] = datatype

    assert infer(client, body).json()["outputs"] == expected


def test_a_field_of_two_codes_may_be_boolean(client: TestClient) -> None:
    expected = infer(client, named(age=[54, 60], sex=[1, 0])).json()["outputs"]
    body = named(age=[54, 60], sex=[True, False])
    body["inputs"][1]["datatype"] = "BOOL"

    assert infer(client, body).json()["outputs"] == expected


def test_only_wanted_outputs_come(client: TestClient) -> None:
    body = named(age=[54], sex=[1]) | {"outputs": [{"name": "prediction"}]}

    assert [output["name"] for output in infer(client, body).json()["outputs"]] == ["prediction"]


def test_no_rows_are_no_error(client: TestClient) -> None:
    assert infer(client, named(age=[], sex=[])).json()["outputs"][0]["data"] == []


@pytest.mark.parametrize(
    ("datatype", "kind"),
    [
        ("FP32", "<f4"),
        ("FP64", "<f8"),
        ("UINT8", "u1"),
        ("UINT16", "<u2"),
        ("UINT32", "<u4"),
        ("UINT64", "<u8"),
        ("FP16", "<f2"),
        ("INT8", "i1"),
        ("INT16", "<i2"),
        ("INT32", "<i4"),
        ("INT64", "<i8"),
    ],
)
def test_tensors_may_follow_the_json_in_binary(
    client: TestClient, datatype: str, kind: str
) -> None:
    columns = [np.array([AGE, 60], kind).tobytes(), np.array([SEX, 0], kind).tobytes()]
    body = {
        "parameters": {"binary_data_output": True},
        "inputs": [
            {
                "name": name,
                "shape": [2],
                "datatype": datatype,
                "parameters": {"binary_data_size": len(content)},
            }
            for name, content in zip(("age", "sex"), columns, strict=True)
        ],
    }
    text = json.dumps(body).encode()

    answer = client.post(
        "/v2/models/heart-cleveland/infer",
        content=text + b"".join(columns),
        headers={LENGTH: str(len(text)), "Content-Type": "application/octet-stream"},
    )

    length = int(answer.headers[LENGTH])
    head = json.loads(answer.content[:length])
    assert answer.headers["content-type"] == "application/octet-stream"
    sizes = [output["parameters"]["binary_data_size"] for output in head["outputs"]]
    assert sizes == [8, 8]
    found = np.frombuffer(answer.content[length : length + 8], "<f4")
    plain = infer(client, named(age=[AGE, 60], sex=[SEX, 0])).json()["outputs"][0]["data"]
    assert [float(str(p)) for p in found] == plain


def test_a_binary_and_a_json_output_may_be_mixed(client: TestClient) -> None:
    body = named(age=[54], sex=[1]) | {
        "outputs": [
            {"name": "probability", "parameters": {"binary_data": True}},
            {"name": "prediction"},
        ]
    }

    answer = infer(client, body)

    length = int(answer.headers[LENGTH])
    first, second = json.loads(answer.content[:length])["outputs"]
    assert "data" not in first
    assert second["data"] in ([0], [1])
    assert len(answer.content) == length + 4


def test_a_body_may_be_packed(client: TestClient) -> None:
    content = zlib.compress(json.dumps(named(age=[54], sex=[1])).encode())

    answer = client.post(
        "/v2/models/heart-cleveland/infer", content=content, headers={"Content-Encoding": "deflate"}
    )

    assert answer.status_code == 200


def test_values_are_held_to_the_limits_of_records(client: TestClient) -> None:
    answer = infer(client, named(age=[54, 5, None], sex=[1, 2, 1], chol=[5.2, 200, 1e300]))

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/json"
    assert errors_of(answer) == [
        ("/inputs/0/data/1", "out_of_range"),
        ("/inputs/0/data/2", "missing_required"),
        ("/inputs/1/data/1", "unknown_value"),
        ("/inputs/2/data/0", "out_of_range"),
        ("/inputs/2/data/2", "out_of_range"),
    ]


def test_refused_rows_are_counted_once_by_each_code(client: TestClient) -> None:
    def counted() -> list[float]:
        return [
            api_registry().get_sample_value(name, labels) or 0
            for name, labels in (
                ("heart_scorer_rows_total", {"source": "v2", "outcome": "rejected"}),
                ("heart_scorer_rejections_total", {"code": "out_of_range"}),
                ("heart_scorer_rejections_total", {"code": "unknown_value"}),
            )
        ]

    before = counted()
    infer(client, named(age=[54, 5, 5], sex=[1, 2, 1], chol=[200, 5.2, 200]))

    assert [now - then for now, then in zip(counted(), before, strict=True)] == [2, 2, 1]


def test_a_required_field_must_have_its_tensor(client: TestClient) -> None:
    answer = infer(client, named(age=[54]))

    assert answer.status_code == 422
    assert errors_of(answer) == [("", "missing_required")]
    assert answer.json()["errors"][0]["field"] == "sex"


def test_a_whole_tensors_faults_point_into_its_data(client: TestClient, rows: Any) -> None:
    rows[1, 0] = 500

    assert errors_of(infer(client, whole(rows))) == [
        (f"/inputs/0/data/{rows.shape[1]}", "out_of_range")
    ]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"shape": [1, 3]}, "/inputs/0/data"),
        ({"shape": [1, 1], "data": [[54]]}, "/inputs/0/shape"),
        ({"shape": [-1, 11]}, "/inputs/0/shape/0"),
        ({"shape": []}, "/inputs/0/shape"),
        ({"datatype": "BYTES"}, "/inputs/0/datatype"),
        ({"data": None}, "/inputs/0"),
        ({"data": [["x"]], "shape": [1, 1]}, "/inputs/0/data/0"),
        ({"data": [[True]], "shape": [1, 1]}, "/inputs/0/data/0"),
        (
            {"parameters": {"binary_data_size": 8}, "data": None},
            "/inputs/0/parameters/binary_data_size",
        ),
    ],
)
def test_a_malformed_tensor_is_named(
    client: TestClient, rows: Any, changes: dict[str, Any], pointer: str
) -> None:
    answer = infer(client, whole(rows[:1], **changes))

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_tensor")
    assert isinstance(answer.json()["error"], str)
    assert errors_of(answer)[0][0] == pointer


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (named(age=[54], sex=[1], weight=[80]), "/inputs/2/name"),
        ({"inputs": [*named(age=[54], sex=[1])["inputs"], *named(age=[54])["inputs"]]},
         "/inputs/2/name"),
        (named(age=[54], sex=[1, 1]), "/inputs/1/shape"),
        ({"inputs": []}, "/inputs"),
        ({}, "/inputs"),
        (named(age=[54], sex=[1]) | {"outputs": [{"name": "other"}]}, "/outputs/0/name"),
        (named(age=[10**400], sex=[1]), "/inputs/0/data"),
    ],
)  # fmt: skip
def test_what_fits_no_row_is_refused(client: TestClient, body: Any, pointer: str) -> None:
    answer = infer(client, body)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_tensor")
    assert errors_of(answer)[0][0] == pointer


def test_rows_have_a_limit(client: TestClient) -> None:
    answer = infer(client, named(age=[54] * 1001, sex=[1] * 1001))

    assert (answer.status_code, answer.json()["code"]) == (422, "too_many_rows")


@pytest.mark.parametrize("length", ["9999", "9" * 5000, "-1", "x", "٣"])
def test_the_length_of_the_json_part_must_fit(client: TestClient, length: str) -> None:
    answer = client.post(
        "/v2/models/heart-cleveland/infer",
        content=b"{}",
        headers={LENGTH.encode(): length.encode()},
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_tensor")
    assert LENGTH in answer.json()["detail"]


def test_bytes_that_no_tensor_names_are_refused(client: TestClient) -> None:
    text = json.dumps(named(age=[54], sex=[1])).encode()

    answer = client.post(
        "/v2/models/heart-cleveland/infer",
        content=text + b"more",
        headers={LENGTH: str(len(text))},
    )

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_tensor")
    assert "more bytes" in answer.json()["detail"]


def test_metadata_says_what_clients_look_for(client: TestClient, artifact: Artifact) -> None:
    version = artifact.manifest.version

    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    for path in ("/v2/models/heart-cleveland", f"/v2/models/heart-cleveland/versions/{version}"):
        model = client.get(path).json()
        assert model["versions"] == [version]
        assert model["inputs"][0]["shape"] == [-1, len(artifact.manifest.fields.used)]
        assert client.get(f"{path}/ready").json() == {"name": "heart-cleveland", "ready": True}
        assert infer(client, named(age=[54], sex=[1]), path).status_code == 200


@pytest.mark.parametrize(
    ("runtime", "file", "platform"),
    [
        ("onnx", "model.onnx", "onnxruntime_onnx"),
        ("sklearn", "model.skops", "sklearn_skops"),
        ("sklearn", "model.joblib", "sklearn_joblib"),
    ],
)
def test_the_platform_names_the_file_that_is_served(
    artifact: Artifact, runtime: str, file: str, platform: str
) -> None:
    manifest = artifact.manifest.model_copy(update={"runtime": runtime, "files": {file: "0"}})
    client = a_client(Artifact(manifest, artifact.sha256, artifact.model))

    assert client.get("/v2/models/heart-cleveland").json()["platform"] == platform


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/other",
        "/v2/models/other/ready",
        "/v2/models/heart-cleveland/versions/9",
        "/v2/models/heart-cleveland/stats",
        "/v2/repository/index",
    ],
)
def test_what_is_not_there_is_404_with_an_error_that_clients_read(
    client: TestClient, path: str
) -> None:
    answer = client.get(path)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    assert isinstance(answer.json()["error"], str)


def test_null_members_are_absent(client: TestClient) -> None:
    body = named(age=[54], sex=[1])
    expected = infer(client, body).json()["outputs"]
    for tensor in body["inputs"]:
        tensor["parameters"] = None
    body |= {"id": None, "parameters": None, "outputs": None}

    answer = infer(client, body)

    assert answer.json()["outputs"] == expected
    assert answer.json()["id"] == answer.headers["x-request-id"]


def test_an_empty_id_is_replaced(client: TestClient) -> None:
    answer = infer(client, named(age=[54], sex=[1]) | {"id": ""})

    assert answer.json()["id"] == answer.headers["x-request-id"]


def test_the_server_is_described_with_and_without_a_slash(client: TestClient) -> None:
    assert client.get("/v2/").json() == client.get("/v2").json()


@pytest.mark.parametrize("version", ["", "/versions/{version}"])
def test_the_config_names_the_tensors_as_triton_does(
    client: TestClient, artifact: Artifact, version: str
) -> None:
    path = "/v2/models/heart-cleveland" + version.format(version=artifact.manifest.version)

    config = client.get(f"{path}/config").json()

    fields = len(artifact.manifest.fields.used_names)
    assert config["name"] == "heart-cleveland"
    assert config["max_batch_size"] == 0
    assert config["input"] == [{"name": "fields", "data_type": "TYPE_FP32", "dims": [-1, fields]}]
    assert [tensor["name"] for tensor in config["output"]] == ["probability", "prediction"]
    assert client.get("/v2/models/other/config").status_code == 404
