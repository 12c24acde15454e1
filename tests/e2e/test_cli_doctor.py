"""`heart-scorer doctor`: what is wrong with settings, storage and permissions, and the fix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.storage.blob import AccountSasPermissions

from cli.doctor import Finding, clock
from cli.local import (
    KEY,
    Running,
    install_azurite,
    node,
    process,
    wait_until,
)
from cli.local import connection_string as address
from tests.e2e.command import call_here
from tests.ports import free_port
from tests.signature import with_signature


async def examined(storage: Running | str | None, **env: str) -> tuple[int, dict[str, Finding]]:
    """Exit code, and the finding of each check."""
    done = await call_here(storage, "doctor", "--json", **env)
    findings = [Finding(**finding) for finding in json.loads(done.stdout)]
    return done.returncode, {finding.what: finding for finding in findings}


def wrong(findings: dict[str, Finding]) -> set[str]:
    return {finding.what for finding in findings.values() if not finding.fine}


async def test_a_healthy_service_has_a_line_for_each_check(
    running: Running, artifact_dir: Path
) -> None:
    code, findings = await examined(running, SCORER_MODEL_DIR=str(artifact_dir))

    assert wrong(findings) == set()
    assert code == 0
    assert {
        "python",
        "artifact",
        "queue: peek at messages",
        "poison queue: peek at messages",
        "container scores: write",
        "clock",
    } <= (findings.keys())


async def test_plain_lines_hold_no_secret(running: Running, artifact_dir: Path) -> None:
    done = await call_here(
        running, "doctor", SCORER_API_KEYS="open-sesame", SCORER_MODEL_DIR=str(artifact_dir)
    )

    assert "AZURE_STORAGE_CONNECTION_STRING" in done.stdout
    assert "SCORER_API_KEYS" in done.stdout
    assert KEY not in done.stdout
    assert "open-sesame" not in done.stdout
    assert "\x1b" not in done.stdout


async def test_wrong_settings_are_named_before_anything_is_asked(running: Running) -> None:
    code, findings = await examined(running, SCORER_SLOTS="99", SCORER_SLOT="3")

    assert code == 1
    assert wrong(findings) == {"settings", "SCORER_SLOT"}
    assert "SCORER_SLOTS: Input should be less than or equal to 32" in findings["settings"].result
    assert findings["SCORER_SLOT"].fix == "did you mean SCORER_SLOTS?"
    assert "clock" not in findings


async def test_without_a_model_training_is_the_fix(running: Running, tmp_path: Path) -> None:
    _, findings = await examined(running, SCORER_MODEL_DIR=str(tmp_path))

    assert wrong(findings) == {"artifact"}
    assert findings["artifact"].fix == "heart-scorer train"


async def test_queues_that_do_not_exist_are_named(running: Running, artifact_dir: Path) -> None:
    env = {"SCORER_QUEUE": "no-such-queue", "SCORER_MODEL_DIR": str(artifact_dir)}

    _, findings = await examined(running, **env)

    assert wrong(findings) == {"queue: peek at messages", "poison queue: peek at messages"}
    assert "the worker creates it" in findings["queue: peek at messages"].fix


@pytest.mark.parametrize(
    ("permissions", "missing"),
    [
        (
            {"read": True},
            {"queue: receive and renew messages", "poison queue: receive and renew messages"},
        ),
        (
            {"process": True, "update": True, "write": True, "delete": True},
            {"queue: peek at messages"},
        ),
    ],
    ids=["only reading", "no reading"],
)
async def test_each_missing_permission_is_listed_with_its_fix(
    permissions: dict[str, bool], missing: set[str], running: Running, artifact_dir: Path
) -> None:
    text = with_signature(running.connection_string, AccountSasPermissions(**permissions))

    code, findings = await examined(text, SCORER_MODEL_DIR=str(artifact_dir))

    assert code == 1
    assert missing <= wrong(findings)
    writing = {"container uploads: write", "container scores: write"}
    reading = {"container incoming: read", "container uploads: read", "container scores: read"}
    assert (writing if "read" in permissions else reading) <= wrong(findings)
    assert findings[missing.pop()].fix.startswith("give this identity the data roles")


async def test_a_caller_who_is_not_permitted_exits_4(running: Running) -> None:
    text = with_signature(running.connection_string, AccountSasPermissions(write=True))

    done = await call_here(text, "status", "any")

    assert done.returncode == 4
    assert "storage does not permit this: 403" in done.stderr
    assert "heart-scorer doctor" in done.stderr


@pytest.fixture
def strict_azurite(tmp_path: Path, connection_string: str) -> Iterator[str]:
    """Azurite as people start it by hand: without --skipApiVersionCheck."""
    ports = free_port(), free_port(), free_port()
    names = zip(("blob", "queue", "table"), ports, strict=True)
    options = [f"--{name}Port={port}" for name, port in names]
    command = [*node()[0], str(install_azurite()), "--inMemoryPersistence", *options]
    log = tmp_path / "azurite.log"
    with process(command, log) as child:
        for port in ports[:2]:
            wait_until(child, f"http://127.0.0.1:{port}/", log)
        yield address(ports[0], ports[1])
        child.kill()  # on SIGTERM it would wait for connections to close


async def test_an_azurite_older_than_the_sdk_gets_its_fix(
    strict_azurite: str, artifact_dir: Path
) -> None:
    _, findings = await examined(strict_azurite, SCORER_MODEL_DIR=str(artifact_dir))

    assert "--skipApiVersionCheck" in findings["container scores: read"].fix


async def test_missing_storage_is_reported(artifact_dir: Path) -> None:
    text = address(free_port(), free_port())

    code, findings = await examined(text, SCORER_MODEL_DIR=str(artifact_dir))

    assert code == 1
    assert "storage does not answer" in findings["queue: peek at messages"].result
    assert "heart-scorer up" in findings["queue: peek at messages"].fix
    assert "container scores: write" not in findings  # checked once, not ten times


@pytest.mark.parametrize(("minutes", "fine"), [(0, True), (-20, False), (20, False)])
async def test_a_clock_that_is_off_is_noticed(minutes: int, fine: bool) -> None:
    async def storage_clock() -> datetime:
        return datetime.now(UTC) + timedelta(minutes=minutes)

    finding = await clock(storage_clock)

    assert finding.fine == fine
    assert "set this machine's clock" in finding.fix
