"""`python -m training`: train a model and write its artifact.

Figures go to stdout, progress and errors to stderr.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from training.errors import TrainingError
from training.report import summary
from training.train import DEFAULT_OUTPUT, train


def say(line: str) -> None:
    """A line for people."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> int:
    """Train as the arguments say; 1 and one line on stderr when something does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m training", description="Train a model and write its artifact."
    )
    parser.add_argument("--data", type=Path, help="another sample of the same fields")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="artifact directory")
    parser.add_argument("--repeats", type=int, default=1, help="repeats of the cross-validation")
    parser.add_argument("--model", type=Path, help="a model file, in place of the heart model")
    parser.add_argument("--card", type=Path, help="where the model card goes as Markdown")
    asked = parser.parse_args()
    if asked.repeats < 1:
        parser.error("--repeats must be at least 1")
    try:
        manifest = train(
            data=asked.data,
            output=asked.output,
            repeats=asked.repeats,
            model=asked.model,
            card=asked.card,
            progress=say,
        )
    except TrainingError as error:
        say(f"error: {error}")
        return 1
    sys.stdout.write(summary(manifest) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
