"""Every state within the bound, breadth first, so that the first violation has the shortest story."""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass

from tests.model.invariants import LIVENESS, Label, broken
from tests.model.moves import moves, over
from tests.model.state import World, canonical
from tests.model.statements import Guards


@dataclass(frozen=True)
class Violation:
    """`story`: the labels from the first state to the step that breaks the invariant."""

    invariant: str
    story: tuple[Label, ...]


@dataclass(frozen=True)
class Explored:
    states: int
    steps: int
    deepest: int
    violation: Violation | None


def explore(start: World, *, most_states: int = 10**9, alive: dict[str, Violation | None] | None = None) -> Explored:
    """Stops at the first violation. Liveness is looked at only when the whole bound was seen.

    `alive` is filled with every guard's name, and with the violation that follows at once where it is taken away.
    """
    has = Guards()
    start = canonical(start)
    number, parents, labels, depth = {start: 0}, array("i", [-1]), [()], array("H", [0])
    ended, mending = bytearray([over(start)]), (array("I"), array("I"))
    waiting, steps = deque([start]), 0
    while waiting and len(number) < most_states:
        world = waiting.popleft()
        here = number[world]
        has.mattered.clear()
        for label, cost, after in moves(world, has):
            steps += 1
            if sentence := broken(world, label, after):
                story = (*_story(parents, labels, here), label)
                return Explored(len(number), steps, max(depth), Violation(sentence, story))
            after = canonical(after)
            there = number.setdefault(after, len(number))
            if there == len(parents):
                parents.append(here)
                labels.append(label)
                depth.append(depth[here] + 1)
                ended.append(over(after))
                waiting.append(after)
            if not cost:
                mending[0].append(here)
                mending[1].append(there)
        if alive is not None:
            for name in has.mattered:
                if alive.get(name) is None and (found := _without(world, name)):
                    alive[name] = Violation(found[0], (*_story(parents, labels, here), found[1]))
    if alive is not None:
        alive.update(dict.fromkeys(has.asked - set(alive)))
    lost = _first_lost(mending, ended) if not waiting else -1
    violation = Violation(LIVENESS, _story(parents, labels, lost)) if lost >= 0 else None
    return Explored(len(number), steps, max(depth), violation)


def _without(world: World, guard: str) -> tuple[str, Label] | None:
    """The invariant that breaks with the next step, and that step, when this guard is taken away."""
    steps = ((broken(world, label, after), label) for label, _, after in moves(world, Guards(guard)))
    return next(((sentence, label) for sentence, label in steps if sentence), None)


def _story(parents: array[int], labels: list[Label], state: int) -> tuple[Label, ...]:
    told: list[Label] = []
    while state > 0:
        told.append(labels[state])
        state = parents[state]
    return tuple(reversed(told))


def _first_lost(mending: tuple[array[int], array[int]], ended: bytearray) -> int:
    """The first state from which no fault-free way leads to an end, -1 when there is none."""
    saved, found = bytearray(ended), True
    while found:  # backwards through the steps, most of which lead to a later state
        found = False
        for before, after in zip(reversed(mending[0]), reversed(mending[1]), strict=True):
            if saved[after] and not saved[before]:
                saved[before] = found = True
    return saved.find(0)
