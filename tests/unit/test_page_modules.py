"""The modules of the home page that need no browser, and the size of the page."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cli.local import ROOT, node

STATIC = ROOT / "api/static"
MOST = 120_000
"""Bytes of all our files before compression."""


def test_the_modules_of_the_page_pass_their_own_tests() -> None:
    command, _ = node()
    files = sorted(map(str, (ROOT / "tests/page").glob("*.test.mjs")))

    done = subprocess.run(
        [*command, "--test", *files], capture_output=True, text=True, check=False, cwd=ROOT
    )

    assert files
    assert done.returncode == 0, done.stdout


def test_the_page_is_light() -> None:
    sizes = {path.name: path.stat().st_size for path in Path(STATIC).iterdir()}

    assert sum(sizes.values()) < MOST, sizes
