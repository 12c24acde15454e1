"""Imports the storage SDKs without `requests`, which only their synchronous clients use.

They import it at once, with urllib3 and its large expressions: a tenth of a worker's start. Here
they are handed a stand-in for its transport, which imports it when a synchronous client is made.
"""

from __future__ import annotations

from typing import Any

from azure.core.pipeline import transport


class _RequestsTransport:
    def __new__(cls, **options: Any) -> Any:
        from azure.core.pipeline.transport import RequestsTransport

        return RequestsTransport(**options)


# A module's own name is found before its `__getattr__`, by which azure.core imports transports.
transport.RequestsTransport = _RequestsTransport
try:
    import azure.storage.blob
    import azure.storage.queue  # noqa: F401
finally:
    del transport.RequestsTransport
