"""Settings, read once from the environment. Each carries its range and says what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import StartupError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class StorageSettings(BaseSettings):
    """Where queue and blobs are, and what every part of the product shares."""

    model_config = SettingsConfigDict(
        env_prefix="SCORER_",
        env_ignore_empty=True,
        use_attribute_docstrings=True,
        populate_by_name=True,
        frozen=True,
    )

    connection_string: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("AZURE_STORAGE_CONNECTION_STRING")
    )
    """Connection string of Azurite or of an account with keys. Not for production."""
    storage_account: str | None = Field(default=None, pattern=r"^[a-z0-9]{3,24}$")
    """Name of the storage account, reached with the managed identity."""
    client_id: str | None = Field(default=None, validation_alias=AliasChoices("AZURE_CLIENT_ID"))
    """Client id of the user-assigned identity, where several are attached."""
    queue: str = Field(default="patient-batches", pattern=r"^[a-z0-9](-?[a-z0-9]){2,55}$")
    """Queue of batches; its poison queue has `-poison` behind the name."""
    model_dir: Path = Path("artifact")
    """Directory of the artifact."""
    model_sha256: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{64}$")
    """SHA-256 that the artifact's manifest must have."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 in the images."""
    health_port: int = Field(default=9090, ge=0, le=65535)
    """Port of metrics (and, in the worker, of health). 0 lets the system choose."""

    @property
    def poison_queue(self) -> str:
        return f"{self.queue}-poison"

    @property
    def has_storage(self) -> bool:
        return self.connection_string is not None or self.storage_account is not None


class ApiSettings(StorageSettings):
    """Settings of the HTTP door."""

    port: int = Field(default=8000, ge=0, le=65535)
    """Port of the API. 0 lets the system choose."""
    api_keys: SecretStr | None = None
    """Keys that open the API, separated by commas, or `none`. Must be set unless on loopback."""

    @model_validator(mode="after")
    def _keys_where_others_can_call(self) -> ApiSettings:
        if self.api_keys is None and self.host not in LOOPBACK:
            raise ValueError(
                f"SCORER_API_KEYS must be set when SCORER_HOST is {self.host}: "
                "keys separated by commas, or `none` to let everyone in"
            )
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys; none when everyone may call."""
        text = self.api_keys.get_secret_value() if self.api_keys else "none"
        if text.strip() == "none":
            return ()
        return tuple(key for part in text.split(",") if (key := part.strip()))


class WorkerSettings(StorageSettings):
    """Settings of the queue door."""

    slots: int = Field(default=4, ge=1, le=32)
    """Messages worked on at once by one worker."""
    visibility_seconds: float = Field(default=60, ge=2, le=3600)
    """How long a message stays hidden from others without a renewal."""
    renew_seconds: float = Field(default=20, ge=0.5, le=1200)
    """How often the visibility of a message in work is renewed; under half of it."""
    idle_seconds: float = Field(default=10, ge=0.1, le=60)
    """Longest wait between two looks at an empty queue."""
    grace_seconds: float = Field(default=25, ge=0, le=600)
    """How long a block in work may take to end after SIGTERM."""
    block_rows: int = Field(default=30_000, ge=1, le=32_767)
    """Most rows scored and staged together."""
    block_bytes: int = Field(default=2 << 20, ge=1 << 10, le=64 << 20)
    """Input bytes after which a block ends."""

    @model_validator(mode="after")
    def _renewals_come_in_time(self) -> WorkerSettings:
        if self.renew_seconds > self.visibility_seconds / 2:
            raise ValueError("SCORER_RENEW_SECONDS must be at most half SCORER_VISIBILITY_SECONDS")
        return self


S = TypeVar("S", bound=StorageSettings)


def load_settings(kind: type[S]) -> S:
    """Settings from the environment. Raises `StartupError` that names each wrong variable."""
    try:
        return kind()
    except ValidationError as error:
        faults = [
            f"{_variable(kind, fault['loc'])}{fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise StartupError("settings: " + "; ".join(faults)) from error


def _variable(kind: type[StorageSettings], place: tuple[int | str, ...]) -> str:
    if not place:
        return ""
    name = str(place[0])
    prefix = "" if name.startswith("AZURE_") else kind.model_config["env_prefix"]
    return f"{prefix}{name.upper()}: "
