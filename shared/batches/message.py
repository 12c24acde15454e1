"""Read a queue message: which batch it names and where its input is, or why it is ignored.

Text is UTF-8, plain or base64. Four forms are read: our envelope, bare JSON, bare CSV, and Event
Grid's `BlobCreated` in both of its schemas. Container and blob are taken by name and compared with
the input containers; a URL in a message is never fetched.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from shared.files.base import SEPARATORS
from shared.files.formats import FORMATS, NAMES, Format, format_of
from shared.files.options import SHEET_LENGTH, Options, OutputFormat, check_rename
from shared.records.errors import BadMessage
from shared.records.schema import printable
from shared.records.strict_json import DuplicateKeys, parse_json
from shared.trace import TRACEPARENT

SCHEMA = "heart-scorer/1"
BATCH_ID = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,58}[A-Za-z0-9])?$"


FUNCTIONS_PARENT = "$AzureWebJobsParentId"
"""A key that .NET Functions add to each object they put into a queue."""

_AROUND = "\ufeff \t\r\n"
_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]+=*")
_LONE = re.compile("[\ud800-\udfff]")
_SUBJECT = re.compile(r"/blobServices/default/containers/([^/]+)/blobs/(.+)", re.DOTALL)
# An address or its signature, a Windows path, control characters but the tab, what is not UTF-8.
_NOT_PLAIN = re.compile("://|[?&]sig=|[\\\\\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_TEMPORARY = re.compile(r"~\$.*|\..*|.*\.(tmp|part|partial|crdownload)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class BlobInput:
    """Records in a blob."""

    container: str
    blob: str
    etag: str | None
    """The version that is meant, without quotes; None: the current one."""
    format: Format
    gzip: bool


@dataclass(frozen=True, slots=True, repr=False)
class InlineInput:
    """Records in the message itself."""

    format: Format
    content: bytes
    items: tuple[object, ...] | None
    """JSON records, parsed already."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True, repr=False)
class Batch:
    """Records that came together: one batch id, one outcome."""

    batch_id: str
    input: BlobInput | InlineInput
    options: Options = field(default_factory=Options)
    chosen_id: bool = False
    """Whether the sender chose the batch id; otherwise it is unique by itself."""
    from_event: bool = False
    traceparent: str | None = None
    replay_of: str | None = None

    def __repr__(self) -> str:
        return f"Batch({self.batch_id!r})"


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event to ignore; there is no batch."""

    reason: str


class UnreadableMessage(BadMessage):
    """A bad message, with the batch id it was meant for, if that could be read."""

    def __init__(
        self, reason: str, batch_id: str | None = None, *, from_event: bool = False
    ) -> None:
        super().__init__(reason)
        self.batch_id = batch_id
        self.from_event = from_event


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


class EnvelopeInput(_Strict):
    """The member `input`: the blob of the records."""

    container: str
    blob: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    etag: str | None = None
    format: Format | None = None


class EnvelopeOptions(_Strict):
    """The member `options`."""

    include_input: bool = False
    rename: Annotated[dict[str, str], AfterValidator(check_rename)] | None = Field(
        default=None, repr=False
    )
    coding_checked: bool | None = None
    output: OutputFormat | None = None
    profile: bool | None = None
    sheet: Annotated[str, StringConstraints(max_length=SHEET_LENGTH)] | None = Field(
        default=None, repr=False
    )

    @classmethod
    def of(cls, options: Options) -> EnvelopeOptions:
        """Options as they travel; those not used are left out, for workers of older versions."""
        return cls(
            include_input=options.include_input,
            rename=dict(options.rename) or None,
            coding_checked=options.coding_checked or None,
            output=options.output,
            profile=options.profile or None,
            sheet=options.sheet,
        )

    def options(self) -> Options:
        """The reverse of `of`."""
        return Options(
            self.include_input,
            self.rename or {},
            bool(self.coding_checked),
            self.output,
            bool(self.profile),
            self.sheet,
        )


class Envelope(_Strict):
    """Our own message: a batch by name of its blob, or inline as records or CSV text."""

    schema_: Literal["heart-scorer/1"] = Field(default="heart-scorer/1", alias="schema")
    batch_id: Annotated[str, StringConstraints(pattern=BATCH_ID)] | None = None
    input: EnvelopeInput | None = None
    records: list[Any] | None = Field(default=None, repr=False)
    csv: str | None = Field(default=None, repr=False)
    options: EnvelopeOptions = EnvelopeOptions()
    traceparent: str | None = None
    replay_of: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._~-]{1,128}$")] | None = None

    @model_validator(mode="after")
    def _one_input(self) -> Envelope:
        given = [self.input, self.records, self.csv]
        if sum(part is not None for part in given) != 1:
            raise ValueError("give one of input, records and csv")
        return self

    def text(self) -> str:
        """The message as it is sent."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


