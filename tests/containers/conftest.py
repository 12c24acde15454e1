"""The two images as they are built from this tree, Azurite in its own image, one network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.containers.engine import (
    AZURITE,
    HARDENED,
    IMAGES,
    STARTER,
    NoEngine,
    docker,
    ensure_engine,
)

# testcontainers reads the environment when it is imported, so that comes after `ensure_engine`.
if TYPE_CHECKING:
    from testcontainers.community.azurite import AzuriteContainer
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network

StartApp = Callable[..., AbstractContextManager["DockerContainer"]]
PORTS = {"api": 8000, "worker": 9090}


@pytest.fixture(scope="session")
def engine() -> None:
    """An engine. None to be had: skip, but fail in CI where one should have started."""
    try:
        ensure_engine()
    except NoEngine as error:
        if os.environ.get("CI") and STARTER.is_file():
            pytest.fail(f"container tests did not run: {error}")
        pytest.skip(f"container tests did not run: {error}")


@pytest.fixture(scope="session")
def images(engine: None) -> dict[str, str]:
    """Both images, built once a session; from nothing that takes some minutes."""
    docker("compose", "build", "--quiet", seconds=800)
    return IMAGES


@pytest.fixture(scope="session")
def network(engine: None) -> Iterator[Network]:
    from testcontainers.core.network import Network

    with Network() as created:
        yield created


@pytest.fixture(scope="session")
def azurite(network: Network) -> Iterator[AzuriteContainer]:
    from testcontainers.community.azurite import AzuriteContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    container = AzuriteContainer(AZURITE, network=network, network_aliases=["azurite"])
    container.with_env("AZURITE_SKIP_API_VERSION_CHECK", "true")
    # The last of those that we use to open its port.
    container.waiting_for(LogMessageWaitStrategy("Azurite Queue service is successfully listening"))
    with container:
        yield container


@pytest.fixture(scope="session")
def connection_string(azurite: AzuriteContainer) -> str:
    """Takes the place of the Azurite process: for the contract tests, and for what tests ask."""
    return azurite.get_connection_string()


@pytest.fixture(scope="session")
def start_app(images: dict[str, str], network: Network, azurite: AzuriteContainer) -> StartApp:
    """Start an image beside Azurite, locked down; ready when the block begins."""
    from testcontainers.community.azurite import ConnectionStringType
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import HttpWaitStrategy

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
