"""One delivery of a message, and what is known of it so far."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.batches.checkpoint import Marker
from shared.batches.message import Batch, BlobInput
from shared.batches.ports import Message
from shared.batches.results import scores_name
from shared.files.formats import output_format
from worker.lease import Lease
from worker.policy import DeliveryFacts


@dataclass(slots=True)
class Delivery:
    """One delivery; what it learns is filled in on the way."""

    message: Message
    lease: Lease
    started: datetime
    age: float
    """Seconds between the message's sending and this delivery."""
    prefix: str = ""
    """Where the outcome goes: the batch id, or with the message id when another batch has it."""
    batch: Batch | None = None
    etag: str | None = None
    """The input's version, once it was looked up."""
    marker: Marker | None = None
    """Staged, and neither excused nor dropped by a commit."""
    free_slot: Callable[[], None] = lambda: None
    """To be called once all that is left are a few short calls to storage; again does no harm."""

    @property
    def identity(self) -> dict[str, object]:
        """The input with the options that change its output; `etag` None: not known (yet)."""
        if self.batch is None:
            return {"sha256": hashlib.sha256(self.message.body.encode()).hexdigest()}
        source = self.batch.input
        options = self.batch.options.identity
        if isinstance(source, BlobInput):
            etag = source.etag or self.etag
            return options | {"container": source.container, "blob": source.blob, "etag": etag}
        return options | {"sha256": source.sha256}

    @property
    def scores_blob(self) -> str:
        kind = output_format(self.batch.input.format) if self.batch else "csv"
        return scores_name(self.prefix, kind)

    @property
    def facts(self) -> DeliveryFacts:
        """What the failure policy looks at, as of now."""
        return DeliveryFacts(
            self.message.dequeue_count,
            self.age,
            self.lease.life,
            from_event=self.batch is not None and self.batch.from_event,
            read=self.batch is not None,
        )


def same_identity(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two inputs are the same. An etag that is not known may be any."""
    either = dict(one), dict(other)
    etags = [identity.pop("etag", None) for identity in either]
    return either[0] == either[1] and (None in etags or etags[0] == etags[1])
