"""The parts of Azure that a token passes, on this machine.

Azurite takes tokens over https only, and believes any. So the parts that decide are here: an
identity endpoint as Container Apps gives it to a container, and a proxy in front of Azurite that
permits each call by the roles of the templates.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, TCPConnector, web
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient
from yarl import URL

from cli.local import ACCOUNT, KEY, install_azurite, node, process
from tests.ports import free_port

SECRET = "the-header-of-this-container"
SESSION = web.AppKey("session", ClientSession)
HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}

READ, WRITE, DELETE = "read", "write", "delete"
SEND, RECEIVE, UPDATE, PEEK, COUNT = "send", "receive", "update", "peek", "count"
PERMITS = {
    "blob reader": {READ},
    "blob contributor": {READ, WRITE, DELETE},
    "queue reader": {PEEK, COUNT},
    "queue sender": {SEND},
    "queue contributor": {SEND, RECEIVE, UPDATE, DELETE, PEEK, COUNT, WRITE},
}
"""Rights of each built-in role on messages and blobs."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call to storage: what it does, and to which queue or container."""

    operation: str
    name: str


def call_of(method: str, path: str, query: dict[str, str]) -> Call:
    """The right that a request to storage needs, by the rules of its REST interface."""
    _, _, name, *rest = path.split("/")
    if rest and rest[0] == "messages":
        peek = query.get("peekonly") == "true"
        get = PEEK if peek else RECEIVE
        operation = {"POST": SEND, "GET": get, "PUT": UPDATE, "DELETE": DELETE}[method]
    elif method in ("GET", "HEAD"):
        operation = COUNT if query.get("comp") == "metadata" and not rest else READ
    else:
        operation = DELETE if method == "DELETE" else WRITE
    return Call(operation, name)


@dataclass
class Cloud:
    """The identity endpoint, the proxy, and what was asked of them."""

    grants: set[tuple[str, str, str]]
    """Who has which role on what."""
    certificate: Path
    blob_endpoint: str = ""
    queue_endpoint: str = ""
    identity_endpoint: str = ""
    identity_answers: Callable[[], Coroutine[Any, Any, int]] | None = None
    """Waits, and returns the status that the identity endpoint answers with."""
    tokens: list[str] = field(default_factory=list)
    """Who asked for a token."""
    calls: list[tuple[str, Call]] = field(default_factory=list)
    denied: list[tuple[str, Call]] = field(default_factory=list)

    def environment(self, who: str) -> dict[str, str]:
        """The environment of a container with this identity."""
        return {
            "AZURE_CLIENT_ID": who,
            "AZURE_STORAGE_CONNECTION_STRING": "",
            "IDENTITY_ENDPOINT": self.identity_endpoint,
            "IDENTITY_HEADER": SECRET,
            "SCORER_BLOB_ENDPOINT": self.blob_endpoint,
            "SCORER_QUEUE_ENDPOINT": self.queue_endpoint,
            "SSL_CERT_FILE": str(self.certificate),
        }

    def permits(self, who: str, call: Call) -> bool:
        """Whether a role of this identity covers the call."""
        return any(
            call.operation in PERMITS.get(role, ())
            for someone, role, scope in self.grants
            if someone == who and scope in (call.name, "account")
        )

    async def give_token(self, request: web.Request) -> web.Response:
        """Answer as the identity endpoint of Container Apps does."""
        who = request.query["client_id"]
        self.tokens.append(who)
        if request.headers.get("X-IDENTITY-HEADER") != SECRET:
            return web.json_response({"message": "wrong header"}, status=401)
        status = await self.identity_answers() if self.identity_answers else 200
        if status != 200:
            text = "No User Assigned or Delegated Managed Identity found for specified ClientId"
            return web.json_response({"statusCode": status, "message": text}, status=status)
        now = int(time.time())
        claims = {
            "aud": "https://storage.azure.com",
            "iss": "https://sts.windows.net/tenant/",
            "nbf": now - 60,
            "iat": now - 60,
            "exp": now + 3600,
            "appid": who,
        }
        token = ".".join(_encoded(part) for part in ({"alg": "none", "typ": "JWT"}, claims, {}))
        answer = {"access_token": token, "expires_on": str(now + 3600), "token_type": "Bearer"}
        return web.json_response(answer | {"resource": request.query["resource"]})


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def _caller(header: str) -> str:
    payload = header.removeprefix("Bearer ").split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["appid"])


