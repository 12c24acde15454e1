"""The mutants name functions that exist, so that a renamed one is noticed at once."""

from __future__ import annotations

import pytest

from tests.mutants import MUTANTS, Mutant, find


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.safeguard)
def test_the_function_of_a_mutant_exists(mutant: Mutant) -> None:
    owner, name = find(mutant.function)

    assert callable(getattr(owner, name))
