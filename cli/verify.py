"""`heart-scorer verify`: scores an input again with scikit-learn and compares each row."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.files import format_or_exit, output_rows, pieces, probability_of, scored_rows
from cli.local import ROOT
from cli.output import Exit, say

if TYPE_CHECKING:
    from shared.artifact import Manifest
    from shared.scoring import Scorer
    from shared.storage import Storage

TOLERANCE = 1e-6
"""Largest difference between ONNX Runtime's float32 and scikit-learn's float64."""

Rows = Iterable[tuple[int, float | None]]


def verify(
    batch_or_file: Annotated[str, typer.Argument(help="A batch that succeeded, or a file.")],
    model_dir: Annotated[
        Path, typer.Option(envvar="SCORER_MODEL_DIR", help="Directory of the artifact.")
    ] = ROOT / "artifact",
) -> None:
    """Score a batch's input (or a file) with scikit-learn and compare each row with the result."""
    from shared.errors import BadFile, StartupError

    file = Path(batch_or_file)
    try:
        if file.is_file():
            code = verify_file(file, model_dir)
        else:
            code = verify_batch(batch_or_file, model_dir)
    except StartupError as error:
        say(str(error))
        code = Exit.USAGE
    except BadFile as error:
        say(f"{batch_or_file}: refused: {error.reason}")
        code = Exit.REFUSED
    raise typer.Exit(code)


def verify_file(file: Path, model_dir: Path) -> int:
    """Compare the serving model with scikit-learn on a file."""
    from shared.artifact import load_artifact
    from shared.scoring import Scorer

    kind, packed = format_or_exit(file.name)
    oracle = scikit_learn(model_dir)
    artifact = load_artifact(model_dir)
    serving = Scorer(artifact.model, artifact.manifest.fields, artifact.manifest.threshold)
    return compare_rows(
        scored_rows(pieces(file), kind, serving, packed=packed),
        scored_rows(pieces(file), kind, oracle, packed=packed),
    )


def verify_batch(batch_id: str, model_dir: Path) -> int:
    """Compare a batch's committed result with scikit-learn on the same input."""
    from cli.storage import run_with_storage

    async def work(storage: Storage) -> int:
        blobs = storage.blobs()
        summary = json.loads(await blobs.read("scores", f"{batch_id}/summary.json"))
        if summary["status"] != "succeeded":
            say(f"batch {batch_id} failed: {summary['reason']}")
            return Exit.FAILED
        source, result = summary["identity"], summary["output"]
        if "blob" not in source:
            say(f"batch {batch_id} came inside its message: nothing was kept to score again")
            return Exit.FAILED
        model = summary["model"]
        oracle = scikit_learn(model_dir, model["sha256"])
        kind, packed = format_or_exit(source["blob"])
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder) / "input", Path(folder) / "scores"
            names = (
                (source["container"], source["blob"], source["etag"]),
                (
                    result["container"],
                    result["blob"],
                    result["etag"],
                ),
            )
            for file, (container, name, etag) in zip(files, names, strict=True):
                with file.open("wb") as target:
                    async for chunk in blobs.chunks(container, name, etag):
                        target.write(chunk)
            return compare_rows(
                committed_rows(files[1], result["blob"]),
                scored_rows(pieces(files[0]), kind, oracle, packed=packed),
            )

    return run_with_storage(work)


def committed_rows(file: Path, name: str) -> Iterator[tuple[int, float | None]]:
    """Rows of a result."""
    kind, _ = format_or_exit(name)
    for line in output_rows(file.read_bytes(), kind, header=True):
        yield int(line["row"]), probability_of(line)


def scikit_learn(model_dir: Path, expected_sha256: str | None = None) -> Scorer:
    """The estimator behind the artifact, its hash checked. Raises `StartupError`."""
    from shared.artifact import SklearnModel, read_manifest
    from shared.errors import StartupError
    from shared.scoring import Scorer

    manifest: Manifest
    manifest, sha256 = read_manifest(model_dir)
    if expected_sha256 is not None and sha256 != expected_sha256:
        raise StartupError(
            f"the batch was scored by another model: its manifest is {expected_sha256[:12]}…, "
            f"{model_dir} has {sha256[:12]}…; name its directory by --model-dir"
        )
    content = (model_dir / "model.joblib").read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest.files.get("model.joblib"):
        raise StartupError(f"{model_dir / 'model.joblib'} is not the one of its manifest")
    return Scorer(SklearnModel(content, manifest), manifest.fields, manifest.threshold)


def compare_rows(found: Rows, expected: Rows) -> int:
    """Compare row by row; print what differs."""
    rows = different = 0
    largest = 0.0
    for one, other in zip_longest(found, expected):
        rows += 1
        difference = _difference(one, other)
        largest = max(largest, difference)
        if difference > TOLERANCE:
            different += 1
            if different <= 20:
                place: Any = (one or other or (rows,))[0]
                print(f"row {place}: differs by {difference:.3g}")
    print(f"{rows} rows, {different} differ, largest difference {largest:.3g}")
    return Exit.FAILED if different else Exit.DONE


def _difference(
    one: tuple[int, float | None] | None, other: tuple[int, float | None] | None
) -> float:
    if one is None or other is None or one[0] != other[0]:
        return float("inf")
    if one[1] is None or other[1] is None:
        return 0.0 if one[1] is other[1] else float("inf")
    return abs(one[1] - other[1])
