"""`heart-scorer train`: trains the model and writes the artifact."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.local import ROOT


def train(
    repeats: Annotated[
        int, typer.Option(min=1, max=100, help="Repeats of the 10-fold cross-validation.")
    ] = 1,
    output: Annotated[Path, typer.Option(help="Directory of the artifact.")] = ROOT / "artifact",
    model: Annotated[
        Path | None, typer.Option(help="A model file of your own, in place of the demonstration.")
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="Write the model card as Markdown here.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Another sample of the same fields, as CSV.")
    ] = None,
) -> None:
    """Train the model, compare it with its expected figures and write the artifact."""
    command = [sys.executable, "-m", "training", "--repeats", str(repeats), "--output", str(output)]
    for option, value in (("--data", data), ("--model", model), ("--card", card)):
        if value is not None:
            command += [option, str(value)]
    done = subprocess.run(command, check=False)  # noqa: S603  # our own command
    raise typer.Exit(done.returncode)
