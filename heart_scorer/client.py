"""A client of a heart-scorer API, for notebooks and scripts.

This file needs httpx and no other file of this project, so it may be copied.

Every call may be repeated without harm: scores are computed and forgotten, and an upload carries an
Idempotency-Key. So each call is repeated when the network fails or the API is busy.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import quote

import httpx

BUSY = frozenset({429, 502, 503, 504})
"""Statuses after which the same request may succeed."""
POLL_SECONDS = 2.0

T = TypeVar("T")
Json = dict[str, Any]


class ApiError(Exception):
    """The API did not do what it was asked; the text says why.

        ApiError
        +-- NotAuthorised   401: the API key is missing or wrong
        +-- NotFound        404: no such batch
        +-- Conflict        409: the batch is not finished, has no scores, or cannot be cancelled
        +-- Rejected        422: a record or a parameter is invalid; see `errors`
        +-- Unavailable     429, 502, 503, 504: busy or down, also after the retries

    Failures of the network are `httpx.TransportError`.
    """

    def __init__(self, response: httpx.Response) -> None:
        problem = _problem(response)
        super().__init__(problem.get("error") or f"the server answered {response.status_code}")
        self.status = response.status_code
        self.code: str | None = problem.get("code")
        """The kind of problem; the API explains each under /problems."""
        self.errors: list[Json] = problem.get("errors", [])
        """One entry for each fault of the request: pointer, code, detail, field, limit, hint."""
        self.request_id = response.headers.get("X-Request-ID")
        seconds = response.headers.get("Retry-After", "")
        self.retry_after = float(seconds) if seconds.isdecimal() else None


class NotAuthorised(ApiError):
    """The API key is missing or wrong."""


class NotFound(ApiError):
    """There is no such batch."""


class Conflict(ApiError):
    """The batch is not finished, has no scores, or cannot be cancelled."""


class Rejected(ApiError):
    """A record or a parameter is invalid; see `errors`."""


class Unavailable(ApiError):
    """The API is busy or down."""


ERRORS: dict[int, type[ApiError]] = {
    401: NotAuthorised,
    404: NotFound,
    409: Conflict,
    422: Rejected,
    **dict.fromkeys(BUSY, Unavailable),
}


class Client:
    """Calls one API. Use it in a `with` statement, or close it."""

    def __init__(
        self, url: str, key: str | None = None, *, timeout: float = 60, attempts: int = 5
    ) -> None:
        headers = {"X-API-Key": key} if key else None
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)
        self._attempts = attempts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(self, record: Mapping[str, Any], *, explain: bool = False) -> Json:
        """The score of one record; NaN counts as missing. Raises `Rejected`."""
        return self._call(
            "POST", "/predict", params={"explain": explain}, json=_without_nan(record)
        )

    def predict_many(
        self, records: Iterable[Mapping[str, Any]], *, coding_checked: bool = False
    ) -> list[Json]:
        """One entry for each record, in order: its score, or the `errors` that rejected it."""
        body = [_without_nan(record) for record in records]
        params = {"coding_checked": coding_checked}
        results: list[Json] = self._call("POST", "/predict/many", params=params, json=body)[
            "results"
        ]
        return results

    def submit(
        self,
        path: str | Path,
        *,
        include_input: bool = False,
        rename: Mapping[str, str] | None = None,
        coding_checked: bool = False,
        idempotency_key: str | None = None,
    ) -> str:
        """Upload a file and return the ID of its batch. The file's extension says its format."""
        params = {
            "include_input": include_input,
            "rename": [f"{name}={field}" for name, field in (rename or {}).items()],
            "coding_checked": coding_checked,
        }
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        with Path(path).open("rb") as file:
            accepted = self._call(
                "POST",
                "/batches",
                params=params,
                headers=headers,
                files={"file": (Path(path).name, file)},
            )
        return str(accepted["batch_id"])

    def batch(self, batch_id: str) -> Json:
        """The state of a batch: `status`, `rows`, and `reason` if it failed."""
        return self._call("GET", _path(batch_id))

    def wait(self, batch_id: str, *, timeout: float | None = None) -> Json:
        """The state of a batch once it has ended. Raises `TimeoutError` after so many seconds."""
        ends = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (batch := self.batch(batch_id))["status"] in ("queued", "running"):
            if time.monotonic() + POLL_SECONDS > ends:
                raise TimeoutError(f"batch {batch_id} is still {batch['status']}")
            time.sleep(POLL_SECONDS)
        return batch

    def scores(self, batch_id: str, path: str | Path) -> Path:
        """Download the scores of a batch to `path`, and go on where the connection breaks.

        Raises `Conflict` if the batch has no scores (yet). The file appears when it is complete.
        """
        target = Path(path)
        part = target.with_name(f"{target.name}.part")
        try:
            with part.open("wb") as file:
                self._download(f"{_path(batch_id)}/scores", file)
            return part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _download(self, path: str, file: BinaryIO) -> None:
        # Not packed: the range counts the bytes of the file.
        headers = {"Accept-Encoding": "identity"}

        def receive() -> None:
            with self._http.stream("GET", path, headers=headers) as response:
                if not response.is_success:
                    response.read()
                    raise _error(response)
                headers["If-Match"] = response.headers["ETag"]
                try:
                    file.writelines(response.iter_bytes())
                finally:
                    headers["Range"] = f"bytes={file.tell()}-"

        self._retry(receive)

    def cancel(self, batch_id: str) -> Json:
        """Cancel a batch that waits or runs. Raises `Conflict` if it has ended."""
        return self._call("DELETE", _path(batch_id))

    def _call(self, method: str, path: str, **options: Any) -> Json:
        def send() -> Json:
            response = self._http.request(method, path, **options)
            if not response.is_success:
                raise _error(response)
            answer: Json = response.json()
            return answer

        return self._retry(send)

    def _retry(self, call: Callable[[], T]) -> T:
        """Call until it succeeds, but not too often."""
        for attempt in range(1, self._attempts):
            try:
                return call()
            except Unavailable as error:
                time.sleep(2 ** (attempt - 1) if error.retry_after is None else error.retry_after)
            except httpx.TransportError:
                time.sleep(2 ** (attempt - 1))
        return call()


def _path(batch_id: str) -> str:
    return f"/batches/{quote(batch_id, safe='')}"


def _without_nan(record: Mapping[str, Any]) -> Json:
    """A record as JSON can carry it: pandas marks missing values with NaN."""
    return {name: None if value != value else value for name, value in record.items()}


def _error(response: httpx.Response) -> ApiError:
    return ERRORS.get(response.status_code, ApiError)(response)


def _problem(response: httpx.Response) -> Json:
    """The body of a problem (RFC 9457); empty if a proxy answered something else."""
    if response.headers.get("Content-Type") != "application/problem+json":
        return {}
    body: Json = response.json()
    return body
