"""The lab: workers as processes over Azurite."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared.files.base import Limits
from shared.records.artifact import Artifact
from shared.storage.azure import Storage
from tests.conftest import azurite_in_memory
from tests.faults.invariants import Sent, sent
from tests.faults.lab import Lab
from tests.faults.patients import patients
from tests.world import WHOLE

SHARED = 1 << 10
"""Bytes from which a file is shared."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in the lab start real workers and wait for their leases, so they are slow."""
    items[:] = [item for item in items if not _is_of_whole_files_only(item)]
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


def _is_of_whole_files_only(item: pytest.Item) -> bool:
    shared = "[shared" in item.name or "-shared" in item.name
    return shared and item.get_closest_marker("whole_file") is not None


@pytest.fixture(
    autouse=True,
    params=[WHOLE, pytest.param(SHARED, marks=pytest.mark.slow)],
    ids=["whole", "shared"],
)
def threshold(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run each test twice: workers score whole files, or share all files of several blocks."""
    size: int = request.param
    monkeypatch.setenv("SCORER_SPLIT_BYTES", str(size))
    return size


@pytest.fixture(scope="module")
def connection_string(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A young Azurite for each module.

    Every ten minutes it looks for blocks that nothing refers to and answers nobody meanwhile: for
    minutes after thousands of tests' blocks.
    """
    with azurite_in_memory(tmp_path_factory.mktemp("azurite")) as address:
        yield address


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
