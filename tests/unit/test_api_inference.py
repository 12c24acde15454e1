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
    scorer = Scorer(artifact.model, manifest.fields, manifest.answer_kind)
    return [float(str(p)) for p in scorer.outputs(rows)]


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


def test_with_one_tensor_per_field_some_fields_may_be_left_out(client: TestClient) -> None:
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


@pytest.mark.parametrize("datatype", [*(kind for kind in KINDS if kind != "BOOL"), "BYTES"])
def test_every_number_type_is_read(client: TestClient, datatype: str) -> None:
    body = named(age=[54], sex=[1])
    expected = infer(client, body).json()["outputs"]
    for tensor in body["inputs"]:
        tensor["datatype"] = datatype
        if datatype == "BYTES":
            tensor["data"] = [str(value) for value in tensor["data"]]

    assert infer(client, body).json()["outputs"] == expected


def typed(datatype: str, **columns: list[Any]) -> dict[str, Any]:
    body = named(**columns)
    for tensor in body["inputs"]:
        tensor["datatype"] = datatype
    return body


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("UINT8", 256), ("UINT8", -1), ("INT8", 128), ("INT32", 54.5), ("UINT64", 1e20)],
)
def test_a_number_that_its_datatype_cannot_hold_is_refused(
    client: TestClient, datatype: str, value: float
) -> None:
    answer = infer(client, typed(datatype, age=[54, value], sex=[1, 1]))

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_tensor")
    assert errors_of(answer) == [("/inputs/0/data/1", "malformed")]


def test_words_are_read_as_in_files(client: TestClient) -> None:
    body = named(age=[54, 60, 61], sex=[1, 0, 1], cp=[3, 0, None], chol=[233, None, 200])
    expected = infer(client, body).json()["outputs"]
    words = typed("BYTES", sex=["male", "F", "1"], cp=["Asymptomatic", "typical-angina", ""])
    words["inputs"] += named(age=[54, 60, 61])["inputs"]
    words["inputs"] += typed("BYTES", chol=["233", "n/a", "200.0"])["inputs"]

    assert infer(client, words).json()["outputs"] == expected


def test_words_that_a_field_does_not_know_are_refused_without_showing_them(
    client: TestClient,
) -> None:
    body = typed("BYTES", sex=["Mustermann", "male"], age=["54", "old"])

    answer = infer(client, body)

    assert errors_of(answer) == [
        ("/inputs/1/data/1", "not_a_number"),
        ("/inputs/0/data/0", "unknown_value"),
    ]
    assert "Mustermann" not in answer.text


def test_the_error_says_where_and_what(client: TestClient) -> None:
    refused = infer(client, named(age=[54, 5], sex=[1, 2])).json()["error"]
    malformed = infer(client, {"inputs": [{"name": "age", "data": [54]}]}).json()["error"]

    assert "/inputs/0/data/1: age must be from 18 to 110 years" in refused
    assert "/inputs/1/data/1: sex must be" in refused
    assert "/inputs/0/shape: Field required" in malformed


def test_a_field_of_more_than_two_codes_takes_no_booleans(client: TestClient) -> None:
    body = named(age=[54], sex=[1])
    body["inputs"] += typed("BOOL", cp=[True])["inputs"]

    assert errors_of(infer(client, body)) == [("/inputs/2/data/0", "unknown_value")]


def test_missing_numbers_may_be_null_or_nan(client: TestClient) -> None:
    expected = infer(client, named(age=[54], sex=[1])).json()["outputs"]
    for missing in ("null", "NaN"):
        text = json.dumps(named(age=[54], sex=[1], chol=["?"])).replace('"?"', missing)

        answer = client.post("/v2/models/heart-cleveland/infer", content=text)

        assert answer.json()["outputs"] == expected


@pytest.mark.parametrize("text", ["Infinity", "-Infinity"])
def test_infinity_is_not_json(client: TestClient, text: str) -> None:
    content = json.dumps(named(age=[54], sex=["?"])).replace('"?"', text)

    answer = client.post("/v2/models/heart-cleveland/infer", content=content)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")


def test_checked_fields_that_the_model_does_not_use_may_be_sent(client: TestClient) -> None:
    expected = infer(client, named(age=[54], sex=[1])).json()["outputs"]

    assert infer(client, named(age=[54], sex=[1], fbs=[0])).json()["outputs"] == expected
    refused = infer(client, named(age=[54], sex=[1], fbs=[7]))
    assert errors_of(refused) == [("/inputs/2/data/0", "unknown_value")]