def parse_message(body: str, message_id: str, containers: Collection[str]) -> Batch | Ignored:
    """Read a message. Raises `UnreadableMessage`, whose text never holds a value."""
    text = _decode(body)
    _refuse_quoted_json(text)
    if not text.startswith(("{", "[")):
        if not any(separator in text for separator in SEPARATORS):
            raise UnreadableMessage(
                "the message is neither JSON nor CSV with a header line, plain or base64"
            )
        return Batch(message_id, InlineInput("csv", text.encode(), None))
    try:
        value = parse_json(text)
    except ValueError as error:
        raise UnreadableMessage(f"the message is not JSON: {error}") from error
    if isinstance(value, dict):
        value.pop(FUNCTIONS_PARENT, None)
    items = tuple(value) if isinstance(value, list) else (value,)
    events = [item for item in items if isinstance(item, dict) and _is_event(item)]
    if events:
        if len(items) > 1:
            raise UnreadableMessage("a message may hold one event, not several")
        return _read_event(events[0], containers)
    if isinstance(value, dict) and "schema" in value:
        return _read_envelope(value, message_id, containers)
    return Batch(message_id, InlineInput("json", text.encode(), items))


def _refuse_quoted_json(text: str) -> None:
    """Raise `UnreadableMessage` for JSON that was encoded twice."""
    if text.startswith('"'):
        with suppress(ValueError):  # CSV may begin with a quote, too
            inner = parse_json(text)
            if isinstance(inner, str) and inner.lstrip(_AROUND).startswith(("{", "[")):
                raise UnreadableMessage(
                    "the message is JSON text inside a JSON string: it was encoded twice, "
                    "send the inner JSON itself"
                )


def _decode(body: str) -> str:
    text = body.strip(_AROUND)
    if _BASE64.fullmatch(text):
        # Text that only looks like base64 stays as it is and fails later, for another reason.
        with suppress(binascii.Error):
            return _decode_utf8(base64.b64decode("".join(text.split()), validate=True))
    if _LONE.search(text):
        raise UnreadableMessage("the message is not UTF-8 text")
    return text


def _decode_utf8(content: bytes) -> str:
    try:
        return content.decode().strip(_AROUND)
    except UnicodeDecodeError as error:
        raise UnreadableMessage("the message is base64, but not of UTF-8 text") from error


def _read_envelope(value: dict[str, Any], message_id: str, containers: Collection[str]) -> Batch:
    named = value.get("batch_id")
    batch_id = named if isinstance(named, str) and re.fullmatch(BATCH_ID, named) else None
    for part in (value, value.get("input"), value.get("options")):
        if isinstance(part, DuplicateKeys):
            names = ", ".join(map(printable, part.names))
            raise UnreadableMessage(f"the envelope is not {SCHEMA}: twice: {names}", batch_id)
    try:
        envelope = Envelope.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(printable(str(part)) for part in fault["loc"]) or "envelope"
        raise UnreadableMessage(
            f"the envelope is not {SCHEMA}: {where}: {fault['msg']}", batch_id
        ) from error
    return Batch(
        envelope.batch_id or message_id,
        _envelope_input(envelope, value, batch_id, containers),
        options=envelope.options.options(),
        chosen_id=envelope.batch_id is not None,
        # W3C Trace Context requires that a malformed one is ignored.
        traceparent=envelope.traceparent
        if TRACEPARENT.fullmatch(envelope.traceparent or "")
        else None,
        replay_of=envelope.replay_of,
    )


