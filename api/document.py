"""What routes say of themselves in the OpenAPI document: bodies, examples, parameters, answers.

Routes read their bodies themselves, so that nothing is checked twice; this is how they are told of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.problems import JSON, KINDS, PROBLEM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.records.artifact import Golden, Manifest

RETRIES = frozenset({409, 503})
"""Statuses that come with Retry-After."""
_RETRY_AFTER = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}


def answers(
    schema: str | None,
    *statuses: int,
    ok: int = 200,
    problem: str = PROBLEM,
    located: bool = False,
) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: its success and the problems that it may answer with."""
    found: dict[int | str, dict[str, Any]] = {}
    if schema is not None:
        found[ok] = {"description": "Done", "content": {JSON: {"schema": ref(schema)}}}
        if located:
            text = {"schema": {"type": "string"}}
            found[ok]["headers"] = {"Location": text, "Operation-Location": text} | _RETRY_AFTER
    for status in statuses:
        titles = dict.fromkeys(kind.title for kind in KINDS.values() if kind.status == status)
        found[status] = {
            "description": "; ".join(titles),
            "content": {problem: {"schema": ref("Problem")}},
        }
        if status in RETRIES:
            found[status]["headers"] = _RETRY_AFTER
    return found


def file_answer(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The success of a route that answers with a file."""
    content = {kind: {"schema": {"type": "string"}} for kind in kinds}
    return {200: {"description": "The file", "content": content}}


def file_body(kinds: Iterable[str]) -> dict[str, Any]:
    """A request body that is a file."""
    text = {"type": "string", "minLength": 1}
    content = {kind: {"schema": {} if kind == JSON else text} for kind in kinds}
    return {"requestBody": {"required": True, "content": content}}


def body(schema: str, examples: dict[str, Any]) -> dict[str, Any]:
    """A request body of JSON."""
    content = {JSON: {"schema": ref(schema), "examples": examples}}
    return {"requestBody": {"required": True, "content": content}}


def path_parameters(path: str, manifest: Manifest) -> list[dict[str, Any]]:
    """The model's name and version, where the path has them."""
    known = {"model": manifest.name, "version": manifest.version}
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "examples": [value]},
        }
        for name, value in known.items()
        if f"{{{name}}}" in path
    ]


def ref(name: str) -> dict[str, str]:
    """A schema of the document, by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def predict_description(manifest: Manifest) -> str:
    """What the score is, and how records are read."""
    return (
        f"{manifest.title}.\n\nCategories may be sent as codes or as words. Leave out, or send "
        "`null` for, what is not known; nothing is ever filled in. A value outside the accepted "
        "range is refused; one outside the range that the model has seen is scored with a warning."
        f"\n\n{manifest.notice}"
    )


def examples(manifest: Manifest) -> dict[str, Any]:
    """Three patients of the manifest: the first, the likeliest ill, and the least known."""
    golden = list(manifest.golden)

    def known(case: Golden) -> int:
        return sum(value is not None for value in case.record.values())

    chosen = {
        "A patient with every field": max(golden, key=known),
        "A patient at high risk": max(golden, key=lambda case: case.probability),
        "A patient of whom little is known": min(golden, key=known),
    }
    return {
        name.lower().replace(" ", "_"): {"summary": name, "value": _plain(case)}
        for name, case in chosen.items()
    }


def many_examples(manifest: Manifest) -> dict[str, Any]:
    """The same three in one array."""
    records = [example["value"] for example in examples(manifest).values()]
    return {"three": {"summary": "Three patients", "value": records}}


def _plain(case: Golden) -> dict[str, Any]:
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in case.record.items()
        if value is not None
    }
