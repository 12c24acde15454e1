"""The Python client against the running services, directly and over a connection that fails."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import nan
from pathlib import Path

import httpx
import pytest

from cli.local import Running
from heart_scorer import ApiError, Client, Conflict, NotAuthorised, NotFound, Rejected, Unavailable
from tests.api_process import ROOT, running_api
from tests.builders import a_csv, a_patient

pytestmark = pytest.mark.azurite


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with Client(running.api_url) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "patients.csv"
    path.write_bytes(a_csv(*(a_patient(patient_id=str(i)) for i in range(50)), a_patient(age=5)))
    return path


def test_a_record_is_scored_alone_and_among_others(client: Client) -> None:
    alone = client.predict(a_patient(chol=nan))
    explained = client.predict(a_patient(), explain=True)
    many = client.predict_many([a_patient(chol=nan), a_patient(age=5)])

    assert many[0]["probability"] == alone["probability"]
    assert many[1]["errors"][0]["code"] == "out_of_range"
    assert explained["explanation"]["contributions"]


def test_a_file_is_submitted_awaited_and_downloaded(
    client: Client, file: Path, tmp_path: Path
) -> None:
    file.write_bytes(file.read_bytes().replace(b"sex", b"Gender", 1))

    batch_id = client.submit(file, include_input=True, rename={"Gender": "sex"})
    batch = client.wait(batch_id, timeout=120)
    scores = client.scores(batch_id, tmp_path / "scores.csv")

    assert batch["status"] == "succeeded"
    assert batch["rows"] == {"total": 51, "scored": 50, "rejected": 1}
    assert len(scores.read_text().splitlines()) == 52
    assert "input_age" in scores.read_text()
    with pytest.raises(Conflict, match="finished"):
        client.cancel(batch_id)
    with pytest.raises(Rejected) as used:
        client.submit(file, idempotency_key="no key")
    assert used.value.errors[0]["field"] == "Idempotency-Key"


def test_a_failed_batch_says_why_and_has_no_scores(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text("a,b\n1,2\n")

    batch_id = client.submit(file)
    batch = client.wait(batch_id, timeout=120)

    assert (batch["status"], bool(batch["reason"])) == ("failed", True)
    with pytest.raises(Conflict, match=re.escape(batch["reason"])):
        client.scores(batch_id, tmp_path / "scores.csv")
    assert not [*tmp_path.glob("scores*")]


def test_an_error_has_its_kind_and_its_faults(client: Client) -> None:
    with pytest.raises(Rejected, match="age must be from 18 to 110") as refused:
        client.predict(a_patient(age=5))
    with pytest.raises(NotFound):
        client.wait("there/is none")

    assert (refused.value.status, refused.value.code) == (422, "record_rejected")
    assert refused.value.errors[0]["pointer"] == "/age"
    assert refused.value.request_id


def test_a_key_is_sent(artifact_dir: Path, tmp_path: Path) -> None:
    with running_api(artifact_dir, tmp_path / "log", SCORER_API_KEYS="a-key") as api:
        with Client(api.url, "a-key") as client:
            assert client.predict(a_patient())["prediction"] in (0, 1)
        with Client(api.url) as client, pytest.raises(NotAuthorised):
            client.predict(a_patient())


class Failures:
    """Failures on the way to the API, once for each entry; then all is passed on."""

    def __init__(self, *failures: str) -> None:
        self.left = [*failures]
        self.seen: list[httpx.Headers] = []
        self.bodies: list[bytes] = []


@contextmanager
def failing(url: str, failures: Failures) -> Iterator[str]:
    """The address of a proxy to the API that fails as told: `busy`, `cut` (half an answer)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = httpx.Headers(self.headers.items())
            body = self.rfile.read(int(headers.get("content-length", 0)))
            failures.seen.append(headers)
            failures.bodies.append(body)
            failure = failures.left.pop(0) if failures.left else ""
            if failure == "busy":
                self.send_response(503)
                self.send_header("Retry-After", "0")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            answer = httpx.request(
                self.command, url + self.path, headers=headers, content=body, timeout=60
            )
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            half = len(answer.content) // 2
            self.wfile.write(answer.content[:half] if failure == "cut" else answer.content)
            self.close_connection = True

        do_POST = do_GET  # noqa: N815  # the name that http.server calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_a_broken_download_goes_on_where_it_stopped(
    running: Running, client: Client, file: Path, tmp_path: Path
) -> None:
    batch_id = client.submit(file)
    client.wait(batch_id, timeout=120)
    whole = client.scores(batch_id, tmp_path / "whole.csv").read_bytes()
    failures = Failures("cut", "cut")

    with failing(running.api_url, failures) as url, Client(url) as unlucky:
        resumed = unlucky.scores(batch_id, tmp_path / "resumed.csv").read_bytes()

    assert resumed == whole
    assert "range" not in failures.seen[0]
    half, rest = len(whole) // 2, len(whole) - len(whole) // 2
    assert failures.seen[1]["range"] == f"bytes={half}-"
    assert failures.seen[2]["range"] == f"bytes={half + rest // 2}-"
    assert failures.seen[2]["if-match"]
    assert sorted(path.name for path in tmp_path.glob("*.csv*")) == [
        "patients.csv",
        "resumed.csv",
        "whole.csv",
    ]


