"""`heart-scorer train`: trains the model and writes the artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.home import MODEL_DIR, PYTHON
from cli.import_ import run


def train(
    repeats: Annotated[
        int, typer.Option(min=1, max=100, help="Repeats of the 10-fold cross-validation.")
    ] = 1,
    output: Annotated[Path, typer.Option(help="Directory of the artifact.")] = MODEL_DIR,
    model: Annotated[
        Path | None, typer.Option(help="Your own model file instead of the demonstration.")
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="Write the model card as Markdown here.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Another sample of the same fields, as CSV.")
    ] = None,
) -> None:
    """Train the model, check it and write the artifact.

    \b
    Examples:
      heart-scorer train
      heart-scorer train --repeats 10 --output new
      heart-scorer train --model my_model.py --output my-artifact
    """
    command = [*PYTHON, "training", "--repeats", str(repeats), "--output", str(output)]
    for option, value in (("--data", data), ("--model", model), ("--card", card)):
        if value is not None:
            command += [option, str(value)]
    run(command)
