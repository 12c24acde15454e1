"""Writes the artifact directory.

Its bytes depend on the data, the code and the library versions alone: they hold no times or paths.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib

from shared.records.artifact import MANIFEST, Manifest
from training.errors import TrainingError

LIBRARIES = ("joblib", "numpy", "onnx", "onnxruntime", "pandas", "scikit-learn", "skl2onnx")


def check_loads_elsewhere(content: bytes) -> None:
    """Load a pickled estimator as a server does, outside this repository.

    A class or function of a model file cannot be unpickled without that file. Raises
    `TrainingError`.
    """
    program = "import sys, io, joblib; joblib.load(io.BytesIO(sys.stdin.buffer.read()))"
    # This interpreter, isolated from the current directory.
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-I", "-c", program], input=content, capture_output=True, check=False
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1]
        raise TrainingError(
            f"model.joblib does not load by itself ({last}): build the estimator from "
            "scikit-learn's own classes and functions"
        )


def pickled(estimator: Any) -> bytes:
    """The estimator, pickled by joblib."""
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return buffer.getvalue()


def libraries() -> dict[str, str]:
    """Versions of the libraries that made the artifact."""
    return {name: version(name) for name in LIBRARIES}


def sha256(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as JSON with sorted keys, indented by one space."""
    fields = manifest.model_dump(mode="json")
    return (json.dumps(fields, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def write_artifact(output: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Write a new directory beside the target and move it there, so that it is never half-written.

    Replaces only an artifact or an empty directory. Raises `TrainingError`.
    """
    output = output.absolute()
    empty = output.is_dir() and not any(output.iterdir())
    if output.exists() and not empty and not (output / MANIFEST).exists():
        raise TrainingError(f"{output} holds something else: name a new directory")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as scratch:
        fresh = Path(scratch, "new")
        fresh.mkdir()
        for name, content in (*files.items(), (MANIFEST, manifest_bytes(manifest))):
            (fresh / name).write_bytes(content)
        if output.exists():
            output.rename(Path(scratch, "old"))
        fresh.rename(output)
