"""Code, docs and messages avoid the words that made the prose hard to read."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
AVOIDED = re.compile(
    r"\b(mend(s|ed)?|stands?|for ever|none of ours|verbs?|doors?|turned away|what becomes of)\b",
    re.IGNORECASE,
)
PLAIN = re.compile(r"stands? for", re.IGNORECASE)
"""Good English."""


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_code_and_docs_use_plain_words() -> None:
    pages = tracked("*.py", "*.md", "*.bicep", "*.js", "*.html", "Makefile", "Dockerfile.*")
    assert len(pages) > 100

    hits = [
        f"{page.relative_to(ROOT)}:{number}: {line.strip()}"
        for page in pages
        if page not in (Path(__file__), ROOT / "CHANGELOG.md")
        for number, line in enumerate(page.read_text().splitlines(), 1)
        if AVOIDED.search(PLAIN.sub("", line))
    ]

    assert hits == []


def test_docstrings_name_the_thing_and_not_what_it_is() -> None:
    hits = [
        f"{module.relative_to(ROOT)}:{number}: {line.strip()}"
        for module in tracked("*.py")
        for number, line in enumerate(module.read_text().splitlines(), 1)
        if re.match(r'\s*"""What\b', line)
    ]

    assert hits == []
