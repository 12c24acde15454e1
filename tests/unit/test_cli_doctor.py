"""Findings of `heart-scorer doctor` about a call to storage, by how the call ended."""

from __future__ import annotations

import pytest

from cli.doctor import permission
from shared.records.errors import (
    NotFound,
    OwnershipLost,
    ScorerError,
    StorageRefused,
    StorageUnavailable,
)
from shared.storage.probes import Probe


@pytest.mark.parametrize("error", [None, NotFound("BlobNotFound"), OwnershipLost("gone")])
async def test_a_call_that_found_nothing_was_permitted(error: ScorerError | None) -> None:
    async def call() -> None:
        if error is not None:
            raise error

    assert permission("scores: read", await Probe("scores: read", call).failure()).fine


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (NotFound("ContainerNotFound"), "the worker creates it"),
        (NotFound("QueueNotFound"), "the worker creates it"),
        (StorageUnavailable("x", why="not_signed_in"), "az login"),
        (StorageUnavailable("x", why="not_permitted"), "give this identity the data roles"),
        (StorageUnavailable("x", why="no_answer"), "heart-scorer up"),
        (StorageUnavailable("x", why="busy"), "heart-scorer up"),
        (StorageRefused("storage refuses this: 400 InvalidHeaderValue"), "Azurite is older"),
    ],
)
def test_each_fault_has_its_fix(error: ScorerError, fix: str) -> None:
    finding = permission("scores: read", error)

    assert (finding.fine, finding.result) == (False, error.reason)
    assert fix in finding.fix
