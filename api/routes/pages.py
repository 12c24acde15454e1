"""Swagger UI, ReDoc and the page of problems. Everything a page loads comes from this server.

The bundles are those that the package `fastapi-offline` carries; our part is `static/`.
"""

import importlib.util
import re
from html import escape
from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from api.problems import KINDS, Problem

OURS = Path(__file__).parents[1] / "static"
TYPES = {".js": "text/javascript", ".css": "text/css", ".png": "image/png"}
REDOC = "redoc.standalone.js"
ELSEWHERE = re.compile(rb"https://[\w.]+/redoc/logo-mini\.svg")
"""The one picture that ReDoc would load from another host."""
BUNDLES = ("swagger-ui-bundle.js", "swagger-ui.css", REDOC, "favicon.png")

# Both viewers draw with styles that they make as they go, and with small pictures inline.
POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

VIEWER = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="static/favicon.png">
<link rel="stylesheet" href="static/{style}">
</head>
<body>
<div id="page"></div>
<script src="static/{bundle}"></script>
<script src="static/{start}"></script>
</body>
</html>
"""


def router(title: str) -> APIRouter:
    """`/docs`, `/redoc`, `/problems` and what they load."""
    router = APIRouter(include_in_schema=False)

    def viewer(style: str, bundle: str, start: str) -> HTMLResponse:
        content = VIEWER.format(title=escape(title), style=style, bundle=bundle, start=start)
        return HTMLResponse(content, headers={"Content-Security-Policy": POLICY})

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        return viewer("swagger-ui.css", "swagger-ui-bundle.js", "docs.js")

    @router.get("/redoc")
    async def redoc() -> HTMLResponse:
        return viewer("page.css", REDOC, "redoc.js")

    @router.get("/problems")
    async def problems() -> HTMLResponse:
        return HTMLResponse(_problems(), headers={"Content-Security-Policy": "default-src 'self'"})

    @router.get("/static/{name}")
    async def static(name: str) -> Response:
        return _asset(name)

    @router.get("/favicon.ico")
    async def favicon() -> Response:
        return _asset("favicon.png")

    return router


def _problems() -> str:
    """All problems, for the reader of a `type`."""
    rows = "".join(
        f"<tr id='{code}'><td><code>{code}</code></td>"
        f"<td>{kind.status} {HTTPStatus(kind.status).phrase}</td>"
        f"<td>{escape(kind.title)}.</td><td>{escape(kind.remedy)}</td></tr>"
        for code, kind in KINDS.items()
    )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Problems</title>"
        "<link rel='stylesheet' href='static/page.css'><h1>Problems</h1>"
        "<p>What the <code>code</code> of an error means, and what to do.</p>"
        "<table><tr><th>code</th><th>status</th><th>meaning</th><th>what to do</th></tr>"
        f"{rows}</table></html>"
    )


def _asset(name: str) -> Response:
    """A file that pages load. Raises `Problem`."""
    folder = _bundles() if name in BUNDLES else OURS
    path = folder / name
    # One plain name: no way out of the folder.
    if Path(name).name != name or path.suffix not in TYPES or not path.is_file():
        raise Problem("not_found")
    content = path.read_bytes()
    if name == REDOC:
        content = ELSEWHERE.sub(b"static/favicon.png", content)
    headers = {"Cache-Control": "public, max-age=3600"}
    return Response(content, headers=headers, media_type=TYPES[path.suffix])


def _bundles() -> Path:
    """The package's files, without importing it."""
    found = importlib.util.find_spec("fastapi_offline")
    if found is None or not found.submodule_search_locations:
        raise Problem("not_found", "the package fastapi-offline is not installed")
    return Path(found.submodule_search_locations[0]) / "static"
