"""Adapters that run a test's hook before and after each call of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

from shared.batches.ports import Account, Blobs, BlobStore, Queue

Call = Literal[
    "receive", "renew", "delete", "send", "peek", "length", "poison",
    "facts", "read", "chunks", "stage", "mark", "staged", "commit", "summary", "body",
    "claim", "discard", "stage_counts", "commit_counts", "stage_profile", "commit_profile",
    "parts", "listing",
]  # fmt: skip
"""Steps of the worker; `stage` is a data block, `mark` a marker, `body` a large poison's body;
`commit` is what makes a result appear. Counts and profile are blobs of their own. `parts` receives
parts of a large file; `listing` reads the names in a container."""


When = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Moment:
    """Before a call reaches storage, or after it took effect and before the worker knows."""

    when: When
    call: Call
    args: tuple[Any, ...]


Hook = Callable[[Moment], Awaitable[None]]
"""May raise, wait, or end the process."""
FOR_EVER = 1e5
"""Seconds: longer than any test in virtual time."""


class Hang:
    """A hook: from this moment on a worker never returns from any call."""

    def __init__(self, call: Call, when: When = "before") -> None:
        self._call = call
        self._when = when
        self._begun = asyncio.Event()

    async def __call__(self, moment: Moment) -> None:
        if self._begun.is_set() or (moment.call, moment.when) == (self._call, self._when):
            self._begun.set()
            await asyncio.sleep(FOR_EVER)

    async def begun(self, seconds: float = 3600) -> None:
        """Wait until the worker hangs."""
        await asyncio.wait_for(self._begun.wait(), seconds)


def faulty_queue(inner: Queue, hook: Hook, *, poison: bool = False, parts: bool = False) -> Queue:
    return cast("Queue", _Faulty(inner, hook, poison=poison, parts=parts))


def faulty_blobs(inner: Blobs, hook: Hook) -> Blobs:
    return cast("Blobs", _Faulty(inner, hook))


NOTES = frozenset({"listing", "overwrite", "remove"})
"""Calls that no promise depends on; no hook runs there."""


class FaultyAccount:
    """An account whose every call runs the hook."""

    def __init__(self, inner: Account, hook: Hook) -> None:
        self._inner = inner
        self._hook = hook

    def queue(self, name: str) -> Queue:
        return faulty_queue(
            self._inner.queue(name),
            self._hook,
            poison=name.endswith("-poison"),
            parts=name.endswith("-parts"),
        )

    def blobs(self) -> BlobStore:
        return cast("BlobStore", faulty_blobs(self._inner.blobs(), self._hook))


class _Faulty:
    def __init__(
        self, inner: Queue | Blobs, hook: Hook, *, poison: bool = False, parts: bool = False
    ) -> None:
        self._inner = inner
        self._hook = hook
        self._poison = poison
        self._parts = parts

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name in NOTES:
            return getattr(self._inner, name)  # type: ignore[no-any-return]

        async def call(*args: Any) -> Any:
            label = self._label(name, args)
            await self._hook(Moment("before", label, args))
            try:
                return await getattr(self._inner, name)(*args)
            finally:
                # A refusal is an answer too, and may be lost like any other.
                await self._hook(Moment("after", label, args))

        return call

    async def chunks(self, *args: Any) -> AsyncIterator[bytes]:
        inner = cast("Blobs", self._inner)
        await self._hook(Moment("before", "chunks", args))
        async for chunk in inner.chunks(*args):
            await self._hook(Moment("after", "chunks", (*args[:2], chunk)))
            yield chunk
            await self._hook(Moment("before", "chunks", args))

    def _label(self, name: str, args: tuple[Any, ...]) -> Call:
        if name == "send" and self._poison:
            return "poison"
        if name in ("stage", "commit"):
            last = args[1].rpartition("/")[2]
            if last == "profile.json" or last.startswith("counts-"):
                return cast("Call", f"{name}_{'profile' if last == 'profile.json' else 'counts'}")
        if name == "receive" and self._parts:
            return "parts"
        if name == "stage" and not args[2].startswith("e"):
            return "mark"
        if name == "create" and args:
            last = args[1].rpartition("/")[2]
            # A result of one block is written by one call, which is its commit.
            if last == "claim":
                return "claim"
            return (
                "summary" if last == "summary.json" else "commit" if "scores." in last else "body"
            )
        return cast("Call", name)
