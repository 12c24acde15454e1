"""README and docs match the code: settings, targets, commands, options, files, links, texts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from cli.__main__ import app
from cli.output import Exit
from shared.settings import ApiSettings, WorkerSettings
from tests.architecture import PAGE, picture
from tests.readme import README, SETTINGS, settings_table, variables

ROOT = README.parent
DOCS = ROOT / "docs"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.rglob("*.md")),
    ROOT / "training/README.md",
]
SOURCES = ("api", "cli", "shared", "training", "worker")

a_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def test_the_table_of_settings_is_that_of_the_classes() -> None:
    assert settings_table() in SETTINGS.read_text()


@a_page
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    named = set(re.findall(r"`make (?:[A-Z]\S+ )?([a-z-]+)`", page.read_text()))

    assert named <= targets


@a_page
def test_every_setting_that_is_named_exists(page: Path) -> None:
    known = {v for kind in (ApiSettings, WorkerSettings) for v in variables(kind)}

    assert set(re.findall(r"\bSCORER_[A-Z0-9_]+\b", page.read_text())) <= known


@a_page
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    calls = re.findall(
        r"(?:^|`|\$ |bin/)heart-scorer ([a-z][^`\n|>&]*)", page.read_text(), re.MULTILINE
    )

    for call in calls:
        words = call.split()
        command = get_command(app).commands[words[0]]  # type: ignore[attr-defined]  # a click group
        if words[0] == "poison" and len(words) > 1:
            command = command.commands[words[1].strip("|,")]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, call


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@a_page
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]*?)(?:#([^)]*))?\)", page.read_text())

    dead = [
        f"{link}#{anchor}"
        for link, anchor in links
        if not link.startswith(("http", "mailto")) and not leads(page, link, anchor)
    ]

    assert dead == []


def leads(page: Path, link: str, anchor: str) -> bool:
    target = (page.parent / link) if link else page
    return target.exists() and (not anchor or anchor in anchors(target))


def test_every_function_that_the_architecture_page_links_is_there() -> None:
    page = DOCS / "dev/architecture.md"
    links = re.findall(r"\[`(\w+)`\]\(([^)]+\.py)\)", page.read_text())

    assert len(links) >= 10
    gone = [
        f"{name} in {path}"
        for name, path in links
        if not re.search(rf"(?:def|class) {name}\b", (page.parent / path).read_text())
    ]
    assert gone == []


def test_the_picture_of_the_imports_is_that_of_the_code() -> None:
    assert picture() in PAGE.read_text(), "make docs"


def test_the_index_of_decisions_lists_every_decision() -> None:
    index = DOCS / "adr/README.md"

    listed = re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", index.read_text())

    assert listed == sorted(page.name for page in index.parent.glob("0*.md"))


def test_the_index_lists_every_page() -> None:
    listed = set(re.findall(r"\]\(([a-z-]+\.md)\)", (DOCS / "README.md").read_text()))

    assert listed == {page.name for page in DOCS.glob("*.md")} - {"README.md"}


def test_every_folder_that_the_readme_names_exists() -> None:
    named = re.findall(r"`([a-z]+)/`", README.read_text())

    assert len(named) >= 5
    assert [name for name in named if not (ROOT / name).is_dir()] == []


def source() -> str:
    """All code with texts for users; strings over several lines are joined."""
    files = [file for part in SOURCES for file in sorted((ROOT / part).rglob("*.py"))]
    text = "\n".join(file.read_text() for file in [*files, ROOT / "Makefile"])
    return re.sub(r'"\s*\n\s*f?"', "", text)


OUTSIDE = {
    "Address already in use",
    "AuthorizationFailed",
    "AuthorizationPermissionMismatch",
    "InvalidHeaderValue",
    "KEDAScalerFailed",
    "PrincipalNotFound",
    "QuotaExceeded",
    "TasksOperationsNotAllowed",
    "does not have authorization to deliver",
    "toomanyrequests",
}
"""Texts of the system, of storage and of Azure."""


def test_every_error_text_of_the_troubleshooting_page_exists() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    texts: list[str] = re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE)
    code = source()

    assert len(texts) > 30
    assert [text for text in texts if text not in code and text not in OUTSIDE] == []


def test_the_page_of_the_command_line_names_every_command_and_exit_code() -> None:
    page = (DOCS / "cli.md").read_text()
    group = get_command(app)
    poison = group.commands["poison"]  # type: ignore[attr-defined]  # a click group

    assert re.findall(r"^\| `([a-z]+)", page, re.MULTILINE) == list(group.commands)  # type: ignore[attr-defined]
    assert all(f"`{name}`" in page or f"`poison {name}`" in page for name in poison.commands)
    assert re.findall(r"^\| (\d+) \|", page, re.MULTILINE) == [str(int(code)) for code in Exit]


@a_page
def test_no_page_names_a_machine(page: Path) -> None:
    assert re.findall(r"/(?:work|home|root|Users)/", page.read_text()) == []
