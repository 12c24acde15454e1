"""The API as a process: its port, its limits on connections, its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_process import ROOT, RunningApi, running_api, start
from tests.builders import a_patient
from tests.e2e.client import get

STARTS = int(os.environ.get("SCORER_TEST_STARTS", "3"))
"""Starts in a row of the test of cold starts; 100 are meant now and then."""


@pytest.fixture(scope="module")
def api(artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with running_api(artifact_dir, tmp_path_factory.mktemp("api") / "log") as running:
        yield running


def request_bytes(body: bytes, *, announced: int | None = None) -> bytes:
    length = len(body) if announced is None else announced
    head = (
        "POST /predict HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def read_all(connection: socket.socket) -> bytes:
    pieces = b""
    while piece := connection.recv(65536):
        pieces += piece
    return pieces


def test_the_api_logs_its_address_and_who_may_call(api: RunningApi) -> None:
    [line] = [line for line in api.lines() if line["event"] == "api_started"]

    assert line["host"] == "127.0.0.1"
    assert line["port"] == api.port > 0
    assert line["access"] == "open to every caller"


def test_metrics_have_a_port_of_their_own(api: RunningApi) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{api.metrics_port}/metrics") as answer:
        text = answer.read().decode()

    assert "heart_scorer_model_info{" in text
    assert "heart_scorer_startup_seconds " in text
    assert 'heart_scorer_rows_total{outcome="scored",source="api"}' in text
    assert "_created" not in text
    assert "heart_scorer_messages_waiting" not in text  # the worker's
    assert get(f"{api.url}/metrics")[0] == 404


def test_scores_and_probes_load_nothing_heavy(
    artifact_dir: Path,
) -> None:
    code = f"""
import json, pathlib, sys
import api.__main__
from api.app import create_app
from api.middleware import PROBES
from shared.records.artifact import load_artifact
from shared.settings import ApiSettings
from fastapi.testclient import TestClient

artifact = load_artifact(pathlib.Path({str(artifact_dir)!r}))
with TestClient(create_app(artifact, ApiSettings())) as client:
    assert client.post("/predict", json={{"age": 54, "sex": 1}}).status_code == 200
    for probe in PROBES:
        assert client.get(probe).status_code == 200