def _envelope_input(
    envelope: Envelope, value: dict[str, Any], batch_id: str | None, containers: Collection[str]
) -> BlobInput | InlineInput:
    if envelope.csv is not None:
        return InlineInput("csv", envelope.csv.encode(errors="replace"), None)
    if envelope.input is None:
        # The value as parsed: its items still know their duplicate keys.
        items = tuple(value["records"])
        return InlineInput("json", json.dumps(items, sort_keys=True).encode(), items)
    asked = envelope.input
    if asked.container not in containers:
        allowed = " and ".join(sorted(containers))
        raise UnreadableMessage(f"the container is not an input container: {allowed}", batch_id)
    return _blob_input(asked.container, asked.blob, asked.etag, asked.format, batch_id)


def _is_event(value: dict[str, Any]) -> bool:
    """Whether this is an event of Event Grid's own schema, or a CloudEvent."""
    return "eventType" in value or "specversion" in value


def _read_event(event: dict[str, Any], containers: Collection[str]) -> Batch | Ignored:
    event_type = event.get("eventType", event.get("type"))
    if event_type != "Microsoft.Storage.BlobCreated":
        is_foreign = isinstance(event_type, str) and not event_type.startswith("Microsoft.")
        if is_foreign and isinstance(event.get("data"), dict | list):
            raise UnreadableMessage(
                "this is an event that carries data of its own, and only events of blobs are "
                "read: send what its `data` holds as the message itself"
            )
        return Ignored("event type")
    named = _SUBJECT.fullmatch(str(event.get("subject")))
    if named is None or named[1] not in containers:
        return Ignored("container")
    container, blob = named.groups()
    data = event.get("data")
    data = data if isinstance(data, dict) else {}
    if (reason := _reason_to_ignore(blob, data)) is not None:
        return Ignored(reason)
    etag = data.get("eTag", data.get("etag"))
    etag = bare_etag(etag) if isinstance(etag, str) else None
    batch_id = event_batch_id(container, blob, etag or "")
    try:
        return Batch(batch_id, _blob_input(container, blob, etag, None, None), from_event=True)
    except UnreadableMessage as error:
        raise UnreadableMessage(error.reason, batch_id, from_event=True) from error


def _reason_to_ignore(blob: str, data: dict[str, Any]) -> str | None:
    """Why a blob that was created is not a file of records; None if it may be one."""
    name = blob.rpartition("/")[2]
    if not name or "." not in name:
        return "no file"  # a folder, or a marker such as _SUCCESS
    if _TEMPORARY.fullmatch(name):
        return "temporary file"
    # An append blob is created empty and filled later, of which there is no event.
    if data.get("contentLength") == 0 and data.get("blobType") != "AppendBlob":
        return "empty file"
    return None


def at_version(batch: Batch, etag: str) -> Batch:
    """The batch of an event, for the version of the blob that is there now."""
    source = batch.input
    if not batch.from_event or not isinstance(source, BlobInput):
        return batch
    batch_id = event_batch_id(source.container, source.blob, etag)
    return replace(batch, batch_id=batch_id, input=replace(source, etag=etag))


def event_batch_id(container: str, blob: str, etag: str) -> str:
    """One batch for each version of a blob, however often its event comes."""
    identity = f"{container}\n{blob}\n{bare_etag(etag)}".encode(errors="replace")
    digest = hashlib.sha256(identity).hexdigest()[:12]
    stem = re.sub(r"\.gz$", "", blob.rsplit("/", 1)[-1], flags=re.IGNORECASE).rsplit(".", 1)[0]
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", stem)[:40].strip("._-")
    return f"{stem}-{digest}" if stem else digest


def bare_etag(etag: str) -> str:
    """Without surrounding quotes: services and SDKs disagree about them."""
    return etag.strip().removeprefix("W/").strip('"')


def _blob_input(
    container: str, blob: str, etag: str | None, asked: Format | None, batch_id: str | None
) -> BlobInput:
    if any(part in (".", "..") for part in blob.split("/")) or _NOT_PLAIN.search(blob):
        raise UnreadableMessage(
            "the blob's name is not plain: give the name alone, without address, query or `..`",
            batch_id,
        )
    by_name, gzip = format_of(blob)
    format_ = asked or by_name
    if format_ is None:
        raise UnreadableMessage(f"unknown format: the blob's name must end in {NAMES}", batch_id)
    if gzip and FORMATS[format_].packed:
        raise UnreadableMessage(f"{format_} is packed already: send it without gzip", batch_id)
    return BlobInput(container, blob, bare_etag(etag) if etag else None, format_, gzip)
