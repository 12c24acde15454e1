"""The command `heart-scorer`: one file a verb; what is slow to import is imported by its verb."""

from __future__ import annotations

import typer

from cli import poison
from cli.check import check
from cli.compare import compare
from cli.doctor import doctor
from cli.status import status
from cli.submit import submit
from cli.train import train
from cli.up import up
from cli.verify import verify

app = typer.Typer(
    name="heart-scorer",
    help="Takes a scikit-learn model to production: trains, runs, submits batches.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (up, train, check, submit, status, verify, compare, doctor):
    app.command()(verb)
app.add_typer(poison.app, name="poison")


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
