"""The tutorial's model served by LitServe: `python -m tests.benchmarks.peer_litserve MODEL PORT`.

Runs in the environment of the peers, without the product.
"""

from __future__ import annotations

import sys

import joblib
import litserve

NAMES = ("age", "sex", "cp", "trestbps", "chol")


class Heart(litserve.LitAPI):
    """One route, `/predict`."""

    def setup(self, device: str) -> None:
        self.model = joblib.load(sys.argv[1])

    def decode_request(self, request):  # LitServe derives the body's type from an annotation
        return [[request[name] for name in NAMES]]

    def predict(self, rows: list[list[float]]) -> float:
        return float(self.model.predict_proba(rows)[0, 1])

    def encode_response(self, probability: float) -> dict[str, float]:
        return {"probability": probability, "prediction": int(probability >= 0.5)}


if __name__ == "__main__":
    server = litserve.LitServer(Heart(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[2]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
