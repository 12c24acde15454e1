"""The pages: home, Swagger UI, problems. Everything a page loads comes from this server.

Swagger UI is the copy in the package `fastapi-offline`; the rest is in `static/`.
"""

import importlib.util
from html import escape
from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

from api.body import takes
from api.html import HEADER, POLICY, POLICY_WITH_INLINE_STYLES, STATIC, header, page
from api.links import url_of
from api.problems import KINDS, PROBLEMS, Problem

TYPES = frozenset({".js", ".css", ".png", ".svg"})
BUNDLES = ("swagger-ui-bundle.js", "swagger-ui.css")

INDEX = {
    "predict": "/predict",
    "predict_many": "/predict/many",
    "batches": "/batches",
    "model": "/model",
    "model_card": "/model-card",
    "template": "/template.csv",
    "template_workbook": "/template.xlsx",
    "open_inference_protocol": "/v2",
    "docs": "/docs",
    "openapi": "/openapi.json",
    "problems": PROBLEMS,
    "live": "/livez",
    "ready": "/readyz",
}
"""Links for whoever asks `/` and is not a browser."""

DOCS = """<main id="main"><h1 class="unseen">API</h1><div id="page"></div></main>
<script src="static/swagger-ui-bundle.js"></script>
<script src="static/docs.js"></script>"""


def router(title: str) -> APIRouter:
    """`/`, `/docs`, `/problems` and what they load."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def home(request: Request) -> Response:
        if takes(request.headers.get("accept", ""), "text/html"):
            content = (STATIC / "home.html").read_text(encoding="utf-8")
            response: Response = _html(content.replace(HEADER, header("./")))
        else:
            response = JSONResponse({name: url_of(request, path) for name, path in INDEX.items()})
        response.headers["Vary"] = "Accept"
        return response

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        styles = (
            '<link rel="stylesheet" href="static/swagger-ui.css">'
            '<link rel="stylesheet" href="static/page.css">'
        )
        # Swagger UI has no dark colours.
        content = page(title, DOCS, current="docs", head=styles, kind=' class="light"')
        return _html(content, POLICY_WITH_INLINE_STYLES)

    @router.get("/docs/")
    async def docs_with_slash() -> RedirectResponse:
        return RedirectResponse("../docs")

    @router.get(PROBLEMS)
    async def problems() -> HTMLResponse:
        style = '<link rel="stylesheet" href="static/page.css">'
        return _html(page("Problems", _problems(), current="problems", head=style))

    @router.get("/static/{name}")
    async def static(name: str, request: Request) -> Response:
        return await _asset(name, request.scope)

    @router.get("/favicon.ico")
    async def favicon(request: Request) -> Response:
        return await _asset("icon.svg", request.scope)

    return router


def _html(content: str, policy: str = POLICY) -> HTMLResponse:
    return HTMLResponse(content, headers={"Content-Security-Policy": policy})


def _problems() -> str:
    """All problems. The `type` of a problem leads to its entry."""
    entries = "".join(
        f'<section id="{code}"><h2><code>{code}</code></h2>'
        f"<p class=status>{kind.status} {HTTPStatus(kind.status).phrase}</p>"
        f"<p><strong>{escape(kind.title)}.</strong> {_with_code(kind.remedy)}</p></section>"
        for code, kind in KINDS.items()
    )
    return (
        '<main id="main" class="page problems"><h1>Problems</h1>'
        "<p>The meaning of each <code>code</code> of an error, and what to do.</p>"
        f"{entries}</main>"
    )


def _with_code(text: str) -> str:
    """Escaped text; text between backquotes becomes code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


async def _asset(name: str, scope: Scope) -> Response:
    """A file that pages load, or 304 if the caller has it. Raises `Problem`."""
    # One plain name: no way out of the folder.
    if Path(name).name != name or Path(name).suffix not in TYPES:
        raise Problem("not_found")
    folder = _bundles() if name in BUNDLES else STATIC
    response = await StaticFiles(directory=folder).get_response(name, scope)
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response


def _bundles() -> Path:
    """The package's files, without importing it."""
    found = importlib.util.find_spec("fastapi_offline")
    if found is None or not found.submodule_search_locations:
        raise Problem("not_found", "the package fastapi-offline is not installed")
    return Path(found.submodule_search_locations[0]) / "static"
