"""Valid queue messages, and the error for each bad one."""

from __future__ import annotations

import base64
import json
import re

import pytest

from shared.batches.message import (
    BATCH_ID,
    Batch,
    BlobInput,
    Envelope,
    EnvelopeInput,
    EnvelopeOptions,
    Ignored,
    InlineInput,
    UnreadableMessage,
    event_batch_id,
    parse_message,
)
from shared.files.formats import format_of
from shared.files.options import Options
from shared.records.errors import BadMessage
from tests.builders import a_patient, score_file

CONTAINERS = frozenset({"incoming", "uploads"})
ID = "0f3e3a1c-3c0a-4a6e-9b2e-1d2c3b4a5f60"


def parse(body: str | dict[str, object] | list[object]) -> Batch | Ignored:
    text = body if isinstance(body, str) else json.dumps(body)
    plain = parse_message(text, ID, CONTAINERS)
    assert parse_message(base64.b64encode(text.encode()).decode(), ID, CONTAINERS) == plain
    return plain


def batch(body: str | dict[str, object] | list[object]) -> Batch:
    parsed = parse(body)
    assert isinstance(parsed, Batch)
    return parsed


def inline(body: str | dict[str, object] | list[object]) -> InlineInput:
    found = batch(body).input
    assert isinstance(found, InlineInput)
    return found


def blob(body: str | dict[str, object] | list[object]) -> BlobInput:
    found = batch(body).input
    assert isinstance(found, BlobInput)
    return found


def refused(body: str | dict[str, object] | list[object]) -> UnreadableMessage:
    with pytest.raises(UnreadableMessage) as caught:
        parse_message(body if isinstance(body, str) else json.dumps(body), ID, CONTAINERS)
    assert isinstance(caught.value, BadMessage)
    return caught.value


def envelope(**parts: object) -> dict[str, object]:
    return {"schema": "heart-scorer/1", "batch_id": "b-1"} | parts


def named(**parts: object) -> dict[str, object]:
    return envelope(input={"container": "uploads", "blob": "june/patients.csv"} | parts)


def event(**parts: object) -> dict[str, object]:
    """As Event Grid's own schema has it."""
    return {
        "topic": "/subscriptions/1/storageAccounts/a",
        "subject": "/blobServices/default/containers/incoming/blobs/june/patients.csv",
        "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": "2026-01-01T00:00:00Z",
        "id": "e-1",
        "data": {"api": "PutBlob", "eTag": "0x8D4", "url": "https://elsewhere.example/x.csv"},
        "dataVersion": "",
        "metadataVersion": "1",
    } | parts


def cloud_event(**parts: object) -> dict[str, object]:
    """As CloudEvents 1.0 has it."""
    old = event()
    return {
        "specversion": "1.0",
        "type": old["eventType"],
        "source": old["topic"],
        "time": old["eventTime"],
        **{key: old[key] for key in ("id", "subject", "data")},
    } | parts


# Envelope


def test_an_envelope_names_a_blob() -> None:
    found = batch(named(etag='"0x8D4"') | {"options": {"include_input": True}, "replay_of": "b-0"})

    expected = BlobInput("uploads", "june/patients.csv", "0x8D4", "csv", gzip=False)
    options = Options(include_input=True)
    assert found == Batch("b-1", expected, options, chosen_id=True, replay_of="b-0")


def test_what_the_envelope_class_writes_is_read_back() -> None:
    sent = Envelope(batch_id="b-1", input=EnvelopeInput(container="incoming", blob="a.ndjson.gz"))

    assert batch(sent.text()).input == BlobInput(
        "incoming", "a.ndjson.gz", None, "jsonl", gzip=True
    )


def test_a_named_format_overrides_the_extension() -> None:
    assert blob(named(blob="export.dat.gz", format="jsonl")).format == "jsonl"
    assert blob(named(blob="export.dat.gz", format="jsonl")).gzip


def test_an_envelope_may_hold_records_or_csv() -> None:
    records = inline(envelope(records=[a_patient(), a_patient(age=60)]))
    csv = inline(envelope(csv="age,sex\n54,1\n"))

    assert (records.format, records.items) == ("json", (a_patient(), a_patient(age=60)))
    assert (csv.format, csv.content) == ("csv", b"age,sex\n54,1\n")


def test_an_envelope_without_batch_id_has_its_message_id() -> None:
    assert batch({"schema": "heart-scorer/1", "csv": "age,sex\n"}).batch_id == ID


