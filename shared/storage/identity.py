"""Tokens for Azure Storage, from the identity that this process runs as."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Self

from azure.core.credentials import AccessToken
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError
from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential

from shared.records.errors import StorageUnavailable


class Identity:
    """A credential that raises our own error, in one line.

    The storage SDKs repeat a call when its credential fails with an error of theirs, although the
    credential has already tried again by itself. They do not repeat a call for an error of ours.
    """

    def __init__(self, credential: AsyncTokenCredential) -> None:
        self._credential = credential

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Raises `StorageUnavailable`."""
        try:
            return await self._credential.get_token(*scopes, **options)
        except AzureError as error:
            reason = (str(error).splitlines() or [""])[0].removeprefix("(None) ")
            raise StorageUnavailable(
                f"the identity got no token: {reason or type(error).__name__}", why="not_signed_in"
            ) from error

    async def close(self) -> None:
        await self._credential.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()


def identity(client_id: str | None) -> Identity:
    """The managed identity on Azure; elsewhere whoever is signed in."""
    # As slow as the whole chain, but its error names the reason instead of every method it tried.
    if os.environ.get("IDENTITY_ENDPOINT"):
        return Identity(ManagedIdentityCredential(client_id=client_id))
    return Identity(DefaultAzureCredential(managed_identity_client_id=client_id))
