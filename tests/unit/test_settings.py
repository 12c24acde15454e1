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


def test_an_api_that_others_can_reach_must_say_who_may_call(
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


def test_what_was_given_stands_in_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=secret-one")
    monkeypatch.setenv("SCORER_API_KEYS", "secret-two-ä")

    with pytest.raises(StartupError) as caught:
        load_settings(ApiSettings)

    assert "secret" not in "".join(traceback.format_exception(caught.value))
