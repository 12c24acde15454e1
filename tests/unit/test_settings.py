"""Settings come from the environment, and wrong ones are named."""

from __future__ import annotations

import traceback

import pytest

from shared.records.errors import StartupError
from shared.settings import ApiSettings, StorageSettings, WorkerSettings, load_settings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith(("SCORER_", "AZURE_")):
            monkeypatch.delenv(name)


def test_without_an_environment_all_have_their_defaults() -> None:
    settings = load_settings(WorkerSettings)

    assert (settings.queue, settings.poison_queue) == ("patient-batches", "patient-batches-poison")
    assert (settings.slots, settings.visibility_seconds, settings.renew_seconds) == (4, 60, 20)
    assert not settings.has_storage


def test_every_wrong_variable_is_named_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCORER_SLOTS", "zzz-many")
    monkeypatch.setenv("SCORER_BLOCK_ROWS", "40000")

    with pytest.raises(StartupError) as caught:
        load_settings(WorkerSettings)

    assert "SCORER_SLOTS: " in caught.value.reason
    assert "SCORER_BLOCK_ROWS: " in caught.value.reason
    assert "zzz" not in caught.value.reason


def test_renewals_must_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_RENEW_SECONDS", "31")

    with pytest.raises(StartupError, match="SCORER_RENEW_SECONDS must be at most half"):
        load_settings(WorkerSettings)


def test_an_api_that_others_can_reach_requires_keys_or_an_explicit_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCORER_HOST", "0.0.0.0")  # noqa: S104  # the case in question

    with pytest.raises(StartupError, match="SCORER_API_KEYS must be set"):
        load_settings(ApiSettings)
    monkeypatch.setenv("SCORER_API_KEYS", "none")

    assert load_settings(ApiSettings).keys == ()


def test_keys_are_split_and_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_API_KEYS", "first-key, second-key")

    settings = load_settings(ApiSettings)

    assert settings.keys == ("first-key", "second-key")
    assert "first-key" not in repr(settings)


def test_a_connection_string_is_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=secret")

    settings = load_settings(StorageSettings)

    assert settings.has_storage
    assert "secret" not in repr(settings)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_SLOTS", "")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "")

    settings = load_settings(WorkerSettings)

    assert settings.slots == 4
    assert not settings.has_storage


def test_no_traceback_holds_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=secret-one")
    monkeypatch.setenv("SCORER_API_KEYS", "secret-two-ä")

    with pytest.raises(StartupError) as caught:
        load_settings(ApiSettings)

    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_endpoints_override_the_account_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_STORAGE_ACCOUNT", "hearts")
    short = load_settings(StorageSettings).endpoints
    monkeypatch.setenv("SCORER_BLOB_ENDPOINT", "https://hearts.blob.core.usgovcloudapi.net/")
    monkeypatch.setenv("SCORER_QUEUE_ENDPOINT", "https://hearts.queue.core.usgovcloudapi.net/")

    settings = load_settings(StorageSettings)

    assert short == (
        "https://hearts.blob.core.windows.net",
        "https://hearts.queue.core.windows.net",
    )
    assert settings.has_storage
    assert settings.endpoints == (
        "https://hearts.blob.core.usgovcloudapi.net",
        "https://hearts.queue.core.usgovcloudapi.net",
    )


def test_one_endpoint_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_BLOB_ENDPOINT", "https://hearts.blob.core.windows.net")

    with pytest.raises(StartupError, match="both SCORER_BLOB_ENDPOINT and SCORER_QUEUE_ENDPOINT"):
        load_settings(StorageSettings)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://hearts.blob.core.windows.net", "must begin with https://"),
        ("ftp://hearts.blob.core.windows.net", "must be a URL such as"),
        ("hearts", "must be a URL such as"),
        ("https://hearts.example.org:blob", "not a URL"),
        ("https://user:secret@hearts.example.org", "user name or password"),
        ("https://hearts.example.org?sv=1&sig=secret", "must not contain a query"),
    ],
)
def test_an_endpoint_that_is_unsafe_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setenv("SCORER_BLOB_ENDPOINT", url)
    monkeypatch.setenv("SCORER_QUEUE_ENDPOINT", "https://hearts.queue.core.windows.net")

    with pytest.raises(StartupError, match=reason) as caught:
        load_settings(StorageSettings)

    assert "SCORER_BLOB_ENDPOINT" in caught.value.reason
    assert "secret" not in caught.value.reason


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_an_endpoint_on_loopback_may_be_plain_http(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("SCORER_BLOB_ENDPOINT", f"http://{host}:10000/devstoreaccount1")
    monkeypatch.setenv("SCORER_QUEUE_ENDPOINT", f"http://{host}:10001/devstoreaccount1")

    assert load_settings(StorageSettings).endpoints == (
        f"http://{host}:10000/devstoreaccount1",
        f"http://{host}:10001/devstoreaccount1",
    )


def test_blocks_too_small_for_the_largest_upload_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCORER_BLOCK_BYTES", "20000")

    with pytest.raises(StartupError, match="SCORER_BLOCK_BYTES must be at least 21475"):
        load_settings(WorkerSettings)

    monkeypatch.setenv("SCORER_UPLOAD_BYTES", str(20_000 * 50_000))
    assert load_settings(WorkerSettings).block_bytes == 20_000
