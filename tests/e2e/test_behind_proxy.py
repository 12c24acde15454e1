"""The API behind nginx, which strips a prefix, and an Azure SDK that polls it there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from azure.core import PipelineClient
from azure.core.pipeline import Pipeline
from azure.core.pipeline.policies import RequestIdPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.polling import LROPoller
from azure.core.polling.base_polling import LROBasePolling
from azure.core.rest import HttpRequest, HttpResponse
from playwright.sync_api import expect

from cli.local import Running, wait_until
from tests.api_process import running_api
from tests.builders import a_csv, a_patient
from tests.e2e.browser import chromium, page_of
from tests.ports import free_port

pytestmark = pytest.mark.azurite

PREFIX = "/hospital/scores"
CONFIG = """
{user}
daemon off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream api {{
    server 127.0.0.1:{api_port};
    keepalive 4;
  }}
  server {{
    listen 127.0.0.1:{port};
    location {prefix}/ {{
      proxy_pass http://api/;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, port: int, api_port: int) -> Iterator[None]:
    """nginx that strips `PREFIX`. Without it the test is skipped; `.ci/run` installs it."""
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("no nginx on this machine: apt-get install nginx-light")
    # As root it would otherwise work as a user who may not write into the test's folder.
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        CONFIG.format(user=user, folder=folder, port=port, api_port=api_port, prefix=PREFIX)
    )
    log = folder / "nginx.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "-e", "stderr", "-c", config, "-p", folder], stderr=output
        )
    try:
        wait_until(process, f"http://127.0.0.1:{port}{PREFIX}/livez", log)
        yield
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def public_url(
    running: Running,
    connection_string: str,
    artifact_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Where callers reach an API of its own; the worker of `running` takes its batches."""
    folder = tmp_path_factory.mktemp("proxy")
    port = free_port()
    url = f"http://127.0.0.1:{port}{PREFIX}"
    env = {"AZURE_STORAGE_CONNECTION_STRING": connection_string, "SCORER_PUBLIC_URL": url}
    with running_api(artifact_dir, folder / "log", **env) as api, nginx(folder, port, api.port):
        yield url


def test_the_poller_of_azure_core_waits_for_a_batch(public_url: str) -> None:
    def outcome(response: object) -> dict[str, object]:
        found: dict[str, object] = response.http_response.json()  # type: ignore[attr-defined]
        return found

    pipeline = Pipeline[Any, Any](RequestsTransport(), [RequestIdPolicy()])
    with PipelineClient[Any, Any](public_url, pipeline=pipeline) as client:
        content = a_csv(*[a_patient() for _ in range(1000)])
        request = HttpRequest(
            "POST", f"{public_url}/batches", content=content, headers={"Content-Type": "text/csv"}
        )
        sent = pipeline.run(request)

        poller = LROPoller(client, sent, outcome, LROBasePolling(timeout=1))
        found = poller.result(timeout=240)

    assert poller.status().lower() == "succeeded"
    assert found["rows"] == {"total": 1000, "scored": 1000, "rejected": 0}


def test_the_type_of_a_problem_can_be_opened(public_url: str) -> None:
    with PipelineClient[HttpRequest, HttpResponse](public_url) as client:
        refused = client.send_request(HttpRequest("GET", f"{public_url}/batches/there-is-none"))
        page = client.send_request(HttpRequest("GET", refused.json()["type"]))

    assert refused.status_code == 404
    assert page.status_code == 200
    assert 'id="not_found"' in page.text()


@pytest.mark.slow
def test_the_pages_work_under_a_prefix(public_url: str) -> None:
    with chromium() as browser, page_of(browser, public_url) as page:
        page.goto(f"{public_url}/docs")
        operation = page.locator(".opblock", has_text="/predict").first
        operation.locator(".opblock-summary-control").click()
        operation.get_by_role("button", name="Execute").click()
        expect(operation.get_by_text('"prediction"').first).to_be_visible()

        page.get_by_role("link", name="Model card").click()
        page.locator(".contents").first.wait_for()
