"""One delivery of a message, and the target that its outcome goes to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from shared.batches.message import Batch, BlobInput, UnreadableMessage
from shared.batches.ports import Message
from shared.batches.results import scores_name
from shared.files.formats import output_format
from shared.files.options import OutputFormat
from worker.lease import Lease
from worker.policy import DeliveryFacts


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message in work. All times are by the service's clock."""

    message: Message
    lease: Lease

    @property
    def age(self) -> float:
        """Seconds between the message's sending and this delivery."""
        return max(0.0, (self.message.received - self.message.inserted).total_seconds())

    @property
    def now(self) -> datetime:
        return self.message.received + timedelta(seconds=self.lease.elapsed)

    def facts(self, batch: Batch | None) -> DeliveryFacts:
        """Facts for the failure policy; `batch` is None while the message is unread."""
        return DeliveryFacts(
            self.message.dequeue_count,
            self.age,
            self.lease.life,
            from_event=batch is not None and batch.from_event,
            read=batch is not None,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """The batch id under which a delivery's outcome is written, and the input that it is of."""

    batch_id: str
    identity: Mapping[str, object]
    """The input with the options that change its output; `etag` None means not known (yet)."""
    batch: Batch | None
    """None when the message could not be read."""
    scores_format: OutputFormat = "csv"
    claim: Literal["not needed", "wanted", "held", "a twin's"] = "not needed"
    """Ids that a sender chose are claimed; those derived from a message or an event are unique."""

    from_event: bool = False

    @property
    def scores_blob(self) -> str:
        return scores_name(self.batch_id, self.scores_format)

    @property
    def log_id(self) -> str:
        """The batch id without the name of a dropped file: logs hold no file names."""
        if not self.from_event:
            return self.batch_id
        event_id, tilde, message_id = self.batch_id.partition("~")
        return event_id.rpartition("-")[2] + tilde + message_id

    def with_own_id(self, message_id: str) -> Target:
        """The target of a message whose batch id belongs to another input."""
        own_id = f"{self.batch_id.partition('~')[0]}~{message_id}"
        return replace(self, batch_id=own_id, claim="not needed")


def target_of(batch: Batch, etag: str | None = None) -> Target:
    """The target of a batch; `etag` is of its input blob, once it was looked up."""
    source = batch.input
    identity = batch.options.identity
    if isinstance(source, BlobInput):
        version = source.etag or etag
        identity |= {"container": source.container, "blob": source.blob, "etag": version}
    else:
        identity |= {"sha256": source.sha256}
    claim: Literal["wanted", "not needed"] = "wanted" if batch.chosen_id else "not needed"
    scores_format = output_format(source.format, batch.options)
    return Target(batch.batch_id, identity, batch, scores_format, claim, batch.from_event)


def target_of_unread(message: Message, error: UnreadableMessage | None = None) -> Target:
    """The target of a message that could not be read, whose text may still name a batch id."""
    identity = {"sha256": hashlib.sha256(message.body.encode()).hexdigest()}
    if error is None or error.batch_id is None:
        return Target(message.id, identity, None)
    claim: Literal["wanted", "not needed"] = "not needed" if error.from_event else "wanted"
    return Target(error.batch_id, identity, None, claim=claim, from_event=error.from_event)
