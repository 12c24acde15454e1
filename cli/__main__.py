"""The command `heart-scorer`: one file per command.

A command imports late what is slow to import, so that `--help` is quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cli import poison
from cli.cancel import cancel
from cli.check import check
from cli.compare import compare
from cli.doctor import doctor
from cli.drift import drift
from cli.import_ import fields, import_
from cli.logs import logs
from cli.output import Exit
from cli.queue import queue
from cli.report import report
from cli.scores import scores
from cli.status import status
from cli.submit import submit
from cli.train import train
from cli.up import up
from cli.verify import verify
from cli.version import version
from cli.wait import wait

app = typer.Typer(
    name="heart-scorer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def print_version(requested: bool) -> None:
    """Run `version` for the option of that name."""
    if requested:
        version()
        raise typer.Exit(Exit.DONE)


@app.callback()
def root(
    _: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Same as `version`."),
    ] = False,
) -> None:
    """Take a scikit-learn model to production: train it, run it, submit batches.

    \b
    A first look, without Docker or an account:
      heart-scorer up                          start everything on this machine
      heart-scorer submit FILE --wait          score a file of records

    \b
    Exit codes: 0 done, 1 failed, 2 usage, 3 input refused or rows rejected,
    4 not authorised, 5 timed out, 130 interrupted
    """


for command in (
    *(up, logs, doctor),
    *(check, submit, status, queue, wait, scores, report, drift, cancel),
    *(train, import_, fields, verify, compare),
):
    app.command(command.__name__.rstrip("_"))(command)
app.add_typer(poison.app, name="poison")
app.command()(version)


@app.command("help")
def help_(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="For example `poison list`.")
    ] = None,
) -> None:
    """Show how a command is used.

    \b
    Examples:
      heart-scorer help submit
      heart-scorer help poison replay
    """
    app([*(words or ()), "--help"], prog_name="heart-scorer")


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="heart-scorer")


if __name__ == "__main__":
    main()
