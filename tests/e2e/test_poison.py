"""`heart-scorer poison` over real storage: what it prints, how it exits, and that it loses nothing.

A queue of its own without a worker does not change; one test follows a replay to its end.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import uuid
from pathlib import Path

import pytest

from cli.local import Running
from shared.batches.ports import Queue
from shared.storage.azure import Storage
from tests.e2e.client import outcome
from tests.e2e.command import COMMAND, Done, call_here, environment, on_terminal

SECRET = "61,female,417"
"""Content of the messages, which may not be printed unasked."""


class Poison:
    """A poison queue, and the queue that replays go to."""

    def __init__(self, storage: Storage, connection_string: str) -> None:
        self.name = f"poison-{uuid.uuid4().hex[:12]}"
        self.connection_string = connection_string
        self.queue: Queue = storage.queue(self.name)
        self.poison: Queue = storage.queue(f"{self.name}-poison")

    async def add(self, *batch_ids: str, reason: str = "gave up") -> None:
        for batch_id in batch_ids:
            entry = {
                "batch_id": batch_id,
                "reason": reason,
                "time": "2026-01-01T00:00:00Z",
                "deliveries": 5,
                "body": f"age,sex,chol\n{SECRET}\n",
            }
            await self.poison.send(json.dumps(entry))

    async def call(self, *words: str) -> Done:
        return await call_here(self.connection_string, "poison", *words, SCORER_QUEUE=self.name)

    async def left(self) -> set[str]:
        """Batches whose entry can be seen at once, and all of them must be."""
        seen = await self.poison.peek(32)
        assert len(seen) == await self.poison.length()
        return {json.loads(message.body)["batch_id"] for message in seen}

    async def sent(self) -> list[str]:
        return [json.loads(message.body)["batch_id"] for message in await self.queue.peek(32)]


@pytest.fixture
async def poison(storage: Storage, connection_string: str) -> Poison:
    poison = Poison(storage, connection_string)
    await poison.queue.create()
    await poison.poison.create()
    await storage.blobs().create_container("uploads")
    await storage.blobs().create_container("scores")
    return poison


async def test_forty_entries_are_listed_and_stay(poison: Poison) -> None:
    await poison.add(*(f"batch-{number}" for number in range(40)))

    listed = await poison.call("list", "--json")

    assert listed.returncode == 0, listed.stderr
    assert [entry["batch_id"] for entry in json.loads(listed.stdout)] == [
        f"batch-{number}" for number in range(40)
    ]
    assert len(await poison.poison.peek(32)) == 32
    assert await poison.poison.length() == 40


async def test_a_list_has_a_line_for_each_message_without_its_content(poison: Poison) -> None:
    await poison.add("one", "three")

    listed = await poison.call("list")

    assert listed.stdout == (
        "2026-01-01T00:00:00Z  one    gave up\n2026-01-01T00:00:00Z  three  gave up\n"
    )
    assert listed.stderr == "2 of 2 entries\n"


async def test_the_message_is_shown_only_if_asked_for(poison: Poison) -> None:
    await poison.add("one")

    shown, body = await poison.call("show", "one"), await poison.call("show", "one", "--body")
    document = json.loads((await poison.call("show", "one", "--body", "--json")).stdout)

    assert SECRET not in shown.stdout + shown.stderr
    assert "deliveries  5" in shown.stdout
    assert "input       inside the message (26 bytes)" in shown.stdout
    assert SECRET in body.stdout
    assert SECRET in document[0]["body"]
    assert await poison.left() == {"one"}


async def test_a_dry_run_changes_nothing(poison: Poison) -> None:
    await poison.add("one", "two")

    done = await poison.call("replay", "--all", "--dry-run")

    assert [line.split()[1] for line in done.stdout.splitlines()] == ["one", "two"]
    assert done.stderr == "would replay 2 entries\n"
    assert await poison.left() == {"one", "two"}
    assert await poison.sent() == []


@pytest.mark.parametrize("command", ["replay", "drop"])
async def test_without_a_terminal_nothing_is_done_unless_confirmed_by_an_option(
    command: str, poison: Poison
) -> None:
    await poison.add("one")

    done = await poison.call(command, "--all")

    assert done.returncode == 2
    assert "one  gave up" in done.stderr
    assert "use --yes" in done.stderr
    assert await poison.left() == {"one"}


@pytest.mark.parametrize("command", ["replay", "drop"])
@pytest.mark.parametrize("words", [(), ("one", "--all"), ("--reason", "gave up")])
async def test_all_entries_are_changed_only_on_request(
    command: str, words: tuple[str, ...], poison: Poison
) -> None:
    await poison.add("one")

    done = await poison.call(command, *words, "--yes")

    assert (done.returncode, done.stderr) == (2, f"name the batches to {command}, or use --all\n")
    assert await poison.left() == {"one"}


@pytest.mark.parametrize(
    ("answer", "code", "left"), [("y", 0, set()), ("n", 1, {"one"}), ("^C", 130, {"one"})]
)
async def test_on_a_terminal_somebody_is_asked_and_nothing_is_held_meanwhile(
    answer: str, code: int, left: set[str], poison: Poison
) -> None:
    await poison.add("one")

    found, text = await asyncio.to_thread(
        on_terminal,
        poison.connection_string,
        *("poison", "drop", "--all"),
        answer=answer,
        SCORER_QUEUE=poison.name,
    )

    assert "drop 1 entry? [y/N]" in text
    assert found == code
    assert await poison.left() == left


async def test_a_replay_takes_only_what_was_asked_for(poison: Poison) -> None:
    await poison.add("one", "two")
    await poison.add("three", reason="input missing")

    done = await poison.call("replay", "--all", "--reason", "gave up", "--limit", "1", "--yes")

    assert done.stdout == "one: sent again as one.r2\n"
    assert await poison.sent() == ["one.r2"]
    assert await poison.left() == {"two", "three"}


async def test_a_batch_without_an_entry_is_named_and_exits_1(poison: Poison) -> None:
    await poison.add("one")

    done = await poison.call("drop", "one", "nobody", "--yes")

    assert done.returncode == 1
    assert done.stdout == "one: dropped\n"
    assert "no entry of batch nobody" in done.stderr
    assert (await poison.call("show", "one")).returncode == 1


async def test_an_empty_poison_queue_is_no_fault(poison: Poison) -> None:
    done = await poison.call("replay", "--all", "--yes")

    assert (done.returncode, done.stderr) == (0, "nothing to replay\n")


async def test_a_message_that_cannot_be_replayed_stays_and_exits_1(poison: Poison) -> None:
    await poison.add("one")
    await poison.poison.send(json.dumps({"batch_id": "bad", "reason": "no batch", "body": "hello"}))

    done = await poison.call("replay", "--all", "--yes")

    assert done.returncode == 1
    assert done.stdout == "one: sent again as one.r2\n"
    assert "bad: cannot be replayed" in done.stderr
    assert await poison.left() == {"bad"}


KILLED_BEFORE_DELETE = """
import os, signal, sys
from shared.storage.azure import StorageQueue
async def die(self, message):
    os.kill(os.getpid(), signal.SIGKILL)
