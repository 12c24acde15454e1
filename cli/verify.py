"""`heart-scorer verify`: score an input again with scikit-learn and compare each row."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import typer

from cli.files import Answer, exit_if_refused, format_or_exit, output_rows, scored_rows
from cli.home import MODEL_DIR, allow_pickle, pinned
from cli.output import Exit, say
from cli.storage import run_with_storage
from shared.batches.results import read_summary

if TYPE_CHECKING:
    from shared.batches.ports import Account, Blobs
    from shared.files.formats import Format
    from shared.files.options import Options, OutputFormat
    from shared.records.kinds import Kind
    from shared.records.scoring import Scorer

TOLERANCE = 1e-6
"""Largest difference between ONNX Runtime's float32 and scikit-learn's float64 (see `kinds`)."""

SHOWN = 20
"""Differing rows that are shown."""

Numbers = tuple[float, ...] | None
"""Of a row's answer; None where it is rejected."""
Expected = tuple[int, Numbers, Numbers]
"""Row number, answer to the row as served and to the row as given."""


def verify(
    batch_or_file: Annotated[str, typer.Argument(help="A batch that succeeded, or a file.")],
    model_dir: Annotated[
        Path, typer.Option(envvar="SCORER_MODEL_DIR", help="Directory of the artifact.")
    ] = MODEL_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score a batch or a file again with scikit-learn and compare.

    \b
    Examples:
      heart-scorer verify ward-7
      heart-scorer verify records.csv --model-dir new
    """
    file = Path(batch_or_file)
    with exit_if_refused(batch_or_file):
        found = (
            verify_file(file, model_dir)
            if file.is_file()
            else verify_batch(batch_or_file, model_dir)
        )
    print(json.dumps(asdict(found), indent=1) if as_json else found)
    raise typer.Exit(Exit.FAILED if found.failed else Exit.DONE)


def verify_file(file: Path, model_dir: Path) -> Comparison:
    """Compare the serving model with scikit-learn on a file."""
    from shared.records.artifact import load_artifact
    from shared.records.scoring import Scorer

    file_format, packed = format_or_exit(file.name)
    oracle = read_oracle(model_dir)
    artifact = load_artifact(model_dir, pinned(), allow_pickle=allow_pickle())
    manifest = artifact.manifest
    serving = Scorer(artifact.model, manifest.fields, manifest.answer_kind)
    return compare_rows(
        scored_rows(file, file_format, serving, packed=packed),
        oracle.rows(file, file_format, packed=packed),
        oracle.limit,
    )


def verify_batch(batch_id: str, model_dir: Path) -> Comparison:
    """Compare a batch's committed result with scikit-learn on the same input."""
    from shared.files.options import Options

    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "input", Path(folder) / "scores"

        async def fetch(storage: Account) -> dict[str, Any]:
            blobs = storage.blobs()
            summary = await read_summary(blobs, batch_id)
            if summary is None or summary["status"] != "succeeded":
                say(f"batch {batch_id} has no result: heart-scorer status {batch_id}")
                raise typer.Exit(Exit.FAILED)
            if "blob" not in summary["identity"]:
                say(f"batch {batch_id} came inside its message, which is not stored")
                raise typer.Exit(Exit.FAILED)
            await fetch_blob(blobs, summary["identity"], source)
            await fetch_blob(blobs, summary["output"], result)
            return summary

        summary = run_with_storage(fetch)
        oracle = read_oracle(model_dir, summary["model"])
        file_format, packed = format_or_exit(summary["identity"]["blob"])
        options = Options.of_identity(summary["identity"] | {"include_input": False})
        return compare_rows(
            committed_rows(result, summary["output"]["blob"], oracle.served.kind),
            oracle.rows(source, file_format, packed=packed, options=options),
            oracle.limit,
        )


async def fetch_blob(blobs: Blobs, named: dict[str, Any], target: Path) -> None:
    """Write a blob, in the version that a summary names, to a file."""
    with target.open("wb") as file:
        async for chunk in blobs.chunks(named["container"], named["blob"], named["etag"]):
            file.write(chunk)


def committed_rows(file: Path, name: str, kind: Kind) -> Iterator[Answer]:
    """Rows of a result."""
    file_format = cast("OutputFormat", name.rpartition(".")[2])
    for line in output_rows(file.read_bytes(), file_format):
        yield int(line["row"]), kind.numbers(line)


class Oracle(NamedTuple):
    """The estimator of an artifact, on rows as served (float32) and as given (float64)."""

    served: Scorer
    given: Scorer
    limit: float
    """Largest difference between the two that the manifest allows."""

    def rows(
        self, file: Path, file_format: Format, *, packed: bool, options: Options | None = None
    ) -> Iterator[Expected]:
        """Row number and both answers of each row. Raises `BadFile`."""
        for (row, served), (_, given) in zip(
            scored_rows(file, file_format, self.served, packed=packed, options=options),
            scored_rows(file, file_format, self.given, packed=packed, options=options),
            strict=True,
        ):
            yield row, served, given


def read_oracle(model_dir: Path, scored_by: dict[str, Any] | None = None) -> Oracle:
    """Load the estimator of an artifact, or its ONNX file if that was imported.

    `scored_by`: the model of a batch's summary. It is the same model if it computes the same, even
    if the two manifests differ in the versions of libraries. Raises `StartupError`.
    """
    import numpy as np

    from shared.records.artifact import read_manifest, read_reference
    from shared.records.errors import StartupError
    from shared.records.scoring import Scorer

    manifest, sha256 = read_manifest(model_dir, pinned())
    if scored_by is not None and sha256 != scored_by["sha256"]:
        served = scored_by.get("served_sha256", "")
        if served != manifest.served_sha256:
            raise StartupError(
                f"the batch was scored by another model: {scored_by['version']} "
                f"({served[:12] or 'unknown'}…), {model_dir} has {manifest.version} "
                f"({manifest.served_sha256[:12]}…); give its directory with --model-dir"
            )
    same_manifest = scored_by is not None and sha256 == scored_by["sha256"]
    allowed = allow_pickle() or same_manifest or pinned() is not None
    model = read_reference(model_dir, manifest, allow_pickle=allowed)
    # An imported ONNX file has no estimator, and takes float32 only.
    exact = np.float64 if manifest.has_estimator else np.float32
    served, given = (
        Scorer(model, manifest.fields, manifest.answer_kind, dtype) for dtype in (np.float32, exact)
    )
    return Oracle(served, given, manifest.rounding_limit)


@dataclass(slots=True)
class Comparison:
    """Differences between two ways of scoring the same rows."""

    rows: int = 0
    different: int = 0
    largest: float = 0.0
    first: list[tuple[int, Numbers, Numbers]] = field(default_factory=list)
    """The first rows that differ: number, served and expected answer."""
    rounding_limit: float = 0.0
    beyond_rounding_limit: int = 0
    largest_as_given: float = 0.0
    """Largest difference to the estimator on the values as given, in float64."""

    @property
    def failed(self) -> bool:
        return bool(self.different or self.beyond_rounding_limit)

    def __str__(self) -> str:
        lines = [f"row {row}: {_shown(a)}, scored again {_shown(b)}" for row, a, b in self.first]
        total = f"{self.rows} rows, {self.different} differ, largest difference {self.largest:.3g}"
        given = (
            f"on the values as given (float64): {self.beyond_rounding_limit} rows differ by more "
            f"than {self.rounding_limit:g}, largest difference {self.largest_as_given:.3g}"
        )
        return "\n".join([*lines, total, given])


def _shown(answer: Numbers) -> str:
    return "rejected" if answer is None else ", ".join(f"{number:.8g}" for number in answer)


def compare_rows(found: Iterable[Answer], expected: Iterable[Expected], limit: float) -> Comparison:
    """Compare row by row. A row that only one side has, or only one side scores, differs."""
    comparison = Comparison(rounding_limit=limit)
    for left, right in zip_longest(found, expected):
        row, one = left or (0, None)
        other_row, other, given = right or (0, None, None)
        comparison.rows += 1
        same = row == other_row and (one is None) == (other is None)
        difference = _difference(one, other)
        comparison.largest = max(comparison.largest, difference)
        if not same or difference > TOLERANCE:
            comparison.different += 1
            if len(comparison.first) < SHOWN:
                comparison.first.append((max(row, other_row), one, other))
        rounding = _difference(one, given)
        comparison.largest_as_given = max(comparison.largest_as_given, rounding)
        comparison.beyond_rounding_limit += int(rounding > limit)
    return comparison


def _difference(one: Numbers, other: Numbers) -> float:
    from shared.records.kinds import difference

    if one is None or other is None:
        return 0.0
    return float(difference(one, other).max())
