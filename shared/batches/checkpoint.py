"""The progress of a batch, read from the names of its staged blocks; nothing else records it.

A plan identifies everything that a result's bytes depend on. Each block's name carries the plan,
its sequence, where the next block starts and what happened to its rows, so the list of staged
blocks shows how far a batch has come. Marker blocks record deliveries that began. A name has 64
characters, the longest that storage accepts:

    kind  plan, and the other 53 characters
    e     plan 10, sequence 4, next offset 7, counts 42, all in base 64
    b, x  plan 10, message 12, nonce 12, data blocks seen 5 hex, zeros: begun, or excused
    p     plan 10, zeros: the batch's profile, in a blob of its own
    s     plan 10, sequence 4, worker 12, zeros: a worker began the part with this first block
    t     plan 10, sequence 4, zeros: the file is cut into parts, and has so many blocks

Ignore blocks and markers of other plans (another model, block size or version of this product);
their names may use another layout. (Versions before this one wrote data blocks of the kind `d`.)
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from zlib import ZLIB_RUNTIME_VERSION

from shared.batches.ports import Staged
from shared.files.base import OUTPUT_FORMAT, Limits
from shared.files.formats import FORMATS
from shared.records.counts import Counts
from shared.records.tally import TALLY_FORMAT

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
"""In ASCII order, so that names sort like the numbers in them."""
COUNT_BITS = 15
COUNTS = 15
"""Counts of `COUNT_BITS` each, after the bits of `Counts.marks`."""
_SEQUENCE_DIGITS, _OFFSET_DIGITS, _COUNT_DIGITS = 4, 7, 42


def _to_text(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 64)
        digits.append(DIGITS[digit])
    return "".join(reversed(digits))


def _to_number(text: str) -> int:
    number = 0
    for character in text:
        number = number * 64 + DIGITS.index(character)
    return number


@cache
def _libraries(*formats: object) -> tuple[str, ...]:
    """Versions of the libraries that could change the bytes of a result."""
    own = (facts.library for kind, facts in FORMATS.items() if kind in formats and facts.library)
    return tuple(map(version, ("onnxruntime", "polars", *own)))


def plan_of(identity: Mapping[str, object], kind: str, manifest_sha256: str, limits: Limits) -> str:
    """Ten characters (60 bits of SHA-256) of all that a result's bytes depend on."""
    parts = [
        dict(identity),
        kind,
        manifest_sha256,
        limits.rows,
        limits.size,
        OUTPUT_FORMAT,
        TALLY_FORMAT,
        _libraries(kind, identity.get("output")),
        *((ZLIB_RUNTIME_VERSION,) if identity.get("output") == "xlsx" else ()),
    ]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
    return _to_text(int.from_bytes(digest[:8], "big") >> 4, 10)


@dataclass(frozen=True, slots=True)
class DataBlock:
    """A staged block of scored rows."""

    plan: str
    sequence: int
    """From 0."""
    next_offset: int
    counts: Counts
    size: int = 0
    """Bytes staged; 0 when not known."""

    @property
    def name(self) -> str:
        packed = 0
        for number in self.counts.numbers:
            packed = packed << COUNT_BITS | number
        sequence = _to_text(self.sequence, _SEQUENCE_DIGITS)
        offset = _to_text(self.next_offset, _OFFSET_DIGITS)
        return f"e{self.plan}{sequence}{offset}{_to_text(packed, _COUNT_DIGITS)}"

    @classmethod
    def parse(cls, staged: Staged) -> DataBlock | None:
        """None: the name says something else, or is of a version with other names."""
        name = staged.name
        if len(name) != 64 or name[0] != "e":
            return None
        try:
            sequence, offset, packed = map(_to_number, (name[11:15], name[15:22], name[22:]))
        except ValueError:
            return None
        counts = (packed >> COUNT_BITS * i & (1 << COUNT_BITS) - 1 for i in reversed(range(COUNTS)))
        marks = packed >> COUNT_BITS * COUNTS
        return cls(name[1:11], sequence, offset, Counts.of([marks, *counts]), staged.size)


@dataclass(frozen=True, slots=True)
class Marker:
    """A delivery of a message that began, or ended with an excuse."""

    excused: bool
    plan: str
    message: str
    nonce: str
    blocks: int
    """Data blocks of the plan that existed when it began."""

    @classmethod
    def begin(cls, plan: str, message_id: str, blocks: int) -> Marker:
        return cls(False, plan, _hash_of(message_id), secrets.token_hex(6), blocks)

    def excuse(self) -> Marker:
        return replace(self, excused=True)

    @property
    def name(self) -> str:
        kind = "x" if self.excused else "b"
        return f"{kind}{self.plan}{self.message}{self.nonce}{self.blocks:05x}".ljust(64, "0")

    @classmethod
    def parse(cls, staged: Staged) -> Marker | None:
        """None: the name says something else, or is of a version with other names."""
        name = staged.name
        if len(name) != 64 or name[0] not in "bx":
            return None
        try:
            return cls(name[0] == "x", name[1:11], name[11:23], name[23:35], int(name[35:40], 16))
        except ValueError:
            return None


