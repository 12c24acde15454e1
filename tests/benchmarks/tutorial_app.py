"""The app that the tutorial ends with: a pickled GradientBoosting, five fields, a DataFrame.

`python -m tests.benchmarks.tutorial_app MODEL PORT` serves it.
"""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import joblib
import pandas as pd
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field
from sklearn.ensemble import GradientBoostingClassifier

NAMES = ("age", "sex", "cp", "trestbps", "chol")


class Patient(BaseModel):
    """The request."""

    age: Annotated[float, Field(ge=18, le=110)]
    sex: Literal[0, 1]
    cp: Literal[0, 1, 2, 3]
    trestbps: Annotated[float, Field(ge=60, le=260)]
    chol: Annotated[float, Field(ge=50, le=700)]


class Prediction(BaseModel):
    """The answer."""

    probability: float
    prediction: int


def create_app(model_file: str) -> FastAPI:
    """One route, `/predict`."""
    model = joblib.load(model_file)
    app = FastAPI()

    @app.post("/predict")
    def predict(patient: Patient) -> Prediction:
        frame = pd.DataFrame([patient.model_dump()], columns=list(NAMES))
        probability = float(model.predict_proba(frame)[0, 1])
        return Prediction(probability=probability, prediction=int(probability >= 0.5))

    return app


def train(data: str, model_file: str, peers_file: str) -> None:
    """Fit the model twice: with the columns' names, and without for those who send arrays."""
    frame = pd.read_csv(data)
    inputs, outcomes = frame[list(NAMES)], frame["condition"]
    model = GradientBoostingClassifier(random_state=0)
    joblib.dump(model.fit(inputs, outcomes), model_file)
    joblib.dump(model.fit(inputs.to_numpy(), outcomes), peers_file)


def main(model_file: str, port: str) -> None:
    """Serve with uvicorn as it comes, without extras that other packages have installed."""
    uvicorn.run(
        create_app(model_file),
        host="127.0.0.1",
        port=int(port),
        http="h11",
        ws="none",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
