"""`heart-scorer drift`: recent batches, compared with training and with earlier batches."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import Exit, duration, say
from cli.status import since_or_exit
from cli.storage import run_with_storage

if TYPE_CHECKING:
    from shared.batches.drift import Drift
    from shared.batches.ports import Account


def drift(
    since: Annotated[str, typer.Option(metavar="AGE", help="Batches of the last 12h, 7d …")] = "7d",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare recent batches with the training data and with the period before.

    Adds up the profiles of all batches that succeeded. Batches of up to 64 KiB have one only if
    they were sent with --profile.

    \b
    Examples:
      heart-scorer drift
      heart-scorer drift --since 24h --json
    """
    begin, now = since_or_exit(since), datetime.now(UTC)
    assert begin is not None  # noqa: S101  # an age was given

    async def work(storage: Account) -> int:
        from shared.batches.drift import read_drift

        found = await read_drift(storage.blobs(), begin, now)
        if found.now is None:
            say(
                f"no batch of the last {since} has a profile; {found.without_profile} have none: "
                "send small batches with --profile"
            )
            return Exit.FAILED
        facts = facts_of(found, duration((now - begin).total_seconds()))
        print(json.dumps(facts, indent=1) if as_json else as_text(facts))
        return Exit.DONE

    raise typer.Exit(run_with_storage(work, hint=True))


def facts_of(found: Drift, period: str) -> dict[str, Any]:
    """The drift as JSON; `period` is its length for people."""
    from shared.batches.differences import differences
    from shared.batches.drift import compared_with

    assert found.now is not None  # noqa: S101  # the caller has checked
    now = found.now.profile()
    from_training = differences(now)
    before = compared = None
    from_before: list[str] = []
    if found.before is not None:
        before = found.before.profile()
        compared = compared_with(now, before)
        from_before = differences(compared, f"in the {period} before")
    return {
        "period": period,
        "model": found.model,
        "batches": found.now.batches,
        "rows": now["rows"],
        "batches_without_profile": found.without_profile,
        "batches_of_other_models": found.other_models,
        "before": {"batches": found.before.batches, "rows": before["rows"]}
        if found.before and before
        else None,
        "fields": {
            field["name"]: _indexes(field, compared and compared["fields"][place])
            for place, field in enumerate(now["fields"])
            if field["used"]
        },
        "scores": _indexes(now["scores"], compared and compared["scores"]),
        "differences": {
            "training": from_training,
            # Sentences that do not depend on the comparison appear once.
            "before": [text for text in from_before if text not in from_training],
        },
    }


def _indexes(part: dict[str, Any], compared: dict[str, Any] | None) -> dict[str, Any]:
    """How far a field is from training, and from the period before."""
    found: dict[str, Any] = {"training": {key: part[key] for key in ("psi", "reading")}}
    found["before"] = compared and {
        "psi": compared["psi"],
        "reading": compared["reading"].replace("training", "before"),
    }
    return found


def as_text(facts: dict[str, Any]) -> str:
    """The drift for people."""
    model, before, period = facts["model"], facts["before"], facts["period"]
    lines = [
        f"model    {model['name']} {model['version']}",
        f"now      {_counted(facts)} in {period}",
        f"before   {_counted(before)} in the {period} before" if before else "before   no batch",
    ]
    if facts["batches_without_profile"]:
        lines.append(f"left out {_batches(facts['batches_without_profile'])} without a profile")
    if facts["batches_of_other_models"]:
        lines.append(f"left out {_batches(facts['batches_of_other_models'])} of other models")
    rows = [("field", "training", "before")]
    for name, one in [*facts["fields"].items(), ("(scores)", facts["scores"])]:
        rows.append((name, _cell(one["training"]), _cell(one["before"])))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines.append("")
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    told = [*facts["differences"]["training"], *facts["differences"]["before"]]
    lines += ["", *(text.replace("`", "") for text in told)] if told else []
    return "\n".join(lines)


def _counted(part: dict[str, Any]) -> str:
    rows = part["rows"]
    scored, rejected = rows["scored"], rows["rejected"]
    return f"{_batches(part['batches'])}, {scored:,} rows scored, {rejected:,} rejected"


def _batches(count: int) -> str:
    return f"{count:,} batch" if count == 1 else f"{count:,} batches"


def _cell(index: dict[str, Any] | None) -> str:
    if index is None:
        return "-"
    return index["reading"] if index["psi"] is None else f"{index['psi']:.2f} {index['reading']}"
