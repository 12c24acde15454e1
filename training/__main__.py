"""`python -m training`: train a model and write its artifact.

Figures go to stdout, progress and errors to stderr.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from training.errors import TrainingError
from training.heart.model import MODEL
from training.model_file import read_model_file
from training.report import summary
from training.train import train


def say(line: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> int:
    """Train as the arguments say. Returns 1 after a one-line error on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m training", description="Train a model and write its artifact."
    )
    parser.add_argument("--data", type=Path, help="another sample of the same fields")
    parser.add_argument("--output", type=Path, default=Path("artifact"), help="artifact directory")
    parser.add_argument("--repeats", type=int, default=1, help="repeats of the cross-validation")
    parser.add_argument("--model", type=Path, help="a model file, in place of the heart model")
    parser.add_argument("--card", type=Path, help="where the model card goes as Markdown")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error("--repeats must be at least 1")
    try:
        manifest = train(
            read_model_file(args.model) if args.model else MODEL,
            args.output,
            data=args.data,
            repeats=args.repeats,
            card=args.card,
            progress=say,
        )
    except TrainingError as error:
        say(f"error: {error}")
        return 1
    sys.stdout.write(summary(manifest) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
