"""Every guard of the ownership statements is necessary: without it, a scene of the battery fails."""

from __future__ import annotations

import sys

import pytest

from tests.adapters.postgres.mutilation import Hunt
from tests.adapters.postgres.terms import CONDITIONS, guards, ownership_statements, words

STATEMENTS = ownership_statements()


@pytest.fixture(scope="module")
def hunt(stack, _template):
    stack.postgres.start()
    with Hunt.on(stack.postgres, _template) as hunt:
        yield hunt


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_that_lacks_any_of_its_guards_is_caught(hunt: Hunt, name: str) -> None:
    """A survivor is a promise without a scene, or a condition that decides nothing and goes."""
    found = [hunt.try_without(guard) for guard in guards(STATEMENTS[name])]
    sys.stdout.write(f"{name}: {sum(verdict.caught for verdict in found)} of {len(found)} mutants caught\n")
    assert [str(verdict.guard) for verdict in found if not verdict.caught] == []


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_condition_escapes_the_knife(name: str) -> None:
    text = STATEMENTS[name].text
    found = list(words(text))
    opened = [
        index + 1
        for index, word in enumerate(found)
        if word.text in ("AND", "OR") or (word.text in CONDITIONS and found[index + 1].text != "CONFLICT")
    ]
    cut = {guard.start for guard in guards(STATEMENTS[name])}
    assert {found[index].start for index in opened} <= cut


def test_a_term_goes_by_becoming_what_cannot_matter() -> None:
    (statement,) = [found for name, found in STATEMENTS.items() if name == "resubmit"]
    mutants = {guard.term: guard.mutant.text for guard in guards(statement)}
    assert "WHERE TRUE AND status IN ('FAILED', 'READY')" in mutants["id = %(video_id)s"]
    assert "WHERE id = %(video_id)s AND TRUE\n" in mutants["status IN ('FAILED', 'READY')"]
