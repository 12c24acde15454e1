"""`python -m training.importing`: import a finished model and write its artifact.

Figures go to stdout, progress and errors to stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from training.errors import TrainingError
from training.importing.models import Trust
from training.importing.run import Request, import_model
from training.report import summary


def say(line: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> int:
    """Import as the arguments say. Returns 1 after a one-line error on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.importing", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--fields", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sample", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--outcome", default="")
    parser.add_argument("--method", choices=["held_out", "in_sample"])
    parser.add_argument("--runtime", choices=["onnx", "sklearn"])
    parser.add_argument("--accept-version", action="store_true")
    parser.add_argument("--card", type=Path)
    args = parser.parse_args()
    request = Request(
        model=args.model,
        fields=args.fields,
        sample=args.sample,
        data=args.data,
        method=args.method,
        outcome=args.outcome,
        runtime=args.runtime,
        trust=Trust(
            pickle=os.environ.get("SCORER_ALLOW_PICKLE", "").lower() in ("1", "true", "yes"),
            other_version=args.accept_version,
        ),
    )
    try:
        manifest = import_model(request, args.output, say, args.card)
    except TrainingError as error:
        say(f"error: {error}")
        return 1
    sys.stdout.write(summary(manifest) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
