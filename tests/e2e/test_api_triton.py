"""A foreign client of the Open Inference Protocol: Triton's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from shared.records.artifact import Artifact
from shared.records.scoring import Scorer
from tests.api_process import RunningApi, running_api
from tests.builders import golden_rows

MODEL = "heart-cleveland"


@pytest.fixture(scope="module")
def api(artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with running_api(artifact_dir, tmp_path_factory.mktemp("api") / "log") as running:
        yield running


@pytest.fixture
def client(api: RunningApi) -> Iterator[Any]:
    opened = triton.InferenceServerClient(f"127.0.0.1:{api.port}")
    yield opened
    opened.close()


@pytest.fixture
def rows(artifact: Artifact) -> Any:
    return golden_rows(artifact.manifest)


@pytest.fixture
def expected(artifact: Artifact, rows: Any) -> Any:
    manifest = artifact.manifest
    return Scorer(artifact.model, manifest.fields, manifest.threshold).probabilities(rows)


def tensor(name: str, values: Any, *, binary: bool) -> Any:
    kinds = {"float32": "FP32", "float64": "FP64", "int32": "INT32", "int64": "INT64"}
    made = triton.InferInput(name, list(values.shape), kinds[str(values.dtype)])
    return made.set_data_from_numpy(values, binary_data=binary)


@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
@pytest.mark.parametrize("wants", ["nothing said", "binary", "json"])
def test_a_binary_tensor_has_the_bits_of_the_one_scoring_path(
    client: Any, rows: Any, expected: Any, wants: str, packing: str | None
) -> None:
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
    assert (answer.as_numpy("probability") == expected).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("binary", [True, False])
def test_one_tensor_a_field_of_every_number_type(
    client: Any, artifact: Artifact, kind: Any, binary: bool
) -> None:
    table = artifact.manifest.fields
    alone = Scorer(artifact.model, table, artifact.manifest.threshold).score(
        table.read({"age": 54, "sex": 1})
    )

    answer = client.infer(
        MODEL,
        [
            tensor("age", np.array([[54]], kind), binary=binary),
            tensor("sex", np.array([[1]], kind), binary=binary),
        ],
    )

    assert float(str(answer.as_numpy("probability")[0])) == alone.probability
    assert answer.as_numpy("prediction")[0] == alone.prediction


def test_health_and_metadata_answer(client: Any, artifact: Artifact) -> None:
    version = artifact.manifest.version

    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, version)
    assert not client.is_model_ready("other")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_config(MODEL, version)["max_batch_size"] == 0
    metadata = client.get_model_metadata(MODEL, version)
    assert [output["name"] for output in metadata["outputs"]] == ["probability", "prediction"]


def test_an_error_is_read_by_the_client(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="age must be from 18 to 110 years"):
        client.infer(MODEL, [tensor("age", np.array([5.0]), binary=True)])
    with pytest.raises(InferenceServerException, match="Not found"):
        client.get_inference_statistics(MODEL)