@pytest.mark.parametrize(
    ("datatype", "ids", "expected"),
    [
        ("BYTES", ["A-7", None], ["A-7", ""]),
        ("INT64", [9007199254740993, 8], ["9007199254740993", "8"]),
        ("FP64", [1.5, None], ["1.5", ""]),
    ],
)
def test_ids_come_back(
    client: TestClient, datatype: str, ids: list[Any], expected: list[str]
) -> None:
    body = typed(datatype, patient_id=ids)
    body["inputs"] += named(age=[54, 60], sex=[1, 0])["inputs"]

    outputs = {output["name"]: output for output in infer(client, body).json()["outputs"]}

    assert list(outputs) == ["probability", "prediction", "patient_id"]
    assert (outputs["patient_id"]["datatype"], outputs["patient_id"]["shape"]) == ("BYTES", [2])
    assert outputs["patient_id"]["data"] == expected


def test_ids_may_come_with_one_tensor_of_all_fields(
    client: TestClient, rows: Any, expected: list[float]
) -> None:
    body = typed("BYTES", patient_id=[f"A-{i}" for i in range(len(rows))])
    body["inputs"] += whole(rows)["inputs"]

    outputs = infer(client, body).json()["outputs"]

    assert outputs[0]["data"] == expected
    assert outputs[2]["data"][0] == "A-0"


def test_an_id_that_cannot_be_shown_is_refused(client: TestClient) -> None:
    body = typed("BYTES", patient_id=["A-7", "x" * 129])
    body["inputs"] += named(age=[54, 60], sex=[1, 0])["inputs"]

    assert errors_of(infer(client, body)) == [("/inputs/0/data/1", "too_long")]


def test_ids_that_were_not_sent_cannot_be_wanted(client: TestClient) -> None:
    body = named(age=[54], sex=[1]) | {"outputs": [{"name": "patient_id"}]}

    assert errors_of(infer(client, body)) == [("/outputs/0/name", "malformed")]


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


def with_binary(datatype: str, content: bytes, name: str = "sex") -> tuple[bytes, dict[str, str]]:
    """A request of one row with an age in JSON and one tensor in binary."""
    body = named(age=[54])
    parameters = {"binary_data_size": len(content)}
    tensor = {"name": name, "shape": [1], "datatype": datatype, "parameters": parameters}
    body["inputs"].append(tensor)
    text = json.dumps(body).encode()
    return text + content, {LENGTH: str(len(text))}


@pytest.mark.parametrize(
    ("datatype", "content"),
    [("BYTES", b"\x04\x00\x00\x00male"), ("BOOL", b"\x01"), ("BF16", b"\x80\x3f")],
)
def test_words_booleans_and_bf16_may_follow_in_binary(
    client: TestClient, datatype: str, content: bytes
) -> None:
    sent, headers = with_binary(datatype, content)

    answer = client.post("/v2/models/heart-cleveland/infer", content=sent, headers=headers)

    expected = infer(client, named(age=[54], sex=[1])).json()["outputs"]
    assert answer.json()["outputs"] == expected


@pytest.mark.parametrize(
    ("datatype", "content", "pointer"),
    [
        ("BYTES", b"\x05\x00\x00\x00male", "/inputs/1/parameters/binary_data_size"),
        ("BYTES", b"\x04\x00", "/inputs/1/parameters/binary_data_size"),
        ("BYTES", b"\x00\x00\x00\x00" * 2, "/inputs/1/parameters/binary_data_size"),
        ("BYTES", b"", "/inputs/1/parameters/binary_data_size"),
        ("BYTES", b"\x01\x00\x00\x00\xff", "/inputs/1/data/0"),
        ("BOOL", b"\x02", "/inputs/1/data/0"),
        ("BF16", b"\x80", "/inputs/1/parameters/binary_data_size"),
    ],
)
def test_binary_that_does_not_fit_its_datatype_is_refused(
    client: TestClient, datatype: str, content: bytes, pointer: str
) -> None:
    sent, headers = with_binary(datatype, content)

    answer = client.post("/v2/models/heart-cleveland/infer", content=sent, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_tensor")
    assert errors_of(answer)[0][0] == pointer


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
        ({"datatype": "FP8"}, "/inputs/0/datatype"),
        ({"datatype": "BYTES"}, "/inputs/0/data/0"),
        ({"datatype": "BOOL"}, "/inputs/0/data"),
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
def test_tensors_that_do_not_fit_the_model_are_refused(
    client: TestClient, body: Any, pointer: str
) -> None:
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
def test_an_unknown_path_is_404_with_an_error_that_clients_read(
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
