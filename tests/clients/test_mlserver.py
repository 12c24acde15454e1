"""Requests that MLServer's codecs build, as each of their dumps writes them."""

from __future__ import annotations

import json
import urllib.request
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlserver.codecs import NumpyCodec, NumpyRequestCodec, PandasCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from tests.api_process import RunningApi
from tests.clients.conftest import Score

MODEL = "heart-cleveland"


def dict_of(request: InferenceRequest) -> str:
    """By `.dict()`, which writes absent members as null; pydantic calls it deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return json.dumps(request.dict())


DUMPS = pytest.mark.parametrize(
    "dump",
    [
        dict_of,
        lambda request: json.dumps(request.model_dump()),
        lambda request: json.dumps(request.model_dump(exclude_unset=False, exclude_none=False)),
        lambda request: request.model_dump_json(),
    ],
    ids=["dict", "model_dump", "model_dump with null", "model_dump_json"],
)
Dump = Callable[[InferenceRequest], str]


def infer(api: RunningApi, text: str) -> InferenceResponse:
    request = urllib.request.Request(
        f"{api.url}/v2/models/{MODEL}/infer", text.encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return InferenceResponse.model_validate_json(answer.read())


def output(response: InferenceResponse, name: str) -> list[Any]:
    [found] = [output for output in response.outputs if output.name == name]
    return list(found.data)


@DUMPS
def test_numpy_columns_and_texts_are_scored(api: RunningApi, score: Score, dump: Dump) -> None:
    request = InferenceRequest(
        inputs=[
            StringCodec.encode_input("patient_id", ["A-7", "A-8"], use_bytes=False),
            NumpyCodec.encode_input("age", np.array([54, 61])),
            StringCodec.encode_input("sex", ["male", "female"], use_bytes=False),
            NumpyCodec.encode_input("exang", np.array([True, False])),
            NumpyCodec.encode_input("chol", np.array([np.nan, 233.0])),
        ]
    )

    response = infer(api, dump(request))

    assert output(response, "probability") == [
        score(age=54, sex="male", exang=True),
        score(age=61, sex="female", exang=False, chol=233),
    ]
    assert output(response, "patient_id") == ["A-7", "A-8"]


@DUMPS
def test_a_data_frame_is_scored(api: RunningApi, score: Score, dump: Dump) -> None:
    frame = pd.DataFrame(
        {"age": [54, 61], "sex": ["male", "female"], "chol": [np.nan, 233.0], "thalach": [150, 120]}
    )

    response = infer(api, dump(PandasCodec.encode_request(frame, use_bytes=False)))

    scores = PandasCodec.decode_response(response)
    assert scores["probability"].tolist() == pytest.approx(
        [score(age=54, sex=1, thalach=150), score(age=61, sex=0, chol=233, thalach=120)]
    )


@DUMPS
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_one_array_of_all_fields_is_scored(
    api: RunningApi, score: Score, dump: Dump, kind: str
) -> None:
    with urllib.request.urlopen(f"{api.url}/v2/models/{MODEL}") as answer:
        columns = json.load(answer)["inputs"][0]["parameters"]["columns"]
    record = {"age": 63, "sex": 1, "cp": 3, "chol": 233}
    rows = np.array([[record.get(name, np.nan) for name in columns]], kind)

    response = infer(api, dump(NumpyRequestCodec.encode_request(rows)))

    [probability, _] = response.outputs
    assert NumpyCodec.decode_output(probability) == pytest.approx([score(**record)])


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "uint64", "int8", "float16"])
def test_numbers_of_many_types_are_scored(api: RunningApi, score: Score, kind: str) -> None:
    request = InferenceRequest(
        inputs=[
            NumpyCodec.encode_input("age", np.array([54], kind)),
            NumpyCodec.encode_input("sex", np.array([1], kind)),
        ]
    )

    assert output(infer(api, request.model_dump_json()), "probability") == [score(age=54, sex=1)]


def test_texts_as_bytes_are_scored(api: RunningApi, score: Score) -> None:
    request = InferenceRequest(
        inputs=[
            NumpyCodec.encode_input("age", np.array([54])),
            StringCodec.encode_input("sex", ["male"]),
        ]
    )

    assert output(infer(api, request.model_dump_json()), "probability") == [score(age=54, sex=1)]
