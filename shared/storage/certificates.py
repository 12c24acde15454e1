"""Imports aiohttp, the SDKs' HTTP client, and has its certificates loaded beside what follows.

aiohttp loads them while it is imported, and a second time for connections that check nothing, which
are none of ours: 50 to 100 ms together, a tenth of a worker's start, in which only OpenSSL works.
Here they are loaded once, in a thread, and whoever connects asks `wait` before.
"""

from __future__ import annotations

import ssl
from concurrent.futures import Future, ThreadPoolExecutor

_loading: list[Future[None]] = []
_thread = ThreadPoolExecutor(1)
_load = ssl.SSLContext.set_default_verify_paths


def _load_beside(context: ssl.SSLContext) -> None:
    if context.verify_mode != ssl.CERT_NONE:
        _loading.append(_thread.submit(_load, context))


# aiohttp keeps both contexts under private names; what they are loaded by has a public one.
ssl.SSLContext.set_default_verify_paths = _load_beside  # type: ignore[assignment,method-assign]
try:
    import aiohttp  # noqa: F401
finally:
    del ssl.SSLContext.set_default_verify_paths  # that of the base class holds again
    _thread.shutdown(wait=False)


def wait() -> None:
    """Return when the certificates are there. Raises what their loading raised."""
    for loading in _loading:
        loading.result()
