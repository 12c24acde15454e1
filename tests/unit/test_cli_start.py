"""The first impression of the command line: quick help, complete, with examples."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.__main__ import app
from cli.home import ROOT
from cli.output import Exit

SLOW = {"asyncio", "azure", "numpy", "onnxruntime", "polars", "pydantic", "rich", "sklearn"}
COMMANDS = ["up", "logs", "doctor", "check", "submit", "status", "queue", "wait", "scores"]
COMMANDS += [
    "report",
    "drift",
    "cancel",
    "train",
    "import",
    "fields",
    "verify",
    "compare",
    "version",
    "help",
    "poison",
]
POISON_COMMANDS = ["list", "show", "replay", "drop"]


def call(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100"} | env,
    )


def test_help_imports_nothing_slow() -> None:
    code = """
import json, sys
import cli.__main__
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert set(json.loads(done.stdout)) & SLOW == set()


def test_help_names_each_command_with_a_whole_sentence() -> None:
    lines = call("--help").stdout.partition("Commands:\n")[2].splitlines()

    assert [line.split()[0] for line in lines] == COMMANDS
    assert all(line.endswith(".") and not line.endswith("...") for line in lines)


@pytest.mark.parametrize("words", [*COMMANDS, *(f"poison {name}" for name in POISON_COMMANDS)])
def test_each_command_says_how_it_is_used_with_examples_that_parse(words: str) -> None:
    done = CliRunner().invoke(app, [*words.split(), "--help"])

    assert done.exit_code == 0
    assert done.stdout.lstrip().startswith(f"Usage: heart-scorer {words} ")
    assert CliRunner().invoke(app, ["help", *words.split()]).stdout == done.stdout
    examples = re.findall(rf"^    .*heart-scorer {words}(.*)$", done.stdout, re.MULTILINE)
    assert examples
    command = command_called(words)
    for example in examples:
        options = {option for parameter in command.params for option in parameter.opts}
        assert {
            word for word in example.split() if word.startswith("-") and word != "-"
        } <= options, example


def command_called(words: str) -> Any:
    command: Any = get_command(app)
    for word in words.split():
        command = command.commands[word]
    return command


def test_help_about_a_command_that_does_not_exist_is_a_usage_error() -> None:
    assert CliRunner().invoke(app, ["help", "poisson"]).exit_code == Exit.USAGE


@pytest.mark.parametrize(
    ("shell", "env"),
    [
        ("bash", {"COMP_WORDS": "heart-scorer po", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "heart-scorer po"}),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "heart-scorer po", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        ),
    ],
)
def test_a_shell_completes_a_command(shell: str, env: dict[str, str]) -> None:
    done = call(**{"_HEART_SCORER_COMPLETE": f"complete_{shell}"} | env)

    assert "poison" in done.stdout
    assert "submit" not in done.stdout


def test_a_wrong_option_is_a_usage_error() -> None:
    done = call("submit", "--no-such-option")

    assert done.returncode == Exit.USAGE
    assert "No such option: --no-such-option" in done.stderr


def test_versions_of_product_and_model_are_printed(artifact_dir: Path) -> None:
    done = call("--version")

    assert call("version").stdout == done.stdout
    assert re.fullmatch(
        r"heart-scorer \d+\.\d+\.\d+\nmodel heart-cleveland \S+ [0-9a-f]{64}\n", done.stdout
    )


def test_every_option_says_what_it_is_for() -> None:
    group = get_command(app)
    commands = [*group.commands.values(), *group.commands["poison"].commands.values()]  # type: ignore[attr-defined]

    assert len(commands) == len(COMMANDS) + len(POISON_COMMANDS)
    silent = [
        f"{command.name} {parameter.name}"
        for command in commands
        for parameter in command.params
        if not getattr(parameter, "help", "")
    ]

    assert silent == []
