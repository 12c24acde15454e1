"""URLs in answers, as callers reach them, and paths as routes see them.

Both differ from the request's path if a proxy strips a prefix or the API is mounted under one.
"""

from fastapi import Request
from starlette.types import Scope


def url_of(request: Request, path: str) -> str:
    """The URL of one of our paths: under SCORER_PUBLIC_URL if set, else relative to the host."""
    base: str = request.app.state.public_url or request.scope.get("root_path", "")
    return base + path


def route_path(scope: Scope) -> str:
    """The path of a request, without the prefix of a mount or of the server's `--root-path`."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
