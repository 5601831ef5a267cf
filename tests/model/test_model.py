"""Every state of one video within a small bound, and what happens where a guard is missing."""

from __future__ import annotations

import sys

import pytest

from tests.adapters.postgres.terms import guards, ownership_statements
from tests.model.explore import Violation, explore
from tests.model.invariants import INVARIANTS, LIVENESS
from tests.model.state import World, first

#: Two workers and two chunks without messages; one worker with messages.
SMALL = [first(room=0), first(workers=1, chunks=1, room=1)]


@pytest.mark.parametrize("start", SMALL, ids=["two workers and two chunks", "messages"])
def test_no_state_within_the_bound_breaks_an_invariant(start: World) -> None:
    explored = explore(start)
    sys.stdout.write(f"{explored.states} states, {explored.steps} steps, {[*INVARIANTS, LIVENESS]}\n")
    assert explored.violation is None
    assert explored.states > 5_000


def test_where_a_guard_is_missing_an_invariant_breaks() -> None:
    alive: dict[str, Violation | None] = {}
    for start, states in ((first(chunks=1, plans=2, room=0, budget=2), 30_000), (first(chunks=1, budget=2), 6_000)):
        assert explore(start, most_states=states, alive=alive).violation is None
    assert [name for name, violation in alive.items() if violation is None] == []
    assert len(alive) > 60


def test_the_models_guards_are_those_of_the_statements() -> None:
    alive: dict[str, Violation | None] = {}
    explore(first(workers=1, chunks=1, plans=2, budget=1), most_states=3_000, alive=alive)
    known = {str(guard) for statement in ownership_statements().values() for guard in guards(statement)}
    assert set(alive) - known == set()


def test_an_invariant_that_breaks_comes_with_its_story() -> None:
    alive: dict[str, Violation | None] = {}
    explore(first(room=0), most_states=2_000, alive=alive)
    violation = alive["claim_next: status = 'UPLOADED'"]
    assert violation == Violation("a status changes only along a declared edge", (("cancel",), ("claim_next", 0)))
