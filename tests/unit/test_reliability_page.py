"""The page on reliability names the tests of each fault, and each ends with the one check."""

from __future__ import annotations

import ast

from tests.fault_table import FAULTS, PAGE, functions, page_with_table

CHECKS = {"check_promise", "check_world", "check_no_scores_without_success", "kept"}
"""The check itself, over memory, and over processes."""


def calls(function: ast.AST) -> set[str]:
    """Names of all that is called in a function."""
    called = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {node.attr for node in called if isinstance(node, ast.Attribute)} | {
        node.id for node in called if isinstance(node, ast.Name)
    }


def test_the_table_of_the_page_is_the_one_of_the_tests() -> None:
    page = PAGE.read_text()

    assert page_with_table(page) == page, "run: python -m tests.fault_table"


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
