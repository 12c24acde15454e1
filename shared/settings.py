"""Settings, read once from the environment. Each has a range and a description."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from shared.records.errors import StartupError

AZURE = {
    "connection_string": "AZURE_STORAGE_CONNECTION_STRING",
    "client_id": "AZURE_CLIENT_ID",
}
"""Settings whose variables Azure's own tools read, too."""
MAX_BLOCKS = 50_000
"""Blocks of one blob in Azure Storage."""
MAX_BLOCK_ROWS = 32_767
"""Most rows that a block's name can count; see `shared.batches.checkpoint`."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class StorageSettings(BaseModel):
    """Settings of storage, and those that all parts share."""

    # Built when first read: a process needs one kind of settings.
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True
    )

    connection_string: SecretStr | None = None
    """Connection string of Azurite or of an account with keys. Not for production."""
    storage_account: str | None = Field(default=None, pattern=r"^[a-z0-9]{3,24}$")
    """Name of the storage account in Azure's public cloud, reached with the managed identity."""
    blob_endpoint: str | None = None
    """Blob URL, instead of the account's name; for other clouds and custom domains."""
    queue_endpoint: str | None = None
    """Queue URL. Set both endpoints or neither."""
    client_id: str | None = None
    """Client ID of the user-assigned identity, if several are attached."""
    queue: str = Field(default="patient-batches", pattern=r"^[a-z0-9](-?[a-z0-9]){2,55}$")
    """Queue of batches. The queues with `-poison` and `-parts` added to its name belong to it."""
    model_dir: Path = Path("artifact")
    """Directory of the artifact."""
    model_sha256: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{64}$")
    """Required SHA-256 of the artifact's manifest."""
    allow_pickle: bool = False
    """Load a model.joblib whose manifest is not pinned. Loading it may run its author's code."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""
    log_format: Literal["auto", "json", "text"] = "auto"
    """Format of log lines; `auto` is text on a terminal and JSON elsewhere."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 in the images."""
    health_port: int = Field(default=9090, ge=0, le=65535)
    """Port of the metrics, and of the worker's health checks. 0 picks a free port."""
    upload_bytes: int = Field(default=1 << 30, ge=1 << 10, le=100 << 30)
    """Largest file of POST /batches, as sent. Limits SCORER_BLOCK_BYTES from below."""

    @property
    def poison_queue(self) -> str:
        return f"{self.queue}-poison"

    @property
    def parts_queue(self) -> str:
        return f"{self.queue}-parts"

    @field_validator("blob_endpoint", "queue_endpoint")
    @classmethod
    def _endpoint_carries_no_secret(cls, url: str | None) -> str | None:
        return None if url is None else _endpoint(url)

    @model_validator(mode="after")
    def _endpoints_come_in_pairs(self) -> Self:
        if (self.blob_endpoint is None) != (self.queue_endpoint is None):
            raise ValueError("set both SCORER_BLOB_ENDPOINT and SCORER_QUEUE_ENDPOINT, or neither")
        return self

    @property
    def endpoints(self) -> tuple[str, str] | None:
        """URLs of blobs and queues for use with an identity; none without storage."""
        if self.blob_endpoint is not None and self.queue_endpoint is not None:
            return self.blob_endpoint, self.queue_endpoint
        if self.storage_account is None:
            return None
        domain = "core.windows.net"
        account = self.storage_account
        return f"https://{account}.blob.{domain}", f"https://{account}.queue.{domain}"

    @property
    def has_storage(self) -> bool:
        return self.connection_string is not None or self.endpoints is not None


