"""The two images as they are built from this tree, Azurite in its own image, one network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from testcontainers.community.azurite import AzuriteContainer, ConnectionStringType
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy

from tests.containers.engine import (
    AZURITE,
    HARDENED,
    IMAGES,
    docker,
    engine_error,
)

StartApp = Callable[..., AbstractContextManager[DockerContainer]]
PORTS = {"api": 8000, "worker": 9090}


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine. Without one: skip, but fail in CI on a machine that has `docker`."""
    error = engine_error()
    if error and os.environ.get("CI") and shutil.which("docker"):
        pytest.fail(error)
    if error:
        pytest.skip(error)


@pytest.fixture(scope="session")
def images(engine: None) -> dict[str, str]:
    """Both images, built once a session; from nothing that takes some minutes."""
    docker("compose", "build", "--quiet", seconds=800)
    return IMAGES


@pytest.fixture(scope="session")
def network(engine: None) -> Iterator[Network]:
    with Network() as created:
        yield created


@pytest.fixture(scope="session")
def azurite(network: Network) -> Iterator[AzuriteContainer]:
    container = AzuriteContainer(AZURITE, network=network, network_aliases=["azurite"])
    container.with_env("AZURITE_SKIP_API_VERSION_CHECK", "true")
    # Of the services that we use, this one opens its port last.
    container.waiting_for(LogMessageWaitStrategy("Azurite Queue service is successfully listening"))
    with container:
        yield container


@pytest.fixture(scope="session")
def connection_string(azurite: AzuriteContainer) -> str:
    """Azurite in a container instead of a process, for contract tests and for requests of tests."""
    return azurite.get_connection_string()


@pytest.fixture(scope="session")
def start_app(images: dict[str, str], network: Network, azurite: AzuriteContainer) -> StartApp:
    """Start an image beside Azurite, locked down; ready when the block begins."""
    storage = azurite.get_connection_string(ConnectionStringType.NETWORK)

    @contextmanager
    def start(app: str, **env: str) -> Iterator[DockerContainer]:
        container = DockerContainer(images[app], network=network, **HARDENED)
        container.with_exposed_ports(PORTS[app])
        container.with_env("AZURE_STORAGE_CONNECTION_STRING", storage)
        container.with_envs(SCORER_API_KEYS="none", SCORER_IDLE_SECONDS="0.3", **env)
        ready = HttpWaitStrategy(PORTS[app], "/readyz").for_status_code(200)
        container.waiting_for(ready.with_poll_interval(0.2).with_startup_timeout(60))
        with container:
            yield container

    return start


@pytest.fixture(scope="session")
def api(start_app: StartApp) -> Iterator[DockerContainer]:
    with start_app("api") as container:
        yield container


@pytest.fixture(scope="module")
def worker(start_app: StartApp) -> Iterator[DockerContainer]:
    with start_app("worker") as container:
        yield container
