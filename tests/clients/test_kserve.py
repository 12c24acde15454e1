"""KServe's InferenceRESTClient, in JSON and in binary."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from kserve.utils.numpy_codec import from_np_dtype

from tests.api_process import RunningApi
from tests.clients.conftest import Score

MODEL = "heart-cleveland"
FORMS = pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
T = TypeVar("T")


def call(ask: Callable[[Any], Awaitable[T]]) -> T:
    """Use a client in an event loop of its own."""

    async def run() -> T:
        async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
            return await ask(client)

    return asyncio.run(run())


def request(inputs: dict[str, Any], *, binary: bool, **more: Any) -> InferRequest:
    tensors = []
    for name, values in inputs.items():
        made = InferInput(name, list(values.shape), from_np_dtype(values.dtype))
        made.set_data_from_numpy(values, binary_data=binary)
        tensors.append(made)
    return InferRequest(model_name=MODEL, infer_inputs=tensors, **more)


def values(answer: Any, output: str) -> list[Any]:
    found: list[Any] = answer.get_output_by_name(output).as_numpy().tolist()
    return found


@FORMS
def test_words_booleans_missing_numbers_and_ids_are_taken(
    api: RunningApi, score: Score, binary: bool
) -> None:
    asked = request(
        {
            "patient_id": np.array(["A-7", "A-8"], np.object_),
            "age": np.array([54.0, 61.0]),
            "sex": np.array(["male", "female"], np.object_),
            "exang": np.array([True, False]),
            "chol": np.array([np.nan, 233.0]),
        },
        binary=binary,
        request_id="call-7",
    )

    answer = call(lambda client: client.infer(api.url, asked, model_name=MODEL))

    assert answer.id == "call-7"
    assert values(answer, "probability") == pytest.approx(
        [score(age=54, sex="male", exang=True), score(age=61, sex="female", exang=False, chol=233)]
    )
    assert values(answer, "patient_id") == ["A-7", "A-8"]


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint32, np.int64, np.float16, np.float32])
def test_numbers_of_many_types_are_scored(api: RunningApi, score: Score, kind: Any) -> None:
    asked = request({"age": np.array([54], kind), "sex": np.array([1], kind)}, binary=True)

    answer = call(lambda client: client.infer(api.url, asked, model_name=MODEL))

    assert values(answer, "probability") == pytest.approx([score(age=54, sex=1)])


def test_outputs_may_be_asked_for_in_binary(api: RunningApi, score: Score) -> None:
    asked = request(
        {"age": np.array([54]), "sex": np.array([1])},
        binary=True,
        request_outputs=[RequestedOutput("probability", parameters={"binary_data": True})],
    )

    answer = call(lambda client: client.infer(api.url, asked, model_name=MODEL))

    assert [output.name for output in answer.outputs] == ["probability"]
    assert values(answer, "probability") == pytest.approx([score(age=54, sex=1)])


def test_a_request_as_a_dict_with_null_members_is_scored(api: RunningApi, score: Score) -> None:
    asked = {
        "id": None,
        "parameters": None,
        "outputs": None,
        "inputs": [
            {"name": name, "shape": [1], "datatype": "INT64", "parameters": None, "data": [value]}
            for name, value in (("age", 54), ("sex", 1))
        ],
    }

    answer = call(lambda client: client.infer(api.url, asked, model_name=MODEL))

    assert values(answer, "probability") == pytest.approx([score(age=54, sex=1)])


def test_the_requests_own_dict_is_scored(api: RunningApi, score: Score) -> None:
    asked = request({"age": np.array([54]), "sex": np.array([1])}, binary=False).to_dict()

    answer = call(lambda client: client.infer(api.url, asked, model_name=MODEL))

    assert values(answer, "probability") == pytest.approx([score(age=54, sex=1)])


def test_health_answers(api: RunningApi) -> None:
    assert call(lambda client: client.is_server_live(api.url))
    assert call(lambda client: client.is_server_ready(api.url))
    assert call(lambda client: client.is_model_ready(api.url, MODEL))


def test_an_error_says_where_and_what(api: RunningApi) -> None:
    asked = request({"age": np.array([54.0, 5.0]), "sex": np.array([1, 1])}, binary=True)

    with pytest.raises(httpx.HTTPStatusError) as caught:
        call(lambda client: client.infer(api.url, asked, model_name=MODEL))

    assert "/inputs/0/data/1: age must be from 18 to 110 years" in str(caught.value)
