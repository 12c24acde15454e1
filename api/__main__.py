"""Builds the API and runs it: `python -m api`."""

from __future__ import annotations

import gc
import logging
import os
import sys
import time

log = logging.getLogger("api")


def main() -> int:
    """Serve until asked to stop. Exit code 3: wrong settings or artifact, or no port."""
    begun = time.monotonic()
    gc.disable()  # while modules are loaded, there is little to collect
    # NumPy has no large sums here, and a thread for each core would take time to start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imports are most of a start; here, `startup_seconds` counts them.
    from shared.records.artifact import load_artifact
    from shared.settings import ApiSettings, load_settings

    gc.collect()  # what pydantic leaves behind has room for the rest
    from api.app import create_app
    from api.server import serve, serve_metrics
    from shared import metrics
    from shared.logs import configure_logging
    from shared.records.errors import StartupError

    try:
        settings = load_settings(ApiSettings)
        configure_logging(settings.log_level, log_format=settings.log_format)
        artifact = load_artifact(settings.model_dir, settings.model_sha256)
        health_port = serve_metrics(settings.host, settings.health_port)

        def started(port: int) -> None:
            metrics.MODEL_INFO.labels(artifact.manifest.version, artifact.sha256).set(1)
            metrics.STARTUP.set(time.monotonic() - begun)
            log.info(
                "api_started",
                extra={
                    "host": settings.host,
                    "port": port,
                    "metrics_port": health_port,
                    "model": artifact.manifest.version,
                    "access": "keys" if settings.keys else "open to every caller",
                },
            )

        app = create_app(artifact, settings)
        # All that was loaded stays: the collector need not go through it again and again.
        gc.freeze()
        gc.enable()
        serve(app, settings, started)
    except StartupError as error:
        sys.stderr.write(f"heart-scorer api: {error}\n")
        return 3
    log.info("api_stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