def test_half_a_character_in_inline_csv_is_replaced() -> None:
    assert inline(envelope(csv="age,sex,note\n54,1,\ud800\n")).content.endswith(b"54,1,?\n")


def test_a_traceparent_is_taken_only_if_it_is_well_formed() -> None:
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    assert batch(envelope(csv="x", traceparent=good)).traceparent == good
    assert batch(envelope(csv="x", traceparent=f"{good}\n")).traceparent is None


def test_equal_records_have_equal_hashes_in_any_envelope() -> None:
    first = inline(envelope(records=[a_patient()], traceparent="00-1"))
    second = inline(envelope(records=[a_patient()], traceparent="00-2"))
    other = inline(envelope(records=[a_patient(age=55)]))

    assert first.sha256 == second.sha256 != other.sha256


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (envelope(), "give one of input, records and csv"),
        (envelope(csv="x", records=[]), "give one of input, records and csv"),
        ({"schema": "heart-scorer/2", "csv": "x"}, "schema: Input should be 'heart-scorer/1'"),
        ({"schema": None, "csv": "x"}, "schema: Input should be 'heart-scorer/1'"),
        (envelope(csv="x", colour="red"), "colour: Extra inputs are not permitted"),
        (envelope(csv="x", batch_id="../b"), "batch_id: String should match"),
        (envelope(csv="x", batch_id="b\n"), "batch_id: String should match"),
        (envelope(csv="x", batch_id="b" * 61), "batch_id: String should match"),
        (envelope(csv="x", batch_id="b."), "batch_id: String should match"),
        (envelope(csv="x", batch_id="é"), "batch_id: String should match"),
        (envelope(csv=7), "csv: Input should be a valid string"),
        (envelope(csv="x", replay_of="b/1"), "replay_of: String should match"),
        (envelope(records={"age": 54}), "records: Input should be a valid list"),
        (envelope(input="uploads/x.csv"), "input: Input should be"),
        (envelope(input={"container": "uploads"}), "input.blob: Field required"),
        (
            envelope(csv="x", options={"include_input": "yes"}),
            "options.include_input: Input should",
        ),
        (named(format="xls"), "input.format: Input should be 'csv', 'json'"),
        (named(blob="patients.xls"), "unknown format: the blob's name must end in one of .csv"),
        (named(blob="x" * 1025), "input.blob: String should have at most 1024 characters"),
        (named(container="scores"), "not an input container: incoming and uploads"),
        (named(container="$root"), "not an input container: incoming and uploads"),
        (named(container="incoming/../scores"), "not an input container: incoming and uploads"),
        (named(blob="../scores/b/scores.csv"), "the blob's name is not plain"),
        (named(blob="a/./b.csv"), "the blob's name is not plain"),
        (named(blob="a\\..\\b.csv"), "the blob's name is not plain"),
        (named(blob="a\r\nb.csv"), "the blob's name is not plain"),
        (named(blob="b.csv?sig=x", format="csv"), "the blob's name is not plain"),
        (named(blob="https://evil.example/b.csv"), "the blob's name is not plain"),
    ],
)
def test_a_bad_envelope_is_refused_with_the_position_of_its_fault(
    body: dict[str, object], reason: str
) -> None:
    assert reason in refused(body).reason


def test_duplicate_keys_in_an_envelope_are_refused() -> None:
    twice = '{"schema":"heart-scorer/1","batch_id":"b-1","csv":"x","csv":"y"}'
    inside = (
        '{"schema":"heart-scorer/1","input":{"container":"uploads","blob":"a.csv","blob":"b.csv"}}'
    )

    assert refused(twice).reason == "the envelope is not heart-scorer/1: twice: csv"
    assert refused(inside).reason == "the envelope is not heart-scorer/1: twice: blob"


def test_a_bad_envelope_still_tells_its_batch_id() -> None:
    assert refused(envelope()).batch_id == "b-1"
    assert refused(named(container="scores")).batch_id == "b-1"
    assert refused(named(blob="..")).batch_id == "b-1"
    assert refused(envelope(batch_id="no good")).batch_id is None


def test_no_reason_holds_a_value() -> None:
    secret = "Rumpelstilzchen"
    bodies: list[dict[str, object]] = [
        envelope(csv=[secret]),
        envelope(csv="x", batch_id=f"{secret}!"),
        envelope(records=secret),
        envelope(csv="x", options=secret),
        envelope(csv="x", options={"include_input": secret}),
        envelope(csv="x", schema=secret),
        named(container=secret),
        named(format=secret),
        named(blob=f"{secret}.exe"),
        named(blob=f"../{secret}"),
    ]

    assert all(secret not in refused(body).reason for body in bodies)
    assert secret not in refused('{"age": ' + secret).reason
    assert secret not in refused(secret).reason
    assert secret not in repr(batch([{"age": secret}]))


