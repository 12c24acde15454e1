"""The frame of our pages: head, shared header, and the policy on what they may load."""

from html import escape
from pathlib import Path

STATIC = Path(__file__).parent / "static"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy: nothing inline, nothing from another host."""

POLICY_WITH_INLINE_STYLES = POLICY.replace(
    "style-src 'self'; img-src 'self'", "style-src 'self' 'unsafe-inline'; img-src 'self' data:"
)
"""For pages that bring styles and small pictures of their own."""

ICON = '<link rel="icon" href="static/icon.svg" type="image/svg+xml">'
THEME = '<link rel="stylesheet" href="static/theme.css">'
HEADER = "<!-- header -->"
"""Placeholder for the header in our pages."""


def header(current: str) -> str:
    """The header with links to all pages; `current` is the path of the one it is on."""
    text = (STATIC / "header.html").read_text(encoding="utf-8")
    return text.replace(f'<a href="{current}">', f'<a href="{current}" aria-current="page">')


def page(title: str, body: str, *, current: str, head: str = "", kind: str = "") -> str:
    """A page of ours around its body; `head` links more styles."""
    return (
        f'<!doctype html>\n<html lang="en"{kind}>\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n{ICON}\n{THEME}\n{head}\n</head>\n<body>\n"
        f"{header(current)}{body}\n</body>\n</html>\n"
    )


def with_header(content: str, current: str) -> str:
    """A whole page of somebody else with our header. Its own styles come last, so they win."""
    content = content.replace("<style>", f"{ICON}\n{THEME}\n<style>", 1)
    return content.replace("<body>", f"<body>\n{header(current)}", 1)
