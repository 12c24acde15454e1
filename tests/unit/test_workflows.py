"""The workflows of GitHub Actions: what they run is pinned, and they hold no secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WORKFLOWS = sorted((Path(__file__).parents[2] / ".github" / "workflows").glob("*.yml"))

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


@each_workflow
def test_every_action_is_pinned_to_a_commit(path: Path) -> None:
    actions = re.findall(r"uses: (\S+)", path.read_text())

    assert actions
    assert [name for name in actions if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name)] == []


@each_workflow
def test_no_workflow_uses_a_secret(path: Path) -> None:
    assert "secrets." not in path.read_text()
