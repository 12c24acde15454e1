"""`heart-scorer compare`: two artifacts on one file: what moves, by how much, who crosses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cli.files import format_or_exit, pieces, scored_rows
from cli.output import Exit, say


def compare(
    old: Annotated[Path, typer.Argument(help="Directory of an artifact.")],
    new: Annotated[Path, typer.Argument(help="Directory of another one.")],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Records of both.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score a file with two models: what moves, and who crosses."""
    import numpy as np

    from shared.artifact import load_artifact
    from shared.errors import BadFile, StartupError
    from shared.scoring import Scorer

    kind, packed = format_or_exit(file.name)
    try:
        artifacts = [load_artifact(directory) for directory in (old, new)]
        columns = [
            np.array(
                [
                    np.nan if probability is None else probability
                    for _, probability in scored_rows(
                        pieces(file),
                        kind,
                        Scorer(a.model, a.manifest.fields, a.manifest.threshold),
                        packed=packed,
                    )
                ]
            )
            for a in artifacts
        ]
    except StartupError as error:
        say(str(error))
        raise typer.Exit(Exit.USAGE) from error
    except BadFile as error:
        say(f"{file.name}: refused: {error.reason}")
        raise typer.Exit(Exit.REFUSED) from error

    before, after = columns
    both = ~np.isnan(before) & ~np.isnan(after)
    moved = np.abs(after - before)[both]
    labels = [
        column[both] >= a.manifest.threshold for column, a in zip(columns, artifacts, strict=True)
    ]
    found = {
        "old": artifacts[0].manifest.version,
        "new": artifacts[1].manifest.version,
        "rows": len(before),
        "scored_by_both": int(both.sum()),
        "only_old": int((~np.isnan(before) & np.isnan(after)).sum()),
        "only_new": int((np.isnan(before) & ~np.isnan(after)).sum()),
        "moved": int((moved > 0).sum()),
        "mean_move": float(moved.mean()) if len(moved) else 0.0,
        "median_move": float(np.median(moved)) if len(moved) else 0.0,
        "largest_move": float(moved.max()) if len(moved) else 0.0,
        "crossed_up": int((~labels[0] & labels[1]).sum()),
        "crossed_down": int((labels[0] & ~labels[1]).sum()),
    }
    if as_json:
        print(json.dumps(found, indent=1))
        return
    print(f"old {found['old']}, new {found['new']}")
    print(f"rows     {found['rows']}, scored by both {found['scored_by_both']}")
    print(f"moved    {found['moved']}, mean {found['mean_move']:.4f}, median ", end="")
    print(f"{found['median_move']:.4f}, largest {found['largest_move']:.4f}")
    print(f"crossed  {found['crossed_up']} up, {found['crossed_down']} down")
