"""The API's answers about the model."""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.testclient import TestClient

from shared.records.artifact import Artifact
from tests.api_client import a_client

CARD = b"<!doctype html><title>Card</title><style>p {}</style><body><p>303 patients"


def with_card(artifact: Artifact, directory: Path, sha256: str) -> TestClient:
    files = {**artifact.manifest.files, "model_card.html": sha256}
    manifest = artifact.manifest.model_copy(update={"files": files})
    (directory / "model_card.html").write_bytes(CARD)
    return a_client(Artifact(manifest, artifact.sha256, artifact.model), model_dir=directory)


def test_the_model_endpoint_has_the_facts_of_the_manifest(artifact: Artifact) -> None:
    answer = a_client(artifact).get("/model").json()

    manifest = artifact.manifest
    assert answer["name"] == manifest.name
    assert answer["version"] == manifest.version
    assert answer["sha256"] == artifact.sha256
    assert answer["threshold"] == manifest.threshold
    assert answer["columns"] == list(manifest.fields.used_names)
    assert [field["name"] for field in answer["fields"]] == list(manifest.fields.by_name)
    assert answer["figures"] == manifest.figures
    assert answer["notice"] == manifest.notice
    assert "golden" not in answer


def test_the_card_is_served_with_the_header(artifact: Artifact, tmp_path: Path) -> None:
    client = with_card(artifact, tmp_path, hashlib.sha256(CARD).hexdigest())

    answer = client.get("/model-card")

    assert answer.content.startswith(b"<!doctype html><title>Card</title>")
    assert answer.content.endswith(b"<p>303 patients")
    assert '<a href="model-card" aria-current="page">' in answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_card_with_another_hash_than_the_manifests_is_not_served(
    artifact: Artifact, tmp_path: Path
) -> None:
    client = with_card(artifact, tmp_path, "0" * 64)

    assert client.get("/model-card").status_code == 404


def test_an_artifact_without_card_says_so(artifact: Artifact, tmp_path: Path) -> None:
    files = {k: v for k, v in artifact.manifest.files.items() if not k.endswith(".html")}
    manifest = artifact.manifest.model_copy(update={"files": files})
    client = a_client(Artifact(manifest, artifact.sha256, artifact.model), model_dir=tmp_path)

    answer = client.get("/model-card")

    assert answer.status_code == 404
    assert "no model card" in answer.json()["detail"]
