"""The app that most would write: joblib GradientBoosting, five fields, a DataFrame a request.

`python -m tests.benchmarks.baseline_app MODEL PORT` serves it. In place of MODEL, `nothing` serves
the same models over an endpoint that computes nothing, `raw` an answer without any framework.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field

NAMES = ("age", "sex", "cp", "trestbps", "chol")


class Patient(BaseModel):
    """The tutorial's request."""

    age: Annotated[float, Field(ge=18, le=110)]
    sex: Literal[0, 1]
    cp: Literal[0, 1, 2, 3]
    trestbps: Annotated[float, Field(ge=60, le=260)]
    chol: Annotated[float, Field(ge=50, le=700)]


class Prediction(BaseModel):
    """The answer."""

    patient_id: str | None = None
    probability: float
    prediction: int
    model_version: str = "1"
    warnings: list[str] = []


def scoring_app(model_file: str) -> FastAPI:
    """The seed's app."""
    import joblib
    import pandas as pd

    model = joblib.load(model_file)
    app = FastAPI()

    @app.post("/predict")
    def predict(patient: Patient) -> Prediction:
        frame = pd.DataFrame([patient.model_dump()], columns=list(NAMES))
        probability = float(model.predict_proba(frame)[0, 1])
        return Prediction(probability=probability, prediction=int(probability >= 0.5))

    return app


def empty_app() -> FastAPI:
    """The same models, and nothing computed."""
    app = FastAPI()

    @app.post("/predict")
    async def predict(patient: Patient) -> Prediction:
        return Prediction(probability=0.5, prediction=int(patient.age > 0))

    return app


RAW = Prediction(probability=0.5, prediction=1).model_dump_json().encode()


async def raw_app(scope: Any, receive: Any, send: Any) -> None:
    """The same bytes for every request: what the server alone can do."""
    if scope["type"] != "http":  # the server asks whether there is something to start
        return
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(RAW))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": RAW})


def train(data: str, model_file: str) -> None:
    """Fit the seed's model."""
    import joblib
    import pandas as pd
    from sklearn.ensemble import GradientBoostingClassifier

    frame = pd.read_csv(data)
    model = GradientBoostingClassifier(random_state=0).fit(frame[list(NAMES)], frame["condition"])
    joblib.dump(model, model_file)


def main(model: str, port: str) -> None:
    """Serve with uvicorn as it comes."""
    import uvicorn

    app: Any = raw_app
    if model != "raw":
        app = empty_app() if model == "nothing" else scoring_app(model)
    uvicorn.run(app, host="127.0.0.1", port=int(port), access_log=False, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
