"""The errors of heart-scorer. Only errors that some caller handles differently get a class.

    ScorerError
    +-- BadInput                 the sender's fault; sending it again will not help
    |   +-- RecordRejected       one record, with a rejection for each fault
    |   +-- BadMessage           a queue message that does not name a batch
    |   +-- BadFile              a file that cannot be read as records
    |   |   +-- AnotherCoding    its rows prove that its codes mean something else
    |   +-- InputUnreadable      storage will never hand out this blob (archived, wrong key)
    |   +-- InputChanged         the blob is not the version that the message or the plan names
    |   +-- BatchIdUsed          the batch id belongs to another input
    |   +-- GaveUp               delivered again and again without progress
    +-- InputMissing             the blob is not there (yet)
    +-- StorageError             errors of queue and blobs
    |   +-- StorageUnavailable   429, 5xx, time-out, 401, 403: may pass
    |   |   +-- StorageRefused   another 4xx with the service\'s code
    |   +-- NotFound             no such blob or container
    |   +-- AlreadyExists        a create-only write to a blob that exists
    |   +-- BlocksGone           a commit named blocks that are no longer staged
    |   +-- OwnershipLost        the message belongs to another worker now
    +-- Interrupted              this process was asked to stop
    +-- ModelBroken              the model no longer gives its own golden answers
    +-- StartupError             wrong settings or artifact: exit 3

Messages may be shown to users: they name fields, limits and positions, never a value of a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Code = Literal[
    "missing_required",
    "not_a_number",
    "out_of_range",
    "unknown_value",
    "unknown_field",
    "duplicate_field",
    "wrong_field_count",
    "too_long",
    "not_text",
    "malformed",
    "model_error",
]
CODES: tuple[Code, ...] = get_args(Code)
"""Why a record may be rejected. Block names count them in this order: append only."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """Why a record has no score. Never holds a value of the record."""

    code: Code
    field: str | None = None
    limit: str = ""
    unit: str = ""
    hint: str = ""
    coding: str | None = None

    def __str__(self) -> str:
        match self.code:
            case "missing_required":
                text = f"{self.field} is required"
            case "not_a_number":
                text = f"{self.field} must be a number from {self.limit}"
            case "out_of_range":
                text = f"{self.field} must be from {self.limit}"
            case "unknown_value":
                text = f"{self.field} must be one of {self.limit}"
            case "unknown_field":
                text = f"{self.field} is not a field"
            case "duplicate_field":
                text = f"{self.field} appears more than once"
            case "too_long":
                text = f"{self.field or 'the row'} is longer than {self.limit}"
            case "not_text":
                text = f"{self.field} must be text of printable characters"
            case "wrong_field_count":
                text = f"the row must have {self.limit}"
            case "malformed":
                text = self.limit
            case "model_error":
                text = "the model has no answer for this record"
        return f"{self.code}: {text}" + (f" ({self.hint})" if self.hint else "")


class ScorerError(Exception):
    """Root of all errors that this product raises on purpose."""

    @property
    def reason(self) -> str:
        """A sentence for the user that says what happened."""
        return str(self)


class BadInput(ScorerError):
    """The sender's fault; the same input will fail again."""


class RecordRejected(BadInput):
    """One record with faults; `rejections` has an entry for each."""

    def __init__(self, rejections: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(str(rejection) for rejection in rejections))
        self.rejections = rejections


class BadMessage(BadInput):
    """A queue message that does not name a batch."""


class BadFile(BadInput):
    """A file that cannot be read as records."""


class AnotherCoding(BadFile):
    """Rows prove that the file's codes mean something else than the model's."""


class InputUnreadable(BadInput):
    """Storage will never hand out this blob: archived, encrypted by another key, …"""


class InputChanged(BadInput):
    """The blob is not the version that the message names or the batch was begun with."""


class BatchIdUsed(BadInput):
    """The batch id already belongs to another input."""


class GaveUp(BadInput):
    """Delivered again and again without progress."""


class InputMissing(ScorerError):
    """The blob that the message names is not there (yet)."""


class StorageError(ScorerError):
    """An error of queue or blobs."""


class StorageUnavailable(StorageError):
    """Storage did not answer, is busy, or does not permit the call yet. May pass by itself."""

    def __init__(
        self,
        reason: str,
        retry_after: float | None = None,
        why: Literal["busy", "no_answer", "not_signed_in", "not_permitted"] = "busy",
    ) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        """Seconds that the service asks callers to wait, if it said so."""
        self.why = why
        """The cause, for people; the apps treat all of these as passing."""

    @property
    def not_authorised(self) -> bool:
        """Whether storage does not know the caller, or does not permit what was asked."""
        return self.why in ("not_signed_in", "not_permitted")


class StorageRefused(StorageUnavailable):
    """The service refuses this call with a code of its own, and may do so again."""


class NotFound(StorageError):
    """No such blob, container or queue."""


class AlreadyExists(StorageError):
    """The blob of a create-only write exists. It may be our own earlier write: check."""


class BlocksGone(StorageError):
    """A commit named blocks that are no longer staged: someone else committed. Check."""


class OwnershipLost(StorageError):
    """The message was handed to another worker, or is gone."""


class Interrupted(ScorerError):
    """This process was asked to stop; the work goes back to the queue."""


class ModelBroken(ScorerError):
    """The model no longer gives its own golden answers; this process must end."""


class StartupError(ScorerError):
    """Wrong settings or artifact. The process says so in one line and exits with 3."""
