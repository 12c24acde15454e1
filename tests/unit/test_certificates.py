"""Storage is reached over TLS by the certificates of the system, though these load in a thread."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Where `ssl` is asked for nothing else before, as in a process that starts.
ASK = """
import asyncio, os
from datetime import UTC, datetime
from pydantic import SecretStr
from shared.records.errors import ScorerError
from shared.batches.ports import Message
from shared.settings import StorageSettings
from shared.storage.azure import open_storage

async def ask():
    settings = StorageSettings(connection_string=SecretStr(os.environ["STORAGE"]))
    async with open_storage(settings) as storage:
        now = datetime.now(UTC)
        try:
            await storage.queue("patient-batches").renew(Message("1", "1", "", 1, now, now), 1)
        except ScorerError as error:
            print(error.reason)

asyncio.run(ask())
"""
SLOW = """
import ssl, time

def slow(context, load=ssl.SSLContext.set_default_verify_paths):
    time.sleep(1)
    load(context)

ssl.SSLContext.set_default_verify_paths = slow
"""
COMPARE = """
import shared.storage.azure, ssl
from aiohttp import connector
shared.storage.certificates.wait()
ours, systems = connector._SSL_CONTEXT_VERIFIED, ssl.create_default_context()
print(ours.cert_store_stats() == systems.cert_store_stats(), ours.verify_mode.name)
print("set_default_verify_paths" in vars(ssl.SSLContext))
"""


class _Refuses(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of `localhost`, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def storage_over_tls(certificate: Path) -> Iterator[str]:
    """Connection string of a server that permits nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = HTTPServer(("127.0.0.1", 0), _Refuses)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"https://localhost:{server.server_port}/account"
    yield (
        "DefaultEndpointsProtocol=https;AccountName=account;AccountKey=a2V5;"
        f"BlobEndpoint={endpoint};QueueEndpoint={endpoint}"
    )
    server.shutdown()
    server.server_close()


def _run(script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("before", ["", SLOW], ids=["quick", "slow"])
def test_a_trusted_storage_is_spoken_to(
    storage_over_tls: str, certificate: Path, before: str
) -> None:
    said = _run(before + ASK, STORAGE=storage_over_tls, SSL_CERT_FILE=str(certificate))

    assert said.startswith("storage does not permit this: 403")


def test_an_unknown_storage_is_not_spoken_to(storage_over_tls: str) -> None:
    assert _run(ASK, STORAGE=storage_over_tls).startswith("storage does not answer")


def test_what_the_system_trusts_is_trusted_and_nothing_is_left_behind() -> None:
    assert _run(COMPARE).split() == ["True", "CERT_REQUIRED", "False"]