def proxy(cloud: Cloud, target: str, certificate: Path) -> web.Application:
    """A proxy to one service of Azurite that permits calls by role."""

    async def handle(request: web.Request) -> web.StreamResponse:
        who = _caller(request.headers["Authorization"])
        call = call_of(request.method, request.path, dict(request.query))
        cloud.calls.append((who, call))
        if not cloud.permits(who, call):
            cloud.denied.append((who, call))
            code = "AuthorizationPermissionMismatch"
            xml = (
                f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no role</Message></Error>"
            )
            headers = {"x-ms-error-code": code, "x-ms-request-id": "1"}
            return web.Response(
                status=403, text=xml, content_type="application/xml", headers=headers
            )
        sent = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        body = await request.read()
        url = URL(f"{target}{request.raw_path}", encoded=True)
        async with request.app[SESSION].request(
            request.method, url, headers=sent, data=body, allow_redirects=False
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP}
            length = answer.headers.get("Content-Length") if request.method == "HEAD" else None
            if length is not None:
                kept["Content-Length"] = length
            return web.Response(status=answer.status, headers=kept, body=await answer.read())

    async def session(app: web.Application) -> Any:
        trust = ssl.create_default_context(cafile=str(certificate))
        connector = TCPConnector(ssl=trust)
        async with ClientSession(connector=connector, auto_decompress=False) as opened:
            app[SESSION] = opened
            yield

    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", handle)
    app.cleanup_ctx.append(session)
    return app


@contextmanager
def azure(grants: set[tuple[str, str, str]], folder: Path) -> Iterator[Cloud]:
    """Azurite with OAuth over https, behind the proxy, and an identity endpoint."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    blobs, queues, tables = free_port(), free_port(), free_port()
    command = [
        *(*node()[0], str(install_azurite()), "--inMemoryPersistence", "--silent"),
        *("--disableTelemetry", "--skipApiVersionCheck", "--oauth", "basic"),
        *("--cert", str(certificate), "--key", str(key)),
        *("--blobPort", str(blobs), "--queuePort", str(queues), "--tablePort", str(tables)),
    ]
    with process(command, folder / "azurite.log") as child, _loop() as loop:
        _wait_for_ports(child, folder / "azurite.log", blobs, queues)
        cloud = Cloud(grants, certificate)
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(certificate, key)
        endpoints = web.Application()
        endpoints.router.add_get("/msi/token", cloud.give_token)
        with (
            _serve(loop, proxy(cloud, f"https://127.0.0.1:{blobs}", certificate), server) as blob,
            _serve(loop, proxy(cloud, f"https://127.0.0.1:{queues}", certificate), server) as queue,
            _serve(loop, endpoints, None) as identity,
        ):
            cloud.blob_endpoint = f"https://127.0.0.1:{blob}/{ACCOUNT}"
            cloud.queue_endpoint = f"https://127.0.0.1:{queue}/{ACCOUNT}"
            cloud.identity_endpoint = f"http://127.0.0.1:{identity}/msi/token"
            _deploy(blobs, queues, certificate)
            yield cloud


def _deploy(blobs: int, queues: int, certificate: Path) -> None:
    """Create what the templates create."""
    text = (
        f"DefaultEndpointsProtocol=https;AccountName={ACCOUNT};AccountKey={KEY};"
        f"BlobEndpoint=https://127.0.0.1:{blobs}/{ACCOUNT};"
        f"QueueEndpoint=https://127.0.0.1:{queues}/{ACCOUNT};"
    )
    trust: dict[str, Any] = {"connection_verify": str(certificate)}
    with BlobServiceClient.from_connection_string(text, **trust) as blob_service:
        for container in ("incoming", "uploads", "scores", "workers", "dead-letters"):
            blob_service.create_container(container)
    with QueueServiceClient.from_connection_string(text, **trust) as queue_service:
        for queue in ("patient-batches", "patient-batches-poison", "patient-batches-parts"):
            queue_service.create_queue(queue)


def _wait_for_ports(child: subprocess.Popen[bytes], log: Path, *ports: int) -> None:
    ends = time.monotonic() + 120
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 2).close()
                break
            except OSError:
                if child.poll() is not None or time.monotonic() > ends:
                    raise AssertionError(f"no Azurite: {log.read_text()}") from None
                time.sleep(0.05)


@contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


@contextmanager
def _serve(
    loop: asyncio.AbstractEventLoop, app: web.Application, context: ssl.SSLContext | None
) -> Iterator[int]:
    """Serve an application on a free port."""
    port = free_port()
    runner = web.AppRunner(app)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()

    asyncio.run_coroutine_threadsafe(start(), loop).result(60)
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(60)
