"""The command `heart-scorer`: one file a verb; what is slow to import is imported by its verb."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import poison
from cli.check import check
from cli.compare import compare
from cli.doctor import doctor
from cli.home import MODEL_DIR
from cli.output import Exit, say
from cli.status import status
from cli.submit import submit
from cli.train import train
from cli.up import up
from cli.verify import verify

app = typer.Typer(
    name="heart-scorer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def version(asked: bool) -> None:
    """Print the version of the product, and of the model if one is trained."""
    if not asked:
        return
    from shared import __version__
    from shared.records.artifact import read_manifest
    from shared.records.errors import StartupError

    print(f"heart-scorer {__version__}")
    try:
        manifest, sha256 = read_manifest(MODEL_DIR)
    except StartupError as error:
        say(str(error))
    else:
        print(f"model {manifest.name} {manifest.version} {sha256}")
    raise typer.Exit(Exit.DONE)


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print versions.")
    ] = False,
) -> None:
    """Takes a scikit-learn model to production: trains, runs, submits batches."""


for verb in (up, train, check, submit, status, verify, compare, doctor):
    app.command()(verb)
app.add_typer(poison.app, name="poison")


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="heart-scorer")


if __name__ == "__main__":
    main()
