"""`heart-scorer import` and `heart-scorer fields`: a finished model becomes an artifact."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from cli.home import MODEL_DIR, PYTHON
from cli.output import Exit, say


def import_(
    model: Annotated[
        Path,
        typer.Argument(
            exists=True, help="A .joblib, .pkl, .skops or .onnx file, or an MLflow folder."
        ),
    ],
    fields: Annotated[
        Path, typer.Option(exists=True, help="A Python file, a sample as CSV, or an MLmodel file.")
    ],
    output: Annotated[Path, typer.Option(help="Directory of the artifact.")] = MODEL_DIR,
    sample: Annotated[
        Path | None, typer.Option(exists=True, help="More rows to compare on, as CSV.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(exists=True, help="Rows with outcomes, to evaluate on.")
    ] = None,
    outcome: Annotated[str, typer.Option(help="The column with the outcome.")] = "",
    held_out: Annotated[
        bool, typer.Option("--held-out", help="The model was not fitted to --data.")
    ] = False,
    in_sample: Annotated[
        bool, typer.Option("--in-sample", help="The model was fitted to --data.")
    ] = False,
    runtime: Annotated[
        str | None, typer.Option(help="`onnx` or `sklearn`; by default ONNX if it converts.")
    ] = None,
    accept_version: Annotated[
        bool, typer.Option("--accept-version", help="Load what another version fitted.")
    ] = False,
    card: Annotated[
        Path | None, typer.Option(help="Write the model card as Markdown here.")
    ] = None,
) -> None:
    """Import a finished model: no fit, no labelled data.

    \b
    Examples:
      heart-scorer import model.skops --fields sample.csv --outcome skid --output skid-model
      heart-scorer import mlflow-folder --fields fields.py --output skid-model
      heart-scorer import model.onnx --fields fields.py --data test.csv --outcome skid --held-out
    """
    if data is not None and held_out == in_sample:
        say("--data needs --held-out or --in-sample: was the model fitted to these rows?")
        raise typer.Exit(Exit.USAGE)
    method = "held_out" if held_out else "in_sample" if in_sample else None
    command = [*PYTHON, "training.importing", str(model), "--output", str(output)]
    for option, value in (
        *(("--fields", fields), ("--sample", sample), ("--data", data), ("--outcome", outcome)),
        *(("--method", method), ("--runtime", runtime), ("--card", card)),
    ):
        if value:
            command += [option, str(value)]
    run(command + (["--accept-version"] if accept_version else []))


def fields(
    sample: Annotated[Path, typer.Argument(exists=True, help="A sample as CSV, or an MLmodel.")],
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="A column that is no field, such as the outcome."),
    ] = None,
) -> None:
    """Print a first field table of a sample as Python, to edit.

    \b
    Example:
      heart-scorer fields skids.csv --without skid > fields.py
    """
    run([*PYTHON, "training.importing.table", str(sample), *(without or ())])


def run(command: list[str]) -> None:
    """Run a Python module and exit with its code."""
    # In a session of its own Ctrl-C reaches only us, and we end it.
    done = subprocess.run(command, check=False, start_new_session=True)  # noqa: S603
    raise typer.Exit(done.returncode)