# Bare records


def test_bare_json_is_a_record_or_an_array_of_records() -> None:
    assert inline(a_patient()).items == (a_patient(),)
    assert inline([a_patient(), 5]).items == (a_patient(), 5)
    assert inline([]).items == ()
    assert batch(f"\ufeff \n{json.dumps(a_patient())}\n").batch_id == ID


def test_a_duplicate_key_in_a_bare_record_rejects_the_record() -> None:
    found = inline('{"age":54,"sex":1,"sex":0}')

    [line] = score_file("json", b"", items=found.items).lines

    assert line["error"] == "duplicate_field: sex appears more than once"


def test_bare_csv_is_scored_as_a_file() -> None:
    for text in ("age,sex\n54,1\n", "\ufeffage;sex\r\n54;1", "\nage,sex\n54,1\n\n"):
        found = inline(text)

        assert found.format == "csv"
        assert score_file("csv", found.content).counts.rows == 1


def test_a_message_as_long_as_the_queue_takes_is_read() -> None:
    rows = "54,1\n" * 9000

    assert inline("age,sex\n" + rows).content.count(b"\n") == 9000


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "neither JSON nor CSV with a header line, plain or base64"),
        (" \n ", "neither JSON nor CSV with a header line, plain or base64"),
        ("hello", "neither JSON nor CSV with a header line, plain or base64"),
        ("lorem ipsum\ndolor sit amet\n" * 200, "neither JSON nor CSV with a header line"),
        ("54", "neither JSON nor CSV with a header line, plain or base64"),
        ("A" * 5001, "neither JSON nor CSV with a header line, plain or base64"),
        (base64.b64encode(bytes(range(256)) * 20).decode(), "base64, but not of UTF-8 text"),
        (base64.b64encode("age,sex\n".encode("utf-16")).decode(), "base64, but not of UTF-8 text"),
        ('{"age": 54', "the message is not JSON: Expecting ',' delimiter at character 10"),
        ('{"age": 54} {"age": 55}', "the message is not JSON: there is more after it"),
        ('{"age": NaN}', "the message is not JSON: NaN is not JSON: use null for missing"),
        ('{"age": ' + "9" * 5000 + "}", "the message is not JSON: a number has too many digits"),
        ("[" * 30_000 + "]" * 30_000, "the message is not JSON: nested too deeply"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "the message is not JSON: nested too deeply"),
        ("age,sex\n54,\ud800\n", "the message is not UTF-8 text"),
    ],
)
def test_a_message_that_holds_nothing_readable_is_refused(body: str, reason: str) -> None:
    assert reason in refused(body).reason


# Event Grid


@pytest.mark.parametrize("schema", [event, cloud_event])
def test_an_event_names_a_blob_in_either_schema_and_alone_or_in_an_array(
    schema: type[dict[str, object]],
) -> None:
    expected = Batch(
        event_batch_id("incoming", "june/patients.csv", "0x8D4"),
        BlobInput("incoming", "june/patients.csv", "0x8D4", "csv", gzip=False),
        from_event=True,
    )

    assert parse(schema()) == expected
    assert parse([schema()]) == expected


def test_an_event_repeated_or_with_a_quoted_etag_is_the_same_batch() -> None:
    first = batch(event())

    assert batch(event(id="e-2", eventTime="2026-01-02T00:00:00Z")) == first
    assert batch(event(data={"eTag": '"0x8D4"'})) == first
    assert batch(event(data={"etag": "0x8D4"})) == first
    assert event_batch_id("incoming", "june/patients.csv", '"0x8D4"') == first.batch_id


