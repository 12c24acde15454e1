"""The page on reliability names the tests of each fault, and each ends with the one check."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAULTS = sorted((ROOT / "tests/faults").glob("test_*.py"))
CHECKS = {"check_promise", "check_world", "kept"}
"""The check itself, over memory, and over processes."""


def functions(path: Path) -> dict[str, ast.AST]:
    return {
        node.name: node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def calls(function: ast.AST) -> set[str]:
    """Names of all that is called in a function."""
    called = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {node.attr for node in called if isinstance(node, ast.Attribute)} | {
        node.id for node in called if isinstance(node, ast.Name)
    }


def test_the_page_names_every_fault_test_and_no_other() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/reliability.md").read_text()))
    written = {name for path in FAULTS for name in functions(path) if name.startswith("test_")}

    assert len(named) > 50
    assert named == written


def test_every_line_of_the_page_has_a_test() -> None:
    page = (ROOT / "docs/reliability.md").read_text()
    [lines] = re.findall(r"\| when \| then \| proved by \|\n\|[-|]+\|\n((?:\|.*\n)+)", page)

    assert [line for line in lines.splitlines() if "`test_" not in line] == []


def test_every_fault_test_ends_with_the_one_check() -> None:
    unchecked = []
    for path in FAULTS:
        found = functions(path)
        # A helper that makes the check makes it for the tests that call it.
        checks = CHECKS | {name for name, function in found.items() if calls(function) & CHECKS}
        unchecked += [
            name
            for name, function in found.items()
            if name.startswith("test_") and not calls(function) & checks
        ]

    assert unchecked == []