class ApiSettings(StorageSettings):
    """Settings of the API."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port of the API. 0 picks a free port."""
    api_keys: SecretStr | None = None
    """API keys, separated by commas, or `none`. Required unless SCORER_HOST is loopback."""
    api_keys_file: Path | None = None
    """File of API keys, one per line or separated by commas, instead of SCORER_API_KEYS."""
    body_bytes: int = Field(default=1 << 20, ge=1 << 10, le=64 << 20)
    """Largest body of a scoring request, unpacked."""
    body_seconds: float = Field(default=10, ge=0.1, le=600)
    """Longest time for such a body, or for a part of an upload or download, to arrive."""
    request_rows: int = Field(default=1000, ge=1, le=100_000)
    """Most records of one scoring request."""
    requests: int = Field(default=256, ge=1, le=10_000)
    """Most concurrent requests; more get 503."""
    transfers: int = Field(default=4, ge=1, le=64)
    """Most concurrent uploads and downloads; each uses a few MiB. More get 503."""
    public_url: str | None = Field(
        default=None, pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?$"
    )
    """URL under which callers reach the API, with the prefix that a proxy strips."""
    keep_alive_seconds: float = Field(default=300, ge=1, le=3600)
    """How long an idle connection stays open. Must exceed the idle time of a proxy in front."""
    grace_seconds: float = Field(default=25, ge=0, le=600)
    """Longest time for running requests to finish after SIGTERM."""

    @field_validator("public_url")
    @classmethod
    def _no_slash_at_the_end(cls, url: str | None) -> str | None:
        return None if url is None else url.rstrip("/")

    @model_validator(mode="after")
    def _keys_where_others_can_call(self) -> ApiSettings:
        if self.api_keys_file is not None:
            self._take_keys_from(self.api_keys_file)
        if self.api_keys is None and self.host not in LOOPBACK:
            raise ValueError(
                f"SCORER_API_KEYS must be set when SCORER_HOST is {self.host}: "
                "keys separated by commas, or `none` to let everyone in"
            )
        if self.api_keys is not None and self.api_keys.get_secret_value().strip() != "none":
            if not self.keys:
                raise ValueError("SCORER_API_KEYS holds no key: set keys, or `none`")
            if not all(key.isascii() and key.isprintable() for key in self.keys):
                raise ValueError("SCORER_API_KEYS: a key may hold printable ASCII only")
        return self

    def _take_keys_from(self, path: Path) -> None:
        if self.api_keys is not None:
            raise ValueError("set SCORER_API_KEYS or SCORER_API_KEYS_FILE, not both")
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError("SCORER_API_KEYS_FILE cannot be read as text") from error
        # Frozen for everyone else; a validator is still building.
        object.__setattr__(self, "api_keys", SecretStr(",".join(text.split())))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys; none when everyone may call."""
        text = self.api_keys.get_secret_value() if self.api_keys else "none"
        if text.strip() == "none":
            return ()
        return tuple(key for part in text.split(",") if (key := part.strip()))


class WorkerSettings(StorageSettings):
    """Settings of the worker."""

    slots: int = Field(default=4, ge=1, le=32)
    """Most concurrent messages per worker."""
    visibility_seconds: float = Field(default=60, ge=2, le=3600)
    """Visibility timeout: how long a message stays hidden without a renewal."""
    renew_seconds: float = Field(default=20, ge=0.5, le=1200)
    """Interval of renewals; at most half of SCORER_VISIBILITY_SECONDS."""
    idle_seconds: float = Field(default=10, ge=0.1, le=60)
    """Longest wait between two polls of an empty queue."""
    grace_seconds: float = Field(default=25, ge=0, le=600)
    """Longest time for the current block to finish after SIGTERM."""
    block_rows: int = Field(default=32_000, ge=1, le=MAX_BLOCK_ROWS)
    """Most rows scored and staged together."""
    block_bytes: int = Field(default=2 << 20, ge=1 << 10, le=64 << 20)
    """Input bytes after which a block ends."""
    split_bytes: int = Field(default=64 << 20, ge=1 << 10, le=1 << 50)
    """Bytes of input from which a file is shared between all workers."""

    @model_validator(mode="after")
    def _renewals_come_in_time(self) -> WorkerSettings:
        if self.renew_seconds > self.visibility_seconds / 2:
            raise ValueError("SCORER_RENEW_SECONDS must be at most half SCORER_VISIBILITY_SECONDS")
        return self

    @model_validator(mode="after")
    def _blocks_suffice(self) -> WorkerSettings:
        least = -(-self.upload_bytes // MAX_BLOCKS)
        if self.block_bytes < least:
            raise ValueError(
                f"SCORER_BLOCK_BYTES must be at least {least}: a file of SCORER_UPLOAD_BYTES would "
                f"need more than the {MAX_BLOCKS:,} blocks that storage allows"
            )
        return self


def _endpoint(url: str) -> str:
    """Check an endpoint that tokens are sent to. Returns it without a slash at the end."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises for a port that is not a number
    except ValueError as error:
        raise ValueError("not a URL") from error
    if parts.scheme not in ("https", "http") or not host:
        raise ValueError("must be a URL such as https://ACCOUNT.blob.core.windows.net")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ValueError("must begin with https://: tokens are sent to it")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or password")
    if parts.query or parts.fragment or "?" in url:
        raise ValueError("must not contain a query: a shared access signature is not supported")
    return url.rstrip("/")


S = TypeVar("S", bound=StorageSettings)


def load_settings(kind: type[S]) -> S:
    """Settings from the environment. Raises `StartupError` that names each wrong variable."""
    # A variable that is empty is not set: templates leave them so.
    given = {
        name: text for name in kind.model_fields if (text := os.environ.get(variable_of(name)))
    }
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        faults = [
            "".join(f"{variable_of(str(name))}: " for name in fault["loc"][:1])
            + fault["msg"].removeprefix("Value error, ")
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise StartupError("settings: " + "; ".join(faults)) from error


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return AZURE.get(name, f"SCORER_{name.upper()}")
