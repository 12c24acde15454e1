"""The scripts that a data scientist would write for batches and for messages.

`python -m tests.benchmarks.baseline_script file|messages MODEL …` with Azurite's connection string
in AZURE_STORAGE_CONNECTION_STRING. Prints seconds and peak memory as JSON.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
import time

import joblib
import numpy as np
import pandas as pd
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueClient

from training.heart.fields import TABLE


def score_file(model_file: str, blob: str) -> int:
    """Download the blob, pandas.read_csv, predict_proba, to_csv, upload. Returns the rows."""
    model = joblib.load(model_file)
    service = BlobServiceClient.from_connection_string(
        os.environ["AZURE_STORAGE_CONNECTION_STRING"]
    )
    begun = time.perf_counter()
    content = service.get_blob_client("uploads", blob).download_blob().readall()
    frame = pd.read_csv(io.BytesIO(content))
    rows = frame[list(TABLE.used_names)].to_numpy(float)
    frame = pd.DataFrame({"row": range(1, len(rows) + 1), "patient_id": frame["patient_id"]})
    frame["probability"] = model.predict_proba(rows)[:, 1]
    frame["prediction"] = (frame["probability"] >= 0.5).astype(int)
    output = frame.to_csv(index=False).encode()
    service.get_blob_client("scores", f"script-{blob}").upload_blob(output, overwrite=True)
    report(time.perf_counter() - begun)
    return len(rows)


def score_messages(model_file: str, queue: str, count: str) -> None:
    """Receive one, predict, upload, delete, repeat."""
    model = joblib.load(model_file)
    text = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
    service = BlobServiceClient.from_connection_string(text)
    client = QueueClient.from_connection_string(text, queue)
    begun = time.perf_counter()
    for _ in range(int(count)):
        message = client.receive_message(visibility_timeout=60)
        assert message is not None
        record = json.loads(message.content)
        row = [[record.get(name, np.nan) for name in TABLE.used_names]]
        probability = float(model.predict_proba(np.array(row, float))[0, 1])
        service.get_blob_client("scores", f"script/{message.id}.json").upload_blob(
            json.dumps({"probability": probability})
        )
        client.delete_message(message)
    report(time.perf_counter() - begun)


def report(seconds: float) -> None:
    """One JSON line: seconds, when that was (Unix time) and peak memory in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "finished": time.time(), "peak_mib": peak}))


if __name__ == "__main__":
    if sys.argv[1] == "file":
        score_file(*sys.argv[2:])
    else:
        score_messages(*sys.argv[2:])
