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
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import skops.io

from shared.records.artifact import MANIFEST, Manifest
from shared.records.estimator import JOBLIB, PACKAGES, SKOPS, load_estimator
from training.errors import TrainingError

LIBRARIES = (
    *("joblib", "numpy", "onnx", "onnxruntime", "pandas", "scikit-learn", "scipy", "skl2onnx"),
    "skops",
)


def is_estimator(model: Any) -> bool:
    """Whether a model is of scikit-learn's kind. An imported ONNX file is stored as ONNX only."""
    return hasattr(model, "fit")


def estimator_files(estimator: Any, *, served: bool) -> dict[str, bytes]:
    """The estimator as `model.skops`, or as `model.joblib` if it has types of its own.

    `served`: the servers load it, so it must load outside the model file. Raises `TrainingError`.
    """
    try:
        content = skops_bytes(estimator)
        load_estimator(SKOPS, content, libraries(estimator), allow_pickle=False)
    except Exception:  # skops and the classes that it meets may raise anything
        content = pickled(estimator)
        if served:
            check_loads_elsewhere(content)
        return {JOBLIB: content}
    return {SKOPS: content}


def skops_bytes(estimator: Any) -> bytes:
    """The estimator in skops' format; the same estimator gives the same bytes.

    skops names its parts by memory addresses and stamps them with the time.
    """
    source = zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator)))
    numbers: dict[str, int] = {}

    def renumbered(node: Any) -> Any:
        match node:
            case dict():
                return {key: _part(key, renumbered(value), numbers) for key, value in node.items()}
            case list():
                return [renumbered(one) for one in node]
            case _:
                return node

    schema = renumbered(json.loads(source.read(SCHEMA)))
    parts = {
        _part("file", name, numbers): source.read(name)
        for name in source.namelist()
        if name != SCHEMA
    }
    buffer = io.BytesIO()
    # Not packed: other versions of zlib would pack it into other bytes.
    with zipfile.ZipFile(buffer, "w") as target:
        for name, content in sorted({**parts, SCHEMA: json.dumps(schema).encode()}.items()):
            target.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def _part(key: str, value: Any, numbers: dict[str, int]) -> Any:
    """An address in order of appearance, in `__id__` and in the name of a part's file."""
    if key == "__id__":
        return numbers.setdefault(str(value), len(numbers))
    if key == "file":
        address, dot, ending = str(value).partition(".")
        return f"{numbers.setdefault(address, len(numbers))}{dot}{ending}"
    return value


SCHEMA = "schema.json"


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


def libraries(estimator: Any) -> dict[str, str]:
    """Versions of the libraries that made the artifact and of those that the estimator is of."""
    return {name: version(name) for name in (*LIBRARIES, *_libraries_of(estimator))}


def _libraries_of(estimator: Any) -> Iterator[str]:
    if not is_estimator(estimator):
        return
    try:
        types = skops.io.get_untrusted_types(data=skops.io.dumps(estimator))
    except Exception:  # skops and the classes that it meets may raise anything
        types = [type(estimator).__module__]
    packages = {name.partition(".")[0] for name in types}
    for library, package in PACKAGES.items():
        if package in packages and library not in LIBRARIES and find_spec(package):
            with suppress(PackageNotFoundError):  # one package has two distributions
                version(library)
                yield library


def sha256(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as JSON with sorted keys, indented by one space."""
    fields = manifest.model_dump(mode="json")
    return (json.dumps(fields, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def write_artifact(output: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Write a new directory next to the target and move it there, so that it is never half-written.

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
