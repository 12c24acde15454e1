"""Removes the worker's safeguards, one at a time, and checks that a test notices.

`python -m tests.mutants [WORD …]` runs the tests named with each mutant in a process whose function
was replaced: this module is the pytest plugin that does so. A mutant that survives fails the run.
"""

from __future__ import annotations

import asyncio
import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
VARIABLE = "MUTANT"
"""Environment variable with the safeguard to remove."""

UNIT = ("tests/unit/test_worker_messages.py", "tests/unit/test_worker_lease.py")
VIRTUAL = ("tests/faults/test_overlap.py", "tests/faults/test_stops.py", "-m", "not slow")
CONTRACT = ("tests/contract/test_blobs.py", "tests/contract/test_storage_errors.py")
FOREIGN = ("tests/unit/test_foreign_files.py",)
CLAIMS = ("tests/faults/test_claims.py",)
OUTAGES = ("tests/faults/test_outages.py",)

Function = Callable[..., Any]


def without(argument: str) -> Callable[[Function], Function]:
    """A call without one of its arguments."""

    def make(function: Function) -> Function:
        def mutant(*args: Any, **kwargs: Any) -> Any:
            kwargs.pop(argument, None)
            return function(*args, **kwargs)

        return mutant

    return make


def with_overwrite(upload: Function) -> Function:
    def mutant(*args: Any, **kwargs: Any) -> Any:
        return upload(*args, **kwargs | {"overwrite": True})

    return mutant


def believe_every_answer(_: Function) -> Function:
    def mutant(self: Any, response: Any) -> None:
        self.headers = response.http_response.headers

    return mutant


def summarise_first(commit: Function) -> Function:
    from shared.batches.message import UnreadableMessage
    from shared.batches.results import read_commit
    from worker.delivery import Delivery, target_of_unread
    from worker.outcomes import Outcomes

    async def mutant(self: Any, media_type: str, metadata: Any) -> Any:
        written = read_commit(metadata)
        assert written is not None
        delivery = Delivery(self._lease.message, self._lease)
        target = target_of_unread(
            delivery.message, UnreadableMessage("", self._name.partition("/")[0])
        )
        outcomes: Any = Outcomes(None, None, self._blobs)  # type: ignore[arg-type]  # not needed
        await outcomes.conclude(delivery, target, self._name, "", written)
        return await commit(self, media_type, metadata)

    return mutant


def block_first(store: Function) -> Function:
    async def mutant(self: Any, block: Any, content: bytes, tally: Any) -> None:
        await self._blobs.stage("scores", self._name, block.name, content)
        await store(self, block, content, tally)

    return mutant


def delete_first(work: Function) -> Function:
    async def mutant(self: Any, delivery: Any) -> Any:
        await self._queue.delete(delivery.lease.message)
        return await work(self, delivery)

    return mutant


def a_second_late(call: Function) -> Function:
    tasks = []

    async def mutant(*args: Any) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(1, lambda: tasks.append(loop.create_task(call(*args))))

    return mutant


def do_nothing(_: Function) -> Function:
    async def mutant(*_: Any) -> None:
        pass

    return mutant


def check_nothing(_: Function) -> Function:
    return lambda *_: None


def always(value: object) -> Callable[[Function], Function]:
    return lambda _: lambda *_: value


def fail_without_a_look(fail: Function) -> Function:
    async def see_nothing(*_: Any) -> bool:
        return False

    async def mutant(self: Any, *args: Any) -> Any:
        blind = copy.copy(self)
        blind.adopt = see_nothing
        return await fail(blind, *args)

    return mutant


def stop_after_a_failure(renew: Function) -> Function:
    async def mutant(self: Any) -> float | None:
        before = self._ends
        wait: float | None = await renew(self)
        return None if self._ends == before else wait

    return mutant


def claim_without_a_write(_: Function) -> Function:
    async def mutant(self: Any, delivery: Any, target: Any) -> Any:
        return replace(target, claim="held")

    return mutant


def claim_as_the_owner(claim: Function) -> Function:
    async def mutant(*args: Any) -> Any:
        return replace(await claim(*args), claim="held")

    return mutant


def forgive_all(read: Function) -> Function:
    return lambda *args: replace(read(*args), unexplained=0)


def look_at_sequences(_: Function) -> Function:
    def mutant(self: Any, staged: Any) -> bool:
        found: dict[int, Any] = {}
        for block in staged:
            found.setdefault(block.sequence, block)
        before, self.missing = self.missing, []
        for part in before:
            sequences = range(part.sequence, part.sequence + len(part.blocks))
            if all(sequence in found for sequence in sequences):
                self.staged |= {sequence: found[sequence] for sequence in sequences}
            else:
                self.missing.append(part)
        return len(self.missing) < len(before)

    return mutant


@dataclass(frozen=True, slots=True)
class Mutant:
    """A safeguard, the function that provides it, what replaces that, and tests that notice."""

    safeguard: str
    function: str
    """`module:name` or `module:Class.name`, as the code under test finds it."""
    change: Callable[[Function], Function]
    tests: tuple[str, ...]


