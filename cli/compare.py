"""`heart-scorer compare`: score one file with two artifacts and compare the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.files import exit_if_refused, format_or_exit, scored_rows
from cli.home import allow_pickle, pinned

if TYPE_CHECKING:
    from shared.files.formats import Format
    from shared.records.artifact import Artifact
    from shared.records.kinds import Outputs


def compare(
    old: Annotated[Path, typer.Argument(help="Directory of the old artifact.")],
    new: Annotated[Path, typer.Argument(help="Directory of the new artifact.")],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Records to score.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score a file with two models and show how their answers differ.

    \b
    Example:
      heart-scorer compare artifact new records.csv
    """
    with exit_if_refused(file.name):
        found = differences(old, new, file)
    print(json.dumps(found, indent=1) if as_json else as_text(found))


def differences(old: Path, new: Path, file: Path) -> dict[str, Any]:
    """How two artifacts differ on a file. Raises `StartupError` and `BadFile`."""
    import numpy as np

    from shared.records.artifact import load_artifact
    from shared.records.errors import StartupError

    file_format, packed = format_or_exit(file.name)
    first, second = (
        load_artifact(old, pinned(), allow_pickle=allow_pickle()),
        load_artifact(new, allow_pickle=allow_pickle()),
    )
    old_kind, new_kind = first.manifest.answer_kind, second.manifest.answer_kind
    if [c.name for c in old_kind.columns] != [c.name for c in new_kind.columns]:
        raise StartupError(f"{old} and {new} give answers of different kinds")
    before, after = (outputs(file, file_format, one, packed=packed) for one in (first, second))
    by_old, by_new = old_kind.answered(before), new_kind.answered(after)
    both = by_old & by_new
    before, after = before[both], after[both]
    moved = np.abs(after - before) if both.any() else np.zeros(1)
    if moved.ndim > 1:
        moved = moved.max(axis=1)
    return {
        "old": first.manifest.version,
        "new": second.manifest.version,
        "rows": len(both),
        "scored_by_both": int(both.sum()),
        "only_old": int((by_old & ~by_new).sum()),
        "only_new": int((by_new & ~by_old).sum()),
        "moved": int((moved > 0).sum()),
        "mean_move": float(moved.mean()),
        "median_move": float(np.median(moved)),
        "largest_move": float(moved.max()),
        **new_kind.changes(old_kind.predictions(before), new_kind.predictions(after)),
    }


def outputs(file: Path, file_format: Format, artifact: Artifact, *, packed: bool) -> Outputs:
    """The model's output for each row; NaN where it is rejected. Raises `BadFile`."""
    import numpy as np

    from shared.records.scoring import Scorer

    kind = artifact.manifest.answer_kind
    scorer = Scorer(artifact.model, artifact.manifest.fields, kind)
    numbers = [found for _, found in scored_rows(file, file_format, scorer, packed=packed)]
    outputs = kind.no_answers(len(numbers)).astype(float)
    for row, found in enumerate(numbers):
        if found is not None:
            outputs[row] = np.reshape(found, kind.shape)
    return outputs


def as_text(found: dict[str, Any]) -> str:
    """The differences, for people."""
    lines = [
        f"old {found['old']}, new {found['new']}",
        f"rows     {found['rows']}, scored by both {found['scored_by_both']}",
        f"moved    {found['moved']}, mean {found['mean_move']:.4f}, "
        f"median {found['median_move']:.4f}, largest {found['largest_move']:.4f}",
    ]
    if "crossed_up" in found:
        lines.append(f"crossed  {found['crossed_up']} up, {found['crossed_down']} down")
    return "\n".join(lines)
