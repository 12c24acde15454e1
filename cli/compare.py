"""`heart-scorer compare`: score one file with two artifacts and compare the probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.files import exit_if_refused, format_or_exit, scored_rows
from cli.home import allow_pickle, pinned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shared.files.formats import Format
    from shared.records.artifact import Artifact


def compare(
    old: Annotated[Path, typer.Argument(help="Directory of the old artifact.")],
    new: Annotated[Path, typer.Argument(help="Directory of the new artifact.")],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Records to score.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score a file with two models and show how the probabilities differ.

    \b
    Example:
      heart-scorer compare artifact new patients.csv
    """
    with exit_if_refused(file.name):
        found = differences(old, new, file)
    print(json.dumps(found, indent=1) if as_json else as_text(found))


def differences(old: Path, new: Path, file: Path) -> dict[str, Any]:
    """How two artifacts differ on a file. Raises `StartupError` and `BadFile`."""
    import numpy as np

    from shared.records.artifact import load_artifact

    kind, packed = format_or_exit(file.name)
    first, second = (
        load_artifact(old, pinned(), allow_pickle=allow_pickle()),
        load_artifact(new, allow_pickle=allow_pickle()),
    )
    before, after = (probabilities(file, kind, one, packed=packed) for one in (first, second))
    by_old, by_new = ~np.isnan(before), ~np.isnan(after)
    both = by_old & by_new
    moved = np.abs(after - before)[both] if both.any() else np.zeros(1)
    label_before = before[both] >= first.manifest.threshold
    label_after = after[both] >= second.manifest.threshold
    return {
        "old": first.manifest.version,
        "new": second.manifest.version,
        "rows": len(before),
        "scored_by_both": int(both.sum()),
        "only_old": int((by_old & ~by_new).sum()),
        "only_new": int((by_new & ~by_old).sum()),
        "moved": int((moved > 0).sum()),
        "mean_move": float(moved.mean()),
        "median_move": float(np.median(moved)),
        "largest_move": float(moved.max()),
        "crossed_up": int((label_after & ~label_before).sum()),
        "crossed_down": int((label_before & ~label_after).sum()),
    }


def probabilities(
    file: Path, kind: Format, artifact: Artifact, *, packed: bool
) -> NDArray[np.float64]:
    """Probability of each row, [rows]; NaN where it is rejected. Raises `BadFile`."""
    import numpy as np

    from shared.records.scoring import Scorer

    scorer = Scorer(artifact.model, artifact.manifest.fields, artifact.manifest.threshold)
    rows = scored_rows(file, kind, scorer, packed=packed)
    return np.array([probability for _, probability in rows], float)


def as_text(found: dict[str, Any]) -> str:
    """What differs, for people."""
    return (
        f"old {found['old']}, new {found['new']}\n"
        f"rows     {found['rows']}, scored by both {found['scored_by_both']}\n"
        f"moved    {found['moved']}, mean {found['mean_move']:.4f}, "
        f"median {found['median_move']:.4f}, largest {found['largest_move']:.4f}\n"
        f"crossed  {found['crossed_up']} up, {found['crossed_down']} down"
    )