MUTANTS = [
    Mutant(
        "the commit is create-only",
        "azure.storage.blob.aio:BlobClient.commit_block_list",
        without("match_condition"),
        CONTRACT,
    ),
    Mutant(
        "the summary is create-only",
        "azure.storage.blob.aio:BlobClient.upload_blob",
        with_overwrite,
        CONTRACT,
    ),
    Mutant(
        "only storage's own answers count",
        "shared.storage.azure:_Answer.__call__",
        believe_every_answer,
        CONTRACT,
    ),
    Mutant(
        "the SDK does not repeat a renewal",
        "azure.storage.queue.aio:QueueClient.update_message",
        without("retry_total"),
        CONTRACT,
    ),
    Mutant(
        "the commit comes before the summary",
        "worker.result:ResultWriter.commit",
        summarise_first,
        VIRTUAL,
    ),
    Mutant(
        "a block's counts are staged before it",
        "worker.result:ResultWriter._store",
        block_first,
        VIRTUAL,
    ),
    Mutant(
        "the summary comes before the delete",
        "worker.consumer:Consumer._work",
        delete_first,
        VIRTUAL,
    ),
    Mutant(
        "the poison copy comes before the delete",
        "worker.outcomes:Outcomes._send_poison",
        a_second_late,
        VIRTUAL,
    ),
    Mutant(
        "an existing failure sends its poison copy again",
        "worker.outcomes:Outcomes._settle_by",
        do_nothing,
        VIRTUAL,
    ),
    Mutant(
        "block names carry the plan",
        "worker.processor:plan_of",
        always("0" * 10),
        ("tests/faults/test_overlap.py", "-k", "upgrade"),
    ),
    Mutant(
        "a failure looks for another outcome first",
        "worker.outcomes:Outcomes.fail",
        fail_without_a_look,
        OUTAGES + VIRTUAL,
    ),
    Mutant(
        "a failed renewal is tried again",
        "worker.lease:Lease._renew",
        stop_after_a_failure,
        UNIT,
    ),
    Mutant("a lost lease starts nothing more", "worker.lease:Lease.check", check_nothing, UNIT),
    Mutant("a clean stop is excused", "worker.markers:Markers.excuse", do_nothing, VIRTUAL),
    Mutant(
        "deliveries that end without a word are counted",
        "worker.processor:read_progress",
        forgive_all,
        UNIT,
    ),
    Mutant(
        "an existing outcome is compared with the message",
        "worker.outcomes:same_identity",
        always(True),
        VIRTUAL,
    ),
    Mutant(
        "parts that are lost are sent again",
        "worker.parts:_Cut.must_score_first",
        always(False),
        ("tests/faults/test_parts.py", "-k", "lost"),
    ),
    Mutant(
        "the blocks of a part are compared with where it was cut",
        "worker.parts:_Cut.look",
        look_at_sequences,
        ("tests/faults/test_parts.py", "-k", "wrong_and"),
    ),
    Mutant(
        "a part that is read in other blocks than it was cut ends the sharing",
        "worker.parts:_Cut.note_own",
        do_nothing,
        ("tests/faults/test_parts.py", "-k", "other_blocks"),
    ),
    Mutant(
        "parts of a batch that has an outcome are dropped",
        "worker.parts:Parts._has_outcome",
        do_nothing,
        ("tests/faults/test_parts.py", "-k", "outcome"),
    ),
    Mutant(
        "the number of parts in the queue is bounded",
        "worker.parts:Parts._wait_for_room",
        do_nothing,
        ("tests/faults/test_parts.py", "-k", "bounded"),
    ),
    Mutant(
        "a batch id belongs to the input that claimed it",
        "worker.outcomes:Outcomes.claim",
        claim_without_a_write,
        CLAIMS,
    ),
    Mutant(
        "a twin does not fail a batch that another message claimed",
        "worker.outcomes:Outcomes.claim",
        claim_as_the_owner,
        CLAIMS,
    ),
    Mutant(
        "scores do not stay next to a failed summary",
        "shared.testing:FakeBlobs.discard",
        do_nothing,
        CLAIMS,
    ),
    Mutant(
        "a batch in another coding is not committed",
        "worker.outcomes:check_coding",
        always(None),
        FOREIGN,
    ),
]


def find(function: str) -> tuple[Any, str]:
    """The module or class that has a function, and its name there. Raises `LookupError`."""
    module, _, path = function.partition(":")
    *owners, name = path.split(".")
    try:
        owner: Any = import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        getattr(owner, name)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"no {function}: rename it in tests/mutants.py") from error
    return owner, name


def take_away() -> None:
    """Remove the safeguard that the environment names. Raises `LookupError`."""
    for mutant in MUTANTS:
        if mutant.safeguard == os.environ.get(VARIABLE):
            owner, name = find(mutant.function)
            setattr(owner, name, mutant.change(getattr(owner, name)))


def pytest_configure() -> None:
    """Called by pytest; the workers of the fault lab call `take_away` themselves."""
    try:
        take_away()
    except LookupError as error:
        raise pytest.UsageError(str(error)) from error


def passes(tests: tuple[str, ...], safeguard: str = "") -> bool:
    """Whether the tests pass without this safeguard. Raises `RuntimeError` if they did not run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "tests.mutants", *tests]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {VARIABLE: safeguard},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return done.returncode == 0


def main() -> int:
    """Run the mutants whose safeguard has one of the words, else all. Exit code 1: one survived."""
    words = sys.argv[1:]
    chosen = [m for m in MUTANTS if not words or any(word in m.safeguard for word in words)]
    for tests in dict.fromkeys(mutant.tests for mutant in chosen):
        if not passes(tests):
            print(f"fails with all safeguards: {' '.join(tests)}")
            return 1
    survivors = 0
    for mutant in chosen:
        begun = time.monotonic()
        survived = passes(mutant.tests, mutant.safeguard)
        survivors += survived
        word = "SURVIVES" if survived else "caught  "
        print(f"{word} {time.monotonic() - begun:5.1f} s  without: {mutant.safeguard}", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
