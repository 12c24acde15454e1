"""A service of storage by its REST interface, over azure.core alone.

Each message takes three requests, and their way through the storage SDKs is most of what a message
costs: a client for each blob, sixteen policies, models and their serialisation. Here the same
requests, signed and repeated by the SDKs' own policies, take half of that. What is asked less often
stays with the SDKs (`shared.storage.azure`).
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, urlencode

from azure.core.exceptions import HttpResponseError
from azure.core.pipeline import AsyncPipeline
from azure.core.pipeline.policies import AsyncHTTPPolicy
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest

# Not public; azure.core's own would not ask for a token of the account's tenant when refused.
from azure.storage.blob._shared.policies_async import AsyncStorageBearerTokenCredentialPolicy
from azure.storage.blob.aio import BlobServiceClient, ExponentialRetry
from azure.storage.queue.aio import QueueServiceClient

SCOPE = "https://storage.azure.com/.default"
"""What a token of an identity is asked for."""


class _Date(AsyncHTTPPolicy[HttpRequest, AsyncHttpResponse]):
    """Dates each try of a request, before it is signed."""

    async def send(self, request: Any) -> Any:
        request.http_request.headers["x-ms-date"] = formatdate(usegmt=True)
        return await self.next.send(request)


class RestService:
    """Blobs or queues of one account, as the SDK's client of the service reaches them."""

    def __init__(
        self,
        client: BlobServiceClient | QueueServiceClient,
        transport: AioHttpTransport,
        retries: Mapping[str, Any],
    ) -> None:
        """Requests go over `transport` and are repeated as `retries` say, of `ExponentialRetry`."""
        # A shared access signature is the URL's query, and there is no credential then.
        url, _, self._signature = client.url.partition("?")
        self._url = url.rstrip("/")
        self._version = str(client.api_version)
        credential = client.credential  # with an account's key, a policy that signs with it
        if hasattr(credential, "get_token"):
            credential = AsyncStorageBearerTokenCredentialPolicy(credential, SCOPE)
        policies: list[Any] = [ExponentialRetry(**retries), _Date(), credential]
        self._pipeline = AsyncPipeline[HttpRequest, AsyncHttpResponse](transport, policies)

    async def send(
        self,
        expected: int,
        method: str,
        path: str,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        *,
        stream: bool = False,
    ) -> AsyncHttpResponse:
        """Send one request; `path` is not quoted. Returns the answer of the `expected` status.

        With `stream` its content is still to be read. Raises the SDKs' exceptions:
        `HttpResponseError` with the service's `error_code` for any other answer (of a success that
        is not this one, too: something else than storage gave it), another `AzureError` when there
        is none.
        """
        url = f"{self._url}/{quote(path, safe='~/')}"
        asked = "&".join(filter(None, (urlencode(query or {}, quote_via=quote), self._signature)))
        request = HttpRequest(
            method,
            f"{url}?{asked}" if asked else url,
            headers={"x-ms-version": self._version, **(headers or {})},
            content=content,
        )
        response = (await self._pipeline.run(request, stream=stream)).http_response
        if response.status_code != expected:
            if stream:
                await response.read()
            error = HttpResponseError(response=response)
            code = response.headers.get("x-ms-error-code")
            error.error_code = code  # type: ignore[attr-defined]  # as the SDKs have it
            raise error
        return response