def test_an_upload_is_repeated_whole_and_under_the_same_key(
    running: Running, client: Client, file: Path
) -> None:
    failures = Failures("busy", "cut")

    with failing(running.api_url, failures) as url, Client(url) as unlucky:
        batch_id = unlucky.submit(file)

    assert client.wait(batch_id, timeout=120)["rows"]["total"] == 51
    assert len({headers["idempotency-key"] for headers in failures.seen}) == 1
    assert [file.read_bytes() in body for body in failures.bodies] == [True, True, True]


def test_the_client_gives_up_after_its_attempts(running: Running) -> None:
    failures = Failures("busy", "busy", "busy")

    with (
        failing(running.api_url, failures) as url,
        Client(url, attempts=2) as unlucky,
        pytest.raises(Unavailable, match="503"),
    ):
        unlucky.predict(a_patient())

    assert len(failures.seen) == 2
    with Client("http://127.0.0.1:9", attempts=1) as nowhere, pytest.raises(httpx.ConnectError):
        nowhere.predict(a_patient())


def test_a_batch_that_nobody_takes_can_be_cancelled(
    connection_string: str, artifact_dir: Path, file: Path, tmp_path: Path
) -> None:
    queue = f"q-{uuid.uuid4().hex[:12]}"  # one without a worker
    settings = {"AZURE_STORAGE_CONNECTION_STRING": connection_string, "SCORER_QUEUE": queue}
    with (
        running_api(artifact_dir, tmp_path / "log", **settings) as api,
        Client(api.url) as client,
    ):
        batch_id = client.submit(file)
        with pytest.raises(TimeoutError, match="still queued"):
            client.wait(batch_id, timeout=0)
        with pytest.raises(Conflict, match="queued"):
            client.scores(batch_id, tmp_path / "scores.csv")

        assert client.cancel(batch_id)["status"] == "cancelled"
        assert client.wait(batch_id)["status"] == "cancelled"


def test_every_error_of_the_client_is_on_its_page() -> None:
    page = (ROOT / "docs/client.md").read_text()

    for kind in ApiError.__subclasses__():
        assert f"| `{kind.__name__}` |" in page


def test_the_lines_of_the_page_run_as_written(running: Running, tmp_path: Path) -> None:
    page = (ROOT / "docs/client.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    shutil.copy(ROOT / "samples/patients.csv", tmp_path)

    done = subprocess.run(
        [sys.executable, "-c", code.replace("http://localhost:8000", running.api_url)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "mmol/l" in done.stdout
    assert "succeeded" in done.stdout
    assert (tmp_path / "scores.csv").read_text().startswith("row,patient_id,probability")
