"""The README says what is so: settings, targets, verbs, files, links, the way of its examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from cli.__main__ import app
from tests.readme import README, settings_table

ROOT = README.parent
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), ROOT / "CHANGELOG.md"]


def test_the_table_of_settings_is_that_of_the_classes() -> None:
    assert settings_table() in README.read_text()


def test_the_readme_can_be_read_in_five_minutes() -> None:
    assert len(README.read_text().splitlines()) < 200


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    named = set(re.findall(r"`make ([a-z-]+)`", page.read_text()))

    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_verb_that_is_named_exists(page: Path) -> None:
    verbs = set(get_command(app).list_commands(None))  # type: ignore[attr-defined]  # a click group

    named = set(
        re.findall(r"(?:^|`|\$ |bin/)heart-scorer ([a-z]+)", page.read_text(), re.MULTILINE)
    )

    assert named <= verbs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())

    missing = [
        link
        for link in links
        if not link.startswith(("http", "mailto")) and not (page.parent / link).exists()
    ]

    assert missing == []


def test_every_folder_that_the_readme_names_exists() -> None:
    named = re.findall(r"^\| `([a-z]+)/`", README.read_text(), re.MULTILINE)

    assert len(named) >= 5
    assert [name for name in named if not (ROOT / name).is_dir()] == []
