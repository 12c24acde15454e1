"""Triton's own client, synchronous and asynchronous, in JSON and in binary."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tritonclient import http as triton
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.api_process import RunningApi
from tests.clients.conftest import Score

MODEL = "heart-cleveland"
FORMS = pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])


@pytest.fixture
def client(api: RunningApi) -> Iterator[Any]:
    opened = triton.InferenceServerClient(f"127.0.0.1:{api.port}")
    yield opened
    opened.close()


def tensor(name: str, values: Any, *, binary: bool) -> Any:
    made = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    return made.set_data_from_numpy(values, binary_data=binary)


def probabilities(answer: Any) -> list[float]:
    return [float(str(value)) for value in answer.as_numpy("probability")]


@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
@pytest.mark.parametrize("wants", ["nothing said", "binary", "json"])
def test_a_binary_tensor_of_all_fields_is_scored(
    client: Any, score: Score, wants: str, packing: str | None
) -> None:
    columns = client.get_model_metadata(MODEL)["inputs"][0]["parameters"]["columns"]
    record = {"age": 63, "sex": 1, "cp": 3, "chol": 233}
    rows = np.array([[record.get(name, np.nan) for name in columns]], np.float32)
    outputs = None
    if wants != "nothing said":
        outputs = [triton.InferRequestedOutput("probability", binary_data=wants == "binary")]

    answer = client.infer(
        MODEL,
        [tensor("fields", rows, binary=True)],
        outputs=outputs,
        request_id="call-7",
        request_compression_algorithm=packing,
        response_compression_algorithm=packing,
    )

    assert answer.get_response()["id"] == "call-7"
    assert probabilities(answer) == [score(**record)]


@FORMS
@pytest.mark.parametrize(
    "kind",
    [
        np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64,
        np.float16, np.float32, np.float64,
    ],
)  # fmt: skip
def test_numbers_of_every_type_are_scored(
    client: Any, score: Score, kind: Any, binary: bool
) -> None:
    inputs = {"age": np.array([[54]], kind), "sex": np.array([[1]], kind)}

    answer = client.infer(MODEL, [tensor(*item, binary=binary) for item in inputs.items()])

    assert probabilities(answer) == [score(age=54, sex=1)]
    assert answer.as_numpy("prediction")[0] in (0, 1)


def test_bf16_is_scored(client: Any, score: Score) -> None:
    inputs = {"age": [54], "sex": [1], "oldpeak": [1.5]}

    answer = client.infer(
        MODEL,
        [
            tensor(name, np.array(values, ml_dtypes.bfloat16), binary=True)
            for name, values in inputs.items()
        ],
    )

    assert probabilities(answer) == [score(age=54, sex=1, oldpeak=1.5)]


@FORMS
def test_words_booleans_and_missing_numbers_are_scored(
    client: Any, score: Score, binary: bool
) -> None:
    inputs = {
        "age": np.array([54.0, 61.0]),
        "sex": np.array(["male", "female"], np.object_),
        "cp": np.array([b"Asymptomatic", b""], np.object_),
        "exang": np.array([True, False]),
        "chol": np.array([np.nan, 233.0]),
    }

    answer = client.infer(MODEL, [tensor(*item, binary=binary) for item in inputs.items()])

    assert probabilities(answer) == [
        score(age=54, sex="male", cp="asymptomatic", exang=True),
        score(age=61, sex="female", exang=False, chol=233),
    ]


@FORMS
@pytest.mark.parametrize("answered", ["binary", "json"])
def test_ids_of_patients_come_back(client: Any, binary: bool, answered: str) -> None:
    names = ("probability", "patient_id")
    inputs = {
        "patient_id": np.array(["A-7", "Ä-8"], np.object_),
        "age": np.array([54, 61]),
        "sex": np.array([1, 0]),
    }

    answer = client.infer(
        MODEL,
        [tensor(*item, binary=binary) for item in inputs.items()],
        outputs=[triton.InferRequestedOutput(n, binary_data=answered == "binary") for n in names],
    )

    ids = answer.as_numpy("patient_id").tolist()
    assert [i.decode() if isinstance(i, bytes) else i for i in ids] == ["A-7", "Ä-8"]


@FORMS
def test_the_asynchronous_client_is_answered(api: RunningApi, score: Score, binary: bool) -> None:
    async def ask() -> Any:
        async with aio.InferenceServerClient(f"127.0.0.1:{api.port}") as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready(MODEL)
            assert (await client.get_model_config(MODEL))["max_batch_size"] == 0
            inputs = {
                "age": np.array([54, 61]),
                "sex": np.array(["male", "female"], np.object_),
                "chol": np.array([np.nan, 233.0]),
            }
            made = [tensor(*item, binary=binary) for item in inputs.items()]
            return await client.infer(MODEL, made)

    answer = asyncio.run(ask())

    assert probabilities(answer) == [
        score(age=54, sex="male"),
        score(age=61, sex="female", chol=233),
    ]


def test_health_metadata_and_config_answer(client: Any) -> None:
    metadata = client.get_model_metadata(MODEL)
    [version] = metadata["versions"]

    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, version)
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_config(MODEL, version)["max_batch_size"] == 0
    assert [output["name"] for output in metadata["outputs"]] == ["probability", "prediction"]


@FORMS
def test_an_error_says_where_and_what(client: Any, binary: bool) -> None:
    inputs = [
        tensor("age", np.array([54.0, 5.0]), binary=binary),
        tensor("sex", np.array([1, 1]), binary=binary),
    ]

    with pytest.raises(InferenceServerException) as caught:
        client.infer(MODEL, inputs)

    assert "/inputs/0/data/1: age must be from 18 to 110 years" in caught.value.message()
    with pytest.raises(InferenceServerException, match="Not found"):
        client.get_inference_statistics(MODEL)
