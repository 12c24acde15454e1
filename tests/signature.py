"""Connection strings with a shared access signature in place of the account's key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from azure.storage.blob import AccountSasPermissions, ResourceTypes
from azure.storage.blob import generate_account_sas as sas

from cli.local import ACCOUNT, KEY

ALL = AccountSasPermissions(
    read=True,
    write=True,
    delete=True,
    list=True,
    add=True,
    create=True,
    update=True,
    process=True,
)


def with_signature(text: str, permissions: AccountSasPermissions = ALL) -> str:
    """The connection string of Azurite that permits only this."""
    signature = sas(
        ACCOUNT,
        KEY,
        ResourceTypes(service=True, container=True, object=True),
        permissions,
        datetime.now(UTC) + timedelta(hours=1),
        services="bq",
    )
    kept = [part for part in text.split(";") if "Endpoint=" in part]
    return ";".join([*kept, f"SharedAccessSignature={signature}"])
