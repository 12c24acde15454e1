"""Parts of a large file: runs of blocks that any worker may score and stage.

A part is a hint. It says where its blocks are and which names they get; all of that follows from
the plan, so a part that is lost, repeated or late changes nothing. The batch's own message decides.
Only workers may send to the queue of parts: they trust each other about where a part begins.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, StringConstraints

from shared.batches.message import Batch, BlobInput, EnvelopeOptions
from shared.batches.ports import BlobFacts
from shared.files.formats import Format

MOST_BLOCKS = 1000
"""Of a part: as many as one message holds, for a large row group of Parquet."""


class PartInput(BaseModel):
    """The version of a blob."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)

    container: str
    blob: str
    etag: str
    format: Format
    size: PositiveInt


class Part(BaseModel):
    """A message of the queue of parts."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    schema_: Literal["heart-scorer/part-1"] = Field(default="heart-scorer/part-1", alias="schema")
    batch_id: str
    from_event: bool = False
    input: PartInput
    options: EnvelopeOptions
    traceparent: str | None = None
    plan: Annotated[str, StringConstraints(min_length=10, max_length=10)]
    sequence: NonNegativeInt
    """Of its first block."""
    start: NonNegativeInt
    """Byte of the input where it begins; in Parquet, row."""
    first_row: PositiveInt
    blocks: list[tuple[PositiveInt, NonNegativeInt]] = Field(min_length=1, max_length=MOST_BLOCKS)
    """Where each block ends and how many rows it has. Blocks of blank lines are left out."""

    @property
    def batch(self) -> Batch:
        """The batch whose rows these are."""
        source = self.input
        return Batch(
            self.batch_id,
            BlobInput(source.container, source.blob, source.etag, source.format, gzip=False),
            self.options.options(),
            from_event=self.from_event,
            traceparent=self.traceparent,
        )

    @property
    def facts(self) -> BlobFacts:
        """Of the input, as far as a part needs them."""
        return BlobFacts(self.input.etag, self.input.size, {})

    @property
    def end(self) -> int:
        """Byte of the input where it ends; in Parquet, row."""
        return self.blocks[-1][0]

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.blocks)

    def text(self) -> str:
        """The message as it is sent."""
        return self.model_dump_json(by_alias=True, exclude_none=True)