StorageQueue.delete = die
import cli.poison_queue
cli.poison_queue.HIDDEN = 1
from cli.__main__ import main
sys.argv = ["heart-scorer", "poison", "replay", "--all", "--yes"]
main()
"""


async def test_killed_between_send_and_delete_a_replay_repeated_is_the_same_batch(
    poison: Poison,
) -> None:
    await poison.add("one", "two")

    killed = await start(poison, sys.executable, "-c", KILLED_BEFORE_DELETE)
    await killed.wait()
    await asyncio.sleep(1.5)  # the received messages are visible again
    again = await poison.call("replay", "--all", "--yes")

    assert killed.returncode == -signal.SIGKILL
    assert again.returncode == 0, again.stderr
    assert len(await poison.sent()) == 3
    assert set(await poison.sent()) == {"one.r2", "two.r2"}
    assert len({message.body for message in await poison.queue.peek(32)}) == 2
    assert await poison.left() == set()


async def test_interrupted_in_the_middle_the_rest_stays_and_can_be_seen(poison: Poison) -> None:
    await poison.add(*(f"batch-{number}" for number in range(30)))

    command = await start(poison, *COMMAND, "poison", "replay", "--all", "--yes")
    assert command.stdout is not None
    first = await command.stdout.readline()
    command.send_signal(signal.SIGINT)
    rest, said = await command.communicate()

    replayed = {line.split(":")[0] for line in (first + rest).decode().splitlines()}
    left = await poison.left()
    assert command.returncode == 130
    assert said.endswith(b"interrupted\n")
    assert left
    assert left | replayed == {f"batch-{number}" for number in range(30)}


async def start(poison: Poison, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(poison.connection_string, SCORER_QUEUE=poison.name),
    )


async def test_a_failed_batch_is_replayed_to_its_end(
    running: Running, storage: Storage, tmp_path: Path
) -> None:
    file = tmp_path / "ward.csv"
    file.write_text("sex,chol\nmale,233\n")
    batch_id = f"ward-{uuid.uuid4().hex[:8]}"

    words = ("submit", str(file), "--no-check", "--batch-id", batch_id, "--wait")
    sent = await call_here(running, *words)
    listed = await call_here(running, "poison", "list", "--reason", "`age`")
    shown = await call_here(running, "poison", "show", batch_id)
    done = await call_here(running, "poison", "replay", batch_id, "--yes")
    summary = await outcome(storage, f"{batch_id}.r2")

    assert sent.returncode == 1
    assert batch_id in listed.stdout
    assert f"uploads/{batch_id}/input.csv (18 bytes)" in shown.stdout
    assert done.stdout == f"{batch_id}: sent again as {batch_id}.r2\n"
    assert (summary["status"], summary["replay_of"]) == ("failed", batch_id)
