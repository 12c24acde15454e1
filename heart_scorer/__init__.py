"""The Python client of a heart-scorer API: `from heart_scorer import Client`."""

from heart_scorer.client import (
    ApiError,
    Client,
    Conflict,
    NotAuthorised,
    NotFound,
    Rejected,
    Unavailable,
)

__all__ = [
    "ApiError",
    "Client",
    "Conflict",
    "NotAuthorised",
    "NotFound",
    "Rejected",
    "Unavailable",
]
