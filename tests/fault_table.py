"""Writes the table of fault tests into docs/reliability.md: `python -m tests.fault_table`."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reliability.md"
FAULTS = sorted((ROOT / "tests/faults").glob("test_*.py"))
BEGIN, END = "<!-- fault tests: begin -->\n", "<!-- fault tests: end -->\n"


def functions(path: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions of a module by name."""
    return {
        node.name: node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def table() -> str:
    """One row per test: its name as a sentence, and what it runs over."""
    lines = ["| tested | over |", "|---|---|"]
    for path in FAULTS:
        module = ast.parse(path.read_text())
        marked = any(
            isinstance(node, ast.Assign) and "azurite" in ast.unparse(node) for node in module.body
        )
        lines.append(f"| **{(ast.get_docstring(module) or '').splitlines()[0]}** | |")
        for name, function in functions(path).items():
            if name.startswith("test_"):
                decorators = " ".join(map(ast.unparse, function.decorator_list))
                process = marked or "azurite" in decorators
                over = "processes, Azurite" if process else "memory, virtual time"
                lines.append(f"| {name.removeprefix('test_').replace('_', ' ')} | {over} |")
    return "\n".join(lines) + "\n"


def page_with_table(page: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text()))
