"""Real processes: one api and one worker over Azurite, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.local import Running, services


@pytest.fixture(scope="session")
def running(
    connection_string: str, artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    logs = tmp_path_factory.mktemp("services")
    with services(
        connection_string,
        logs,
        env={"SCORER_MODEL_DIR": str(artifact_dir), "SCORER_IDLE_SECONDS": "0.3"},
    ) as started:
        yield started
