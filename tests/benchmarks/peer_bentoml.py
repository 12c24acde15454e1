"""The tutorial's model served by BentoML: `bentoml serve tests.benchmarks.peer_bentoml:Heart`.

Runs in the environment of the peers, without the product. MODEL names the joblib file.
"""

from __future__ import annotations

import os

import bentoml
import joblib


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Heart:
    """One route, `/predict`."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api
    def predict(self, age: float, sex: int, cp: int, trestbps: float, chol: float) -> dict:
        """Score one patient."""
        probability = self.model.predict_proba([[age, sex, cp, trestbps, chol]])[0, 1]
        return {"probability": float(probability), "prediction": int(probability >= 0.5)}
