"""A plain FastAPI endpoint with the models of `/predict` that computes nothing.

`python -m tests.benchmarks.empty_app ARTIFACT PORT` serves it.
"""

import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from api.schemas import score_models
from shared.records.artifact import load_artifact


def create_app(artifact_dir: str) -> FastAPI:
    """One route, `/predict`."""
    manifest = load_artifact(Path(artifact_dir)).manifest
    table = manifest.fields
    score_body = score_models(manifest.answer_kind, table.record_id).score
    app = FastAPI()

    @app.post("/predict", response_model=score_body, response_model_exclude_unset=True)
    async def predict(body: table.record_model) -> Any:  # type: ignore[name-defined]
        return score_body(
            patient_id=None,
            probability=0.5,
            prediction=1,
            model_version=manifest.version,
            warnings=(),
        )

    return app


def main(artifact_dir: str, port: str) -> None:
    """Serve with uvicorn as it comes, without extras that other packages have installed."""
    uvicorn.run(
        create_app(artifact_dir),
        host="127.0.0.1",
        port=int(port),
        http="h11",
        ws="none",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
