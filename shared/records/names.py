"""Compares the names of columns and keys with those of fields.

A name that clearly means a field must not be ignored, or the field would count as missing. Names
are compared by their words, without case, separators, and what brackets hold (units and ranges).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

NAME_LENGTH = 64
"""Longest name of a field; only so much of a longer unknown name is shown."""

SIMILAR = 0.8
"""Share of equal characters from which two names count as the same word, misspelt."""
SHORT = 3
"""Names of so few letters resemble too many others: they match as whole words only."""

_BRACKETS = re.compile(r"\([^)]*\)|\[[^\]]*\]|\{[^}]*\}|<[^>]*>")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")

Words = tuple[str, ...]


def words_of(name: str) -> Words:
    """The words of a name, in lower case: `Max HR (bpm)` and `maxHR` are both max, hr."""
    bare = _BRACKETS.sub(" ", name)
    bare = bare if _WORD.search(bare) else name  # all of it is in brackets
    return tuple(word.lower() for word in _WORD.findall(_CAMEL.sub(" ", bare)))


@dataclass(frozen=True)
class Candidate:
    """A field that an unknown name may mean."""

    name: str
    aliases: tuple[str, ...]
    unlike: tuple[str, ...]
    """Words that show that a column is something else."""
    misspelt: bool = True
    """Whether similar names count, too."""

    @cached_property
    def spellings(self) -> tuple[tuple[Words, str], ...]:
        """Name and aliases: each as words, and as one word."""
        found = (words_of(text) for text in (self.name, *self.aliases))
        return tuple((words, "".join(words)) for words in dict.fromkeys(found) if words)

    def likeness(self, words: Words, joined: str) -> float:
        """From 0 (another thing) to 1 (the same name)."""
        found = 0.0
        for own, own_joined in self.spellings:
            if own_joined in joined:
                found = max(found, _part_likeness(words, joined, own, own_joined))
            elif self.misspelt and any(word[0] == own_joined[0] for word in words):
                parts = {joined, *("".join(part) for part in _parts(words, len(own)))}
                for part in parts:
                    if part[0] == own_joined[0]:
                        found = max(found, _similarity(part, own_joined))
        return found if found and not any(word in self.unlike for word in words) else 0.0


def _part_likeness(words: Words, joined: str, own: Words, own_joined: str) -> float:
    """Share of a column's name that is the name of a field; 0 if too little to mean it."""
    share = len(own_joined) / len(joined)
    if share == 1:
        return 1.0
    if own in _parts(words, len(own)):
        return 0.9 + 0.05 * share
    if len(own_joined) > SHORT and (joined.startswith(own_joined) or len(own) > 1):
        return 0.8 + 0.1 * share
    return 0.0


def _parts(words: Words, size: int) -> Iterable[Words]:
    """All runs of so many words."""
    return (words[i : i + size] for i in range(len(words) - size + 1))


def _similarity(one: str, other: str) -> float:
    """Similarity of two words; 0 if they are too different to mean the same."""
    shorter, longer = sorted((len(one), len(other)))
    if shorter <= SHORT or 2 * shorter < SIMILAR * (shorter + longer):
        return 0.0
    ratio = difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()
    return 0.95 * ratio if ratio >= SIMILAR else 0.0


def best_matches(names: Collection[str], candidates: Sequence[Candidate]) -> dict[str, str]:
    """Names with the candidate that each means; a candidate goes to the name most like it."""
    pairs = sorted(
        (
            (likeness, name, candidate.name)
            for name in dict.fromkeys(names)
            if len(name) <= NAME_LENGTH
            if (words := words_of(name))
            for candidate in candidates
            if (likeness := candidate.likeness(words, "".join(words)))
        ),
        key=lambda pair: -pair[0],
    )
    found: dict[str, str] = {}
    for _, name, candidate in pairs:
        if name not in found and candidate not in found.values():
            found[name] = candidate
    return {name: found[name] for name in names if name in found}


def looks_like_a_name(text: str) -> bool:
    """Whether a column's name may be shown: a file without a header has values in its place."""
    return (
        0 < len(text) <= NAME_LENGTH
        and text.isprintable()
        and not _MARKUP.search(text)
        and any(character.isalpha() for character in text)
        and not _VALUE.fullmatch(text)
    )


_MARKUP = re.compile(r"[{}\"<>]")
_VALUE = re.compile(
    r"[+-]?[0-9.,]+([eE][+-]?[0-9]+)?|nan|na|n/a|null|none|true|false|inf", re.IGNORECASE
)