def profile_block(plan: str) -> str:
    """Name of the one block of a batch's profile."""
    return f"p{plan}".ljust(64, "0")


PART_BLOCKS = 4
"""Blocks of a part: at most 128,000 rows, so that a small batch does not wait for long."""


def part_begun(plan: str, sequence: int, worker: str) -> str:
    """Name of a block that tells people which worker, of 12 characters, has a part."""
    return f"s{plan}{_to_text(sequence, _SEQUENCE_DIGITS)}{worker}".ljust(64, "0")


def file_cut(plan: str, blocks: int) -> str:
    """Name of a block that tells people how many blocks a shared file has."""
    return f"t{plan}{_to_text(blocks, _SEQUENCE_DIGITS)}".ljust(64, "0")


@dataclass(frozen=True, slots=True)
class PartsDone:
    """How far the parts of a shared file have come."""

    done: int
    total: int | None
    """None while the file is still being cut."""
    workers: int
    """Workers that have begun a part which is not done."""

    def __str__(self) -> str:
        done = "" if self.total is None else f"{self.done:,} of "
        whole = self.done if self.total is None else self.total
        return f"{done}{_count(whole, 'part')}, {_count(self.workers, 'worker')}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def read_parts(staged: Iterable[Staged], blocks: Iterable[DataBlock]) -> PartsDone | None:
    """Progress of parts by the names of staged blocks; None: the file is not shared.

    `blocks` are the data blocks of one plan.
    """
    known = {block.sequence: block.plan for block in blocks}
    begun: list[tuple[int, str]] = []
    total: int | None = None
    shared = False
    for name in (entry.name for entry in staged):
        if len(name) != 64 or name[0] not in "st" or (known and name[1:11] not in known.values()):
            continue
        shared = True
        sequence = _to_number(name[11:15])
        if name[0] == "s":
            begun.append((sequence, name[15:27]))
        else:
            total = sequence
    if not shared:
        return None
    whole = {
        first
        for first in range(0, max(known, default=0) + 1, PART_BLOCKS)
        if all(n in known for n in range(first, min(first + PART_BLOCKS, total or 1 << 20)))
    }
    workers = {worker for first, worker in begun if first - first % PART_BLOCKS not in whole}
    return PartsDone(len(whole), total and -(-total // PART_BLOCKS), len(workers))


def _hash_of(message_id: str) -> str:
    return hashlib.sha256(message_id.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress that the staged blocks of one scores file record."""

    done: tuple[DataBlock, ...]
    """The longest gap-free run of our plan's blocks."""
    unexplained: int
    """Deliveries of this message that began, were not excused, and made no progress since."""

    @property
    def offset(self) -> int:
        return self.done[-1].next_offset if self.done else 0


NO_PROGRESS = Progress((), 0)


def read_progress(staged: Iterable[Staged], plan: str, message_id: str) -> Progress:
    """Read the list of staged blocks, in any order."""
    listed = list(staged)
    by_sequence: dict[int, list[DataBlock]] = {}
    for block in data_blocks(listed, plan):
        by_sequence.setdefault(block.sequence, []).append(block)
    done: list[DataBlock] = []
    # Two blocks with one sequence: one of them is wrong, so score it again.
    while len(same := by_sequence.get(len(done), ())) == 1:
        done += same

    ours = plan, _hash_of(message_id)
    markers = [
        marker
        for entry in listed
        if (marker := Marker.parse(entry)) and (marker.plan, marker.message) == ours
    ]
    excused = {marker.nonce for marker in markers if marker.excused}
    begun = [m for m in markers if not m.excused and m.nonce not in excused]
    # Progress since a delivery began excuses it: it was cut short, not stuck.
    stuck = [marker for marker in begun if marker.blocks >= len(done)]
    return Progress(tuple(done), len(stuck))


def data_blocks(staged: Iterable[Staged], plan: str) -> Iterator[DataBlock]:
    """The plan's data blocks, in any order."""
    for entry in staged:
        if (block := DataBlock.parse(entry)) is not None and block.plan == plan:
            yield block


def furthest_blocks(staged: Iterable[Staged]) -> list[DataBlock]:
    """Data blocks of the plan with the most; a new version of the worker starts again."""
    plans: dict[str, dict[int, DataBlock]] = {}
    for entry in staged:
        if (block := DataBlock.parse(entry)) is not None:
            plans.setdefault(block.plan, {})[block.sequence] = block
    return list(max(plans.values(), key=len, default={}).values())