def test_each_version_of_a_blob_is_a_batch_of_its_own() -> None:
    assert batch(event()).batch_id != batch(event(data={"eTag": "0x8D5"})).batch_id


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"eventType": "Microsoft.Storage.BlobDeleted"}, "event type"),
        ({"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent"}, "event type"),
        ({"eventType": None}, "event type"),
        ({"subject": "/blobServices/default/containers/scores/blobs/b/scores.csv"}, "container"),
        ({"subject": "/blobServices/default/containers/incoming2/blobs/b.csv"}, "container"),
        ({"subject": "/blobServices/default/containers/incoming"}, "container"),
        ({"subject": None}, "container"),
    ],
)
def test_other_events_are_ignored(parts: dict[str, object], reason: str) -> None:
    assert parse(event(**parts)) == Ignored(reason)
    as_cloud = {"type" if key == "eventType" else key: value for key, value in parts.items()}
    assert parse([cloud_event(**as_cloud)]) == Ignored(reason)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("readme.txt", "unknown format"),
        ("../scores/b.csv", "the blob's name is not plain"),
        ("\ud800.csv", "the blob's name is not plain"),
    ],
)
def test_an_event_about_a_file_we_cannot_read_fails_under_its_own_batch_id(
    name: str, reason: str
) -> None:
    error = refused(event(subject=f"/blobServices/default/containers/incoming/blobs/{name}"))

    assert reason in error.reason
    assert error.batch_id == event_batch_id("incoming", name, "0x8D4")


def test_several_events_in_a_message_are_refused() -> None:
    assert refused([event(), event()]).reason == "a message may hold one event, not several"


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("june/patients.csv", "patients"),
        ("patients.2026-06.csv.gz", "patients.2026-06"),
        ("Ward 7 (neu).JSONL.GZ", "Ward-7--neu"),
        ("x" * 100 + ".csv", "x" * 40),
        ("äöü.csv", ""),
        (".csv", ""),
        ("-.csv", ""),
    ],
)
def test_a_batch_id_from_an_event_begins_with_the_stem(name: str, stem: str) -> None:
    batch_id = event_batch_id("incoming", name, "0x8D4")

    assert re.fullmatch(BATCH_ID, batch_id)
    assert re.fullmatch(re.escape(f"{stem}-" if stem else "") + "[0-9a-f]{12}", batch_id)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", ("csv", False)),
        ("a.CSV.GZ", ("csv", True)),
        ("a.b.json", ("json", False)),
        ("a.jsonl.gz", ("jsonl", True)),
        ("a.ndjson", ("jsonl", False)),
        ("a.gz", (None, True)),
        ("csv", (None, False)),
        ("a.csv/b", (None, False)),
    ],
)
def test_the_extension_determines_the_format(name: str, expected: tuple[str | None, bool]) -> None:
    assert format_of(name) == expected


def test_the_key_that_functions_add_is_ignored_in_records_and_envelopes() -> None:
    added = {"$AzureWebJobsParentId": "00000000-0000-0000-0000-000000000001"}

    record = parse(added | {"age": 54, "sex": 1})
    enveloped = parse(added | envelope(records=[{"age": 54, "sex": 1}]))

    for found in (record, enveloped):
        assert isinstance(found, Batch)
        assert isinstance(found.input, InlineInput)
        assert found.input.items == ({"age": 54, "sex": 1},)


@pytest.mark.parametrize(
    ("body", "fix"),
    [
        (json.dumps(json.dumps({"age": 54, "sex": 1})), "send the inner JSON itself"),
        (
            json.dumps(
                {
                    "specversion": "1.0",
                    "type": "Contoso.Patients.Admitted",
                    "data": {"age": 54, "sex": 1},
                }
            ),
            "send what its `data` holds as the message itself",
        ),
    ],
)
def test_records_in_something_else_are_refused_with_the_fix(body: str, fix: str) -> None:
    with pytest.raises(BadMessage) as caught:
        parse_message(body, "m-1", {"incoming", "uploads"})

    assert fix in caught.value.reason


def test_options_travel_in_the_envelope_and_unused_ones_are_left_out() -> None:
    options = Options(rename={"cp (0-3)": "cp"}, coding_checked=True)
    sent = Envelope(csv="age,sex", options=EnvelopeOptions.of(options)).text()
    plain = Envelope(csv="age,sex", options=EnvelopeOptions.of(Options())).text()

    found = parse_message(sent, "m-1", set())

    assert isinstance(found, Batch)
    assert found.options == options
    assert json.loads(plain)["options"] == {"include_input": False}


@pytest.mark.parametrize(
    "rename", [{"": "cp"}, {"a": "cp", "b": "CP"}, {"a" * 800: "cp", "b" * 800: "ca"}, {"a": 1}]
)
def test_a_mapping_that_cannot_be_used_is_refused(rename: dict[str, object]) -> None:
    with pytest.raises(BadMessage, match=r"options\.rename"):
        parse(envelope(csv="age,sex", options={"rename": rename}))
