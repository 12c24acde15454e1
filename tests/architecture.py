"""Draws the packages and their imports into the architecture page: `python -m tests.architecture`.

The packages are those of the import contracts in pyproject.toml; the arrows are the imports that
these contracts allow and the code has.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/dev/architecture.md"
BEGIN, END = "```mermaid\nflowchart TD\n", "```\n"
COMMON = "shared"
"""Modules of `shared` outside its packages: settings, logs, metrics and the like."""


def packages() -> tuple[list[str], list[str]]:
    """The root packages, and the packages of `shared` from the lowest up."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    linter = tools["importlinter"]
    [layers] = [contract["layers"] for contract in linter["contracts"] if "layers" in contract]
    return linter["root_packages"], layers[::-1]


def imports() -> dict[str, set[str]]:
    """The packages that each package imports, without those that follow from others."""
    roots, rooms = packages()
    graph = grimp.build_graph(*roots, exclude_type_checking_imports=True)
    names = [*(root for root in roots if root != COMMON), *rooms, COMMON]

    def package(module: str) -> str:
        return next(name for name in names if module == name or module.startswith(f"{name}."))

    direct: dict[str, set[str]] = {name: set() for name in names}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            direct[package(module)].add(package(imported))
    for name in names:
        direct[name].discard(name)
    reached = {name: _reached(name, direct) for name in names}
    return {
        name: {one for one in ones if not any(one in reached[other] for other in ones - {one})}
        for name, ones in direct.items()
    }


def _reached(name: str, direct: dict[str, set[str]]) -> set[str]:
    """All packages that a package imports, directly or not."""
    found: set[str] = set()
    ahead = list(direct[name])
    while ahead:
        if (one := ahead.pop()) not in found:
            found.add(one)
            ahead += direct[one]
    return found


def picture() -> str:
    """The packages and their imports, as Mermaid draws them."""
    arrows = imports()
    titles = {COMMON: "settings, logs, metrics"}
    lines = ['    subgraph shared_["shared/"]']
    inside = [name for name in arrows if name.startswith(COMMON)]
    lines += [f'        {_id(name)}["{titles.get(name) or name}"]' for name in inside]
    lines.append("    end")
    lines += [
        f"    {_id(name)} --> {_id(imported)}"
        for name, ones in arrows.items()
        for imported in sorted(ones)
    ]
    return "\n".join(lines) + "\n"


def _id(name: str) -> str:
    return name.replace(".", "_")


def write() -> None:
    """Replace the picture on the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    PAGE.write_text(before + begin + picture() + end + after, encoding="utf-8")


if __name__ == "__main__":
    write()
