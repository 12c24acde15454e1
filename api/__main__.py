"""Builds the API and runs it: `python -m api`."""

from __future__ import annotations

import gc
import logging
import sys
import time

started = time.monotonic()  # imports are most of a start, and `startup_seconds` counts them

from api.app import create_app  # noqa: E402
from api.server import listen, serve, serve_metrics  # noqa: E402
from shared import metrics, tracing  # noqa: E402
from shared.logs import configure_logging  # noqa: E402
from shared.records.artifact import load_artifact  # noqa: E402
from shared.records.errors import StartupError  # noqa: E402
from shared.settings import ApiSettings, load_settings  # noqa: E402

log = logging.getLogger("api")


def main() -> int:
    """Serve until asked to stop. Exit code 3: wrong settings or artifact, or a port in use."""
    try:
        settings = load_settings(ApiSettings)
        configure_logging(settings.log_level, log_format=settings.log_format)
        tracing.configure("heart-scorer-api")
        artifact = load_artifact(
            settings.model_dir, settings.model_sha256, allow_pickle=settings.allow_pickle
        )
        app = create_app(artifact, settings)
        health_port = serve_metrics(settings.host, settings.health_port)
        listening = listen(settings.host, settings.port)
    except StartupError as error:
        sys.stderr.write(f"heart-scorer api: {error}\n")
        return 3
    metrics.MODEL_INFO.labels(artifact.manifest.version, artifact.sha256).set(1)
    metrics.STARTUP.set(time.monotonic() - started)
    log.info(
        "api_started",
        extra={
            "host": settings.host,
            "port": listening.getsockname()[1],
            "metrics_port": health_port,
            "model": artifact.manifest.version,
            "access": "keys" if settings.keys else "open to every caller",
        },
    )
    gc.freeze()  # what was loaded stays: the collector need not visit it again and again
    with listening:
        try:
            serve(app, settings, listening)
        finally:
            log.info("api_stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