print(json.dumps([*sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )

    loaded = {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    assert "onnxruntime" in loaded
    heavy = {"pandas", "sklearn", "joblib", "scipy", "polars", "azure", "aiohttp"}
    assert loaded & heavy == set()


def test_the_first_request_after_the_port_opens_is_answered(
    artifact_dir: Path, tmp_path: Path
) -> None:
    body = json.dumps(a_patient()).encode()

    for number in range(STARTS):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        process = start(artifact_dir, tmp_path / str(number), {"SCORER_PORT": str(port)})
        try:
            answer = first_answer(port, request_bytes(body))
        finally:
            process.terminate()
            assert process.wait(120) == 0
        assert status_of(answer) == 200


def first_answer(port: int, content: bytes) -> bytes:
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as connection:
                connection.sendall(content)
                return read_all(connection)
        except ConnectionRefusedError:
            time.sleep(0.001)
    raise AssertionError("the port did not open")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_requests_in_progress_and_exits_with_0(
    artifact_dir: Path, tmp_path: Path, number: signal.Signals
) -> None:
    content = request_bytes(json.dumps(a_patient()).encode())
    with (
        running_api(artifact_dir, tmp_path / "log") as api,
        api.connect() as connection,
    ):
        connection.sendall(content[:-5])
        time.sleep(0.3)
        api.process.send_signal(number)
        time.sleep(0.5)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", api.port), 1)
        connection.sendall(content[-5:])
        answer = read_all(connection)

        assert status_of(answer) == 200
        assert api.process.wait(120) == 0
        assert api.lines()[-1]["event"] == "api_stopped"


def test_a_request_that_never_ends_does_not_keep_it_from_stopping(
    artifact_dir: Path, tmp_path: Path
) -> None:
    with (
        running_api(artifact_dir, tmp_path / "log", SCORER_GRACE_SECONDS="1") as api,
        api.connect() as connection,
    ):
        connection.sendall(request_bytes(b"{", announced=100))
        time.sleep(0.3)

        assert api.stop(10) == 0


def test_a_slow_body_is_answered_408(artifact_dir: Path, tmp_path: Path) -> None:
    with (
        running_api(artifact_dir, tmp_path / "log", SCORER_BODY_SECONDS="0.3") as api,
        api.connect() as connection,
    ):
        connection.sendall(request_bytes(b"{", announced=100))

        assert status_of(read_all(connection)) == 408


def test_a_caller_who_asks_before_sending_is_told_to_go_on(api: RunningApi) -> None:
    body = json.dumps(a_patient()).encode()
    head = request_bytes(body).removesuffix(body)
    asking = head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    with api.connect() as connection:
        connection.sendall(asking)
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 Continue")

        connection.sendall(body)

        assert status_of(read_all(connection)) == 200


def test_headers_that_never_end_are_cut_off(artifact_dir: Path, tmp_path: Path) -> None:
    whole = b"GET /livez HTTP/1.1\r\nHost: api\r\n\r\n"
    begun = b"GET /livez HTTP/1.1\r\nX-Slow: "
    with running_api(artifact_dir, tmp_path / "log", SCORER_BODY_SECONDS="0.5") as api:
        for sent in ([], [begun], [whole, begun], [whole + begun], [whole + whole, begun]):
            with api.connect() as connection:
                for part in sent:
                    connection.sendall(part)
                    time.sleep(0.1)

                answers = read_all(connection)

            assert answers.count(b"HTTP/1.1 200 OK") == b"".join(sent).count(whole)
            assert answers.count(b"HTTP/1.1") == b"".join(sent).count(whole)


def test_headers_without_bound_are_refused(api: RunningApi) -> None:
    with api.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nX-Large: " + b"x" * 30_000)
        connection.sendall(b"x" * 60_000)

        assert b"400" in read_all(connection)[:20]


def run(artifact_dir: Path, **env: str) -> subprocess.CompletedProcess[str]:
    chosen: dict[str, Any] = {"SCORER_MODEL_DIR": str(artifact_dir), "SCORER_HEALTH_PORT": "0"}
    return subprocess.run(
        [sys.executable, "-m", "api"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | chosen | env,
        timeout=120,
    )


def test_a_port_that_is_taken_stops_the_start_with_one_line(
    api: RunningApi, artifact_dir: Path
) -> None:
    for name, port in (("SCORER_PORT", api.port), ("SCORER_HEALTH_PORT", api.metrics_port)):
        done = run(artifact_dir, **{"SCORER_PORT": "0", name: str(port)})

        assert done.returncode == 3
        [line] = done.stderr.strip().splitlines()
        assert name in line


def test_without_keys_it_listens_on_this_machine_only(artifact_dir: Path) -> None:
    done = run(artifact_dir, SCORER_HOST="0.0.0.0")  # noqa: S104

    assert done.returncode == 3
    [line] = done.stderr.strip().splitlines()
    assert "SCORER_API_KEYS must be set" in line


def test_an_idle_connection_closes_after_the_time_that_is_set(
    artifact_dir: Path, tmp_path: Path
) -> None:
    with (
        running_api(artifact_dir, tmp_path / "log", SCORER_KEEP_ALIVE_SECONDS="1") as api,
        api.connect() as connection,
    ):
        connection.settimeout(60)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: api\r\n\r\n")

        assert answer_on(connection).startswith(b"HTTP/1.1 200")
        assert connection.recv(65536) == b""


@pytest.mark.slow
def test_an_idle_connection_outlives_that_of_a_proxy(api: RunningApi) -> None:
    # Longer than the default of the server, and than the time for the head of a request.
    idle_seconds = 15
    with api.connect() as connection:
        connection.settimeout(60)
        for pause in (idle_seconds, 0):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: api\r\n\r\n")

            assert answer_on(connection).startswith(b"HTTP/1.1 200")
            time.sleep(pause)


OFFERS = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
)


def test_an_offer_of_another_protocol_is_ignored_on_every_request(api: RunningApi) -> None:
    body = json.dumps(a_patient()).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n" + OFFERS
    whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    half = len(body) // 2
    chunks = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (
        half, body[:half], len(body) - half, body[half:],
    )  # fmt: skip
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks

    with api.connect() as connection:
        for request in (whole, chunked, whole):
            connection.sendall(request[:60])
            time.sleep(0.1)
            connection.sendall(request[60:])
            assert answer_on(connection).startswith(b"HTTP/1.1 200")


def answer_on(connection: socket.socket) -> bytes:
    """One answer of a connection that stays open."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + body


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_that_prefers_http2_is_answered(api: RunningApi) -> None:
    if "HTTP2" not in subprocess.run(["curl", "-V"], capture_output=True, text=True).stdout:
        pytest.skip("this curl does not speak HTTP/2")

    done = subprocess.run(
        ["curl", "-sS", "--http2", "-d", json.dumps(a_patient()), "-w", "\n%{http_code}",
         "-H", "Content-Type: application/json", f"{api.url}/predict"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.splitlines()[-1] == "200"


def test_a_caller_who_closes_their_side_still_gets_the_answer(api: RunningApi) -> None:
    body = json.dumps(a_patient()).encode()
    with api.connect() as connection:
        connection.sendall(request_bytes(body).replace(b"Connection: close\r\n", b""))
        connection.shutdown(socket.SHUT_WR)

        assert status_of(read_all(connection)) == 200


def test_a_request_that_the_parser_refuses_is_answered_with_a_problem(api: RunningApi) -> None:
    with api.connect() as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nno colon here\r\n\r\n")

        head, _, body = read_all(connection).partition(b"\r\n\r\n")

    assert status_of(head) == 400
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == "bad_request"
