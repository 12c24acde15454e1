"""The lab: workers as processes over Azurite."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from shared.files.base import Limits
from shared.records.artifact import Artifact
from shared.storage.azure import Storage
from tests.faults.invariants import Sent, sent
from tests.faults.lab import Lab
from tests.faults.patients import patients


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in the lab start real workers and wait for their leases, so they are slow."""
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
async def lab(storage: Storage, connection_string: str, artifact_dir: Path, tmp_path: Path) -> Lab:
    lab = Lab(storage, connection_string, artifact_dir, tmp_path)
    await lab.prepare()
    return lab


@pytest.fixture(scope="session")
def thousand(artifact: Artifact) -> Sent:
    """A file of five blocks, larger than what is worked on in one go."""
    return sent(artifact, "thousand", patients(2000, seed=5), limits=Limits(rows=400))


@pytest.fixture
def batch(thousand: Sent) -> Sent:
    """The same under a name of its own."""
    return replace(thousand, batch_id=f"b-{uuid.uuid4().hex[:12]}")
