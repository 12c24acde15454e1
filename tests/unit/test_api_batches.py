"""Batches over HTTP, seen from outside: state, scores, and missing data in storage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from api.app import create_app
from api.problems import Problem
from api.store import Connection
from api.transfers import Capacity, Download
from shared.batches.checkpoint import DataBlock, Marker, file_cut, part_begun
from shared.batches.results import commit_metadata
from shared.records.artifact import Artifact
from shared.records.counts import Counts
from shared.records.errors import StorageUnavailable
from shared.settings import ApiSettings
from shared.testing import FakeBlobs
from tests.api_client import FakeStorage, a_client, an_async_client
from tests.builders import a_csv, a_patient

CSV = {"Content-Type": "text/csv"}
FILE = a_csv(a_patient(), a_patient(age=70))


@pytest.fixture
def storage() -> FakeStorage:
    return FakeStorage()


@pytest.fixture
def client(artifact: Artifact, storage: FakeStorage) -> TestClient:
    return a_client(artifact, storage.connect)


# State


def test_rows_done_are_counted_from_the_staged_blocks(
    client: TestClient, storage: FakeStorage
) -> None:
    batch_id = client.post("/batches", content=FILE, headers=CSV).json()["batch_id"]
    counts = (Counts(rows=30_000, rejected=2), Counts(rows=500))
    blocks = [DataBlock("p" * 10, i, 10 * i, count) for i, count in enumerate(counts)]
    stale = DataBlock("o" * 10, 0, 10, Counts(rows=7))
    for block in (stale, *blocks):
        asyncio.run(storage.blobs.stage("scores", f"{batch_id}/scores.csv", block.name, b"x"))

    answer = client.get(f"/batches/{batch_id}")

    body = answer.json()
    assert datetime.fromisoformat(body.pop("created")).tzinfo
    assert body == {
        "batch_id": batch_id,
        "status": "running",
        "rows": {"total": 30_500, "scored": 30_498, "rejected": 2},
        "bytes": {"done": 10, "total": len(FILE)},
        "deliveries": 1,
    }
    assert int(answer.headers["retry-after"]) > 0


def test_a_file_that_workers_share_shows_its_parts(
    client: TestClient, storage: FakeStorage
) -> None:
    batch_id = client.post("/batches", content=FILE, headers=CSV).json()["batch_id"]
    plan = "p" * 10
    blocks = [DataBlock(plan, sequence, 10, Counts(rows=1)).name for sequence in (4, 5, 6, 7)]
    for name in (part_begun(plan, 0, "w" * 12), *blocks):
        asyncio.run(storage.blobs.stage("scores", f"{batch_id}/scores.csv", name, b"x"))
    early = client.get(f"/batches/{batch_id}").json()
    cut = file_cut(plan, 9)
    asyncio.run(storage.blobs.stage("scores", f"{batch_id}/scores.csv", cut, b"x"))

    later = client.get(f"/batches/{batch_id}").json()

    assert early["parts"] == {"done": 1, "workers": 1}
    assert later["parts"] == {"done": 1, "total": 3, "workers": 1}
    assert later["rows"]["total"] == 4


def test_a_batch_that_waits_shows_the_size_of_its_file(client: TestClient) -> None:
    batch_id = client.post("/batches", content=FILE, headers=CSV).json()["batch_id"]

    body = client.get(f"/batches/{batch_id}").json()

    assert body["status"] == "queued"
    assert body["bytes"] == {"done": 0, "total": len(FILE)}


def test_a_committed_result_without_summary_is_still_running(
    client: TestClient, storage: FakeStorage
) -> None:
    batch_id = client.post("/batches", content=FILE, headers=CSV).json()["batch_id"]
    commit = {"counts": Counts(rows=9).numbers, "identity": {}, "message_id": "m-1"}
    metadata = commit_metadata(commit)
    asyncio.run(storage.blobs.stage("scores", f"{batch_id}/scores.csv", "a", b"x"))
    asyncio.run(
        storage.blobs.commit("scores", f"{batch_id}/scores.csv", ["a"], "text/csv", metadata)
    )

    answer = client.get(f"/batches/{batch_id}").json()

    assert (answer["status"], answer["rows"]["total"]) == ("running", 9)


def test_a_batch_that_ended_shows_its_summary_without_names_of_files(
    client: TestClient, storage: FakeStorage
) -> None:
    storage.finish("b1")

    answer = client.get("/batches/b1")

    assert answer.json() == {
        "batch_id": "b1",
        "status": "succeeded",
        "rows": {"total": 3, "scored": 2, "rejected": 1},
        "rejections": {"out_of_range": 1},
    }
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("batch_id", ["unknown", "a b", "a" * 61, "x~y", "%2e%2e"])
def test_a_batch_that_nobody_knows_is_404(client: TestClient, batch_id: str) -> None:
    assert client.get(f"/batches/{batch_id}").status_code == 404
    assert client.get(f"/batches/{batch_id}/scores").status_code == 404


def test_a_batch_whose_id_was_taken_shows_why_it_failed(
    client: TestClient, storage: FakeStorage
) -> None:
    storage.finish("b1~7f3c", status="failed", reason="batch_id already used", deliveries=2)

    answer = client.get("/batches/b1~7f3c").json()

    assert (answer["reason"], answer["deliveries"]) == ("batch_id already used", 2)


def test_deliveries_of_a_running_batch_are_counted(
    client: TestClient, storage: FakeStorage
) -> None:
    batch_id = client.post("/batches", content=FILE, headers=CSV).json()["batch_id"]
    for marker in (Marker.begin("p" * 10, "m", 0), Marker.begin("p" * 10, "m", 0)):
        for name in (marker.name, marker.excuse().name):
            asyncio.run(storage.blobs.stage("scores", f"{batch_id}/scores.csv", name, b"x"))

    assert client.get(f"/batches/{batch_id}").json()["deliveries"] == 3


# Cancelling


def test_a_batch_is_cancelled_once_and_for_all(client: TestClient) -> None:
    batch_id = client.post("/batches", content=FILE, headers=CSV).json()["batch_id"]

    answers = [client.delete(f"/batches/{batch_id}") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["status"] == "cancelled"
    assert client.get(f"/batches/{batch_id}").json()["status"] == "cancelled"
    assert client.get(f"/batches/{batch_id}/scores").json()["code"] == "no_scores"


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_a_finished_batch_is_not_cancelled(
    client: TestClient, storage: FakeStorage, status: str
) -> None:
    storage.finish("b1", status=status, reason="no column age")

    answer = client.delete("/batches/b1")

    assert (answer.status_code, answer.json()["code"]) == (409, "already_finished")
    assert client.get("/batches/b1").json()["status"] == status


def test_only_batches_that_are_known_and_were_sent_here_are_cancelled(
    client: TestClient, storage: FakeStorage
) -> None:
    block = DataBlock("p" * 10, 0, 10, Counts(rows=5))
    asyncio.run(storage.blobs.stage("scores", "others/scores.csv", block.name, b"x"))

    unknown, others = client.delete("/batches/unknown"), client.delete("/batches/others")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (others.status_code, others.json()["code"]) == (409, "not_cancellable")


# The list


def ids(answer: Any) -> list[str]:
    return [batch["batch_id"] for batch in answer.json()["batches"]]


@pytest.fixture
def listed(client: TestClient, storage: FakeStorage) -> list[str]:
    """Batches in every state, the newest first."""
    storage.finish("sent-by-queue")
    storage.finish("failed-one", status="failed", reason="no column age")
    queued, running, done = (
        client.post("/batches", content=FILE, headers=CSV).json()["batch_id"] for _ in range(3)
    )
    block = DataBlock("p" * 10, 0, 10, Counts(rows=5))
    asyncio.run(storage.blobs.stage("scores", f"{running}/scores.csv", block.name, b"x"))
    storage.finish(done)
    return [done, running, queued, "failed-one", "sent-by-queue"]


def test_all_batches_are_listed_the_newest_first(client: TestClient, listed: list[str]) -> None:
    answer = client.get("/batches")

    assert ids(answer) == listed
    statuses = [batch["status"] for batch in answer.json()["batches"]]
    assert statuses == ["succeeded", "running", "queued", "failed", "succeeded"]
    assert answer.json()["batches"][3]["reason"] == "no column age"
    assert "cursor" not in answer.json()


def test_the_list_has_the_length_and_age_of_the_queue(client: TestClient) -> None:
    assert client.get("/batches").json()["queue"] == {"messages": 0}

    client.post("/batches", content=FILE, headers=CSV)

    queue = client.get("/batches").json()["queue"]
    assert queue["messages"] == 1
    assert queue["oldest_seconds"] >= 0


def test_a_queue_that_may_not_be_read_is_left_out_of_the_list(
    client: TestClient, storage: FakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse() -> int:
        raise StorageUnavailable("403")

    monkeypatch.setattr(storage.queue, "length", refuse)

    answer = client.get("/batches")

    assert answer.status_code == 200
    assert "queue" not in answer.json()


def test_pages_follow_each_other_without_gap(client: TestClient, listed: list[str]) -> None:
    found: list[str] = []
    query = "limit=2"
    for _ in range(3):
        answer = client.get(f"/batches?{query}")
        found += ids(answer)
        query = f"limit=2&cursor={answer.json().get('cursor')}"

    assert found == listed
    assert "cursor" not in answer.json()


@pytest.mark.parametrize(
    ("status", "count"),
    [("queued", 1), ("running", 1), ("succeeded", 2), ("failed", 1), ("cancelled", 0)],
)
def test_only_batches_of_one_state_are_listed(
    client: TestClient, listed: list[str], status: str, count: int
) -> None:
    batches = client.get(f"/batches?status={status}").json()["batches"]

    assert [batch["status"] for batch in batches] == [status] * count
    assert len(listed) == 5


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "status=new", "cursor=x", "cursor=%C3"])
def test_a_wrong_page_is_refused(client: TestClient, query: str) -> None:
    answer = client.get(f"/batches?{query}")

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_parameter")
    assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


# Scores


def test_scores_stream_as_a_file(client: TestClient, storage: FakeStorage) -> None:
    storage.finish("b1")

    answer = client.get("/batches/b1/scores", headers={"Accept-Encoding": "identity"})

    assert answer.text == "row,probability\n1,0.5\n"
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["content-disposition"] == 'attachment; filename="b1-scores.csv"'


def test_scores_that_storage_does_not_hand_out_are_a_problem_and_no_file(
    client: TestClient, storage: FakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def chunks(*_: str) -> AsyncIterator[bytes]:
        raise StorageUnavailable("busy", 16.2)
        yield b""

    storage.finish("b1")
    monkeypatch.setattr(storage.blobs, "chunks", chunks)

    answer = client.get("/batches/b1/scores")

    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert answer.headers["retry-after"] == "17"
    assert "content-disposition" not in answer.headers


async def test_a_download_that_nobody_reads_frees_its_capacity() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"row,probability\n"

    async def never(*_: object) -> Message:
        return await asyncio.Future()

    async def unread(_: Message) -> None:
        await never()

    capacity = Capacity(1)
    download = Download(pieces(), capacity=capacity, seconds=0.01)

    with pytest.raises(TimeoutError):
        await download({"type": "http", "asgi": {"spec_version": "2.3"}}, never, unread)

    with capacity.taken(), pytest.raises(Problem), capacity.taken():
        pass


def test_scores_that_are_not_there_yet_are_409(client: TestClient) -> None:
    batch_id = client.post("/batches", content=FILE, headers=CSV).json()["batch_id"]

    answer = client.get(f"/batches/{batch_id}/scores")

    assert (answer.status_code, answer.json()["code"]) == (409, "not_finished")
    assert int(answer.headers["retry-after"]) > 0


def test_a_failed_batch_has_a_reason_and_no_scores(
    client: TestClient, storage: FakeStorage
) -> None:
    storage.finish("b1", status="failed", reason="the file has no column age")

    assert client.get("/batches/b1").json()["reason"] == "the file has no column age"
    answer = client.get("/batches/b1/scores")
    assert answer.status_code == 409
    assert "no column age" in answer.json()["detail"]


# Storage down, and limits


def test_while_storage_is_down_batches_are_503_and_scores_go_on(artifact: Artifact) -> None:
    client = a_client(artifact)

    for answer in (
        client.post("/batches", content=FILE, headers=CSV),
        client.get("/batches/b1"),
        client.get("/batches/b1/scores"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
        assert int(answer.headers["retry-after"]) > 0
    assert client.post("/predict", json=a_patient()).status_code == 200
    assert client.get("/readyz").status_code == 200


def test_storage_that_comes_back_is_used(artifact: Artifact, storage: FakeStorage) -> None:
    tries: list[int] = []

    async def connect(settings: ApiSettings) -> Connection:
        tries.append(1)
        if len(tries) == 1:
            raise StorageUnavailable("down")
        return await storage.connect(settings)

    client = a_client(artifact, connect)

    statuses = [
        client.post("/batches", content=FILE, headers=CSV).status_code,
        client.post("/batches", content=FILE, headers=CSV).status_code,
        client.get("/batches/unknown").status_code,
    ]

    assert statuses == [503, 202, 404]
    assert len(tries) == 2


def test_without_storage_settings_batches_say_so(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    monkeypatch.delenv("SCORER_STORAGE_ACCOUNT", raising=False)
    client = TestClient(create_app(artifact, ApiSettings()))

    answer = client.post("/batches", content=FILE, headers=CSV)

    assert answer.status_code == 503
    assert "no storage is configured" in answer.json()["detail"]


async def test_transfers_over_the_limit_are_answered_at_once(
    artifact: Artifact, storage: FakeStorage
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"age,sex\n"
        begun.set()
        await go_on.wait()
        yield b"54,1\n"

    async with an_async_client(artifact, storage.connect, transfers=1) as client:
        first = asyncio.create_task(client.post("/batches", content=slowly(), headers=CSV))
        await begun.wait()
        refused = await client.post("/batches", content=FILE, headers=CSV)
        go_on.set()

        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert (await first).status_code == 202
        again = await client.post("/batches", content=FILE, headers=CSV)
        assert again.status_code == 202


def test_the_connection_is_closed_at_the_end(artifact: Artifact, storage: FakeStorage) -> None:
    with a_client(artifact, storage.connect) as client:
        client.get("/batches/b1")

    assert storage.closed


# Storage that hangs, and callers who are slow


class HangingBlobs(FakeBlobs):
    """Takes calls and never answers them."""

    async def read(self, container: str, name: str) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    async def stage(self, container: str, name: str, block: str, content: bytes) -> None:
        await asyncio.Event().wait()


async def test_storage_that_hangs_is_503_and_leaves_room_for_scores(
    artifact: Artifact, storage: FakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.store.STORAGE_SECONDS", 1)
    monkeypatch.setattr("api.transfers.STORAGE_SECONDS", 1)
    storage.blobs = HangingBlobs()

    async with an_async_client(artifact, storage.connect, requests=8) as client:
        lookups = [asyncio.create_task(client.get("/batches/b1")) for _ in range(8)]
        upload = asyncio.create_task(client.post("/batches", content=FILE, headers=CSV))
        await asyncio.sleep(0.2)
        scored = await client.post("/predict", json=a_patient())
        answers = [await answer for answer in (*lookups, upload)]

    assert scored.status_code == 200
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
    codes = [answer.json()["code"] for answer in answers]
    assert codes.count("storage_unavailable") == 3  # two lookups at once, and the upload
    assert codes.count("overloaded") == 6


async def test_an_upload_that_trickles_is_ended(artifact: Artifact, storage: FakeStorage) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b"age,sex\n"
        while True:
            await asyncio.sleep(0.1)
            yield b"5"

    async with an_async_client(artifact, storage.connect, transfers=1, body_seconds=0.5) as client:
        slow = await client.post("/batches", content=trickle(), headers=CSV)
        other = await client.post("/batches", content=FILE, headers=CSV)

    assert (slow.status_code, slow.json()["code"]) == (408, "body_too_slow")
    assert other.status_code == 202


async def test_a_download_that_trickles_is_ended() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"1"

    async def slowly(message: object) -> None:
        await asyncio.sleep(0.1)

    async def never() -> Any:
        await asyncio.Event().wait()

    download = Download(pieces(), capacity=Capacity(1), seconds=0.5)

    with pytest.raises(TimeoutError):
        await download({"type": "http", "asgi": {"spec_version": "2.3"}}, never, slowly)
