"""A plain FastAPI endpoint with the models of `/predict` that computes nothing.

`python -m tests.benchmarks.empty_app ARTIFACT PORT` serves it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from shared.records.artifact import load_artifact


class Score(BaseModel):
    """The answer."""

    patient_id: str | None
    probability: float
    prediction: int
    model_version: str
    warnings: list[str]


def create_app(artifact_dir: str) -> FastAPI:
    """One route, `/predict`."""
    manifest = load_artifact(Path(artifact_dir)).manifest
    app = FastAPI()

    async def predict(record) -> Score:  # type: ignore[no-untyped-def]  # annotated below
        return Score(
            patient_id=record.patient_id,
            probability=0.5,
            prediction=1,
            model_version=manifest.version,
            warnings=[],
        )

    predict.__annotations__["record"] = manifest.fields.record_model
    app.post("/predict")(predict)
    return app


def main(artifact_dir: str, port: str) -> None:
    """Serve with uvicorn as it comes."""
    app = create_app(artifact_dir)
    uvicorn.run(app, host="127.0.0.1", port=int(port), access_log=False, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
