"""What the .sql files declare, against the picture in domain/video.py and the rules for all SQL."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise

import pytest

from appliance.adapters.postgres.statements import REFERENCE, Statement, identifiers, sql_files, statements
from appliance.domain.video import TRANSITIONS, Status

ALL = statements()
SOURCES = [*sql_files(""), *sql_files("schema")]
#: Ways to ask for a time that a test cannot move, or that is not the database's.
OTHER_CLOCKS = (
    r"(?i)clock_timestamp|current_timestamp|statement_timestamp|transaction_timestamp|localtime|pg_catalog\.now"
)


def test_statements_take_exactly_the_edges_of_the_domain() -> None:
    declared = defaultdict(set)
    for statement in ALL.values():
        for edge in statement.edges:
            declared[edge].add(statement.name)
    assert dict(declared) == {edge: set(names) for edge, names in TRANSITIONS.items()}


@pytest.mark.parametrize("statement", ALL.values(), ids=lambda statement: statement.name)
def test_a_statement_writes_and_guards_just_the_states_that_its_edges_name(statement: Statement) -> None:
    assigned = " ".join(re.findall(r"(?:SET|VALUES[^;]*?)\s+status = (?:CASE.*?END|'\w+')", statement.text))
    written = {Status(word) for word in re.findall(r"'([A-Z]+)'", assigned)}
    if statement.name != "submit":
        assert written == {after for _, after in statement.edges}
        for before, _ in statement.edges:
            assert f"'{before}'" in statement.text


@pytest.mark.parametrize(
    "name", ["renew", "complete", "fail", "release", "abandon", "adopt", "claim_chunk", "redo", "done", "renew_chunk"]
)
def test_every_write_that_extends_or_ends_ownership_carries_the_token(name: str) -> None:
    assert re.search(r"token = %\((owner_)?token\)s", ALL[name].text)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.name)
def test_f18_the_only_clock_is_the_unqualified_now(file) -> None:
    text = file.read_text()
    assert not re.search(OTHER_CLOCKS, text)
    assert not re.search(r"%\((now|time|timestamp)", text)


@pytest.mark.parametrize("statement", ALL.values(), ids=lambda statement: statement.name)
def test_row_locks_leave_foreign_keys_alone(statement: Statement) -> None:
    assert not re.search(r"FOR UPDATE", statement.text)


def test_every_reference_is_a_known_identifier() -> None:
    known = set(identifiers("video"))
    unknown = {name: set(REFERENCE.findall(statement.text)) - known for name, statement in ALL.items()}
    assert {name: names for name, names in unknown.items() if names} == {}


def test_no_derived_name_adds_more_than_fifteen_characters() -> None:
    table = "t" * 48  # what the configuration allows; PostgreSQL cuts at 63
    assert max(len(name.string) for name in identifiers(table).values()) <= 63


@pytest.mark.parametrize("file", sql_files(""), ids=lambda file: file.name)
def test_every_cte_says_why(file) -> None:
    lines = file.read_text().splitlines()
    for before, line in pairwise(lines):
        if re.match(r"\w+ AS \($", line):
            assert before.startswith("-- "), line


def test_which_statements_write() -> None:
    reading = {name for name, statement in ALL.items() if not statement.writes}
    assert reading == {
        *("look", "find_own", "attempt", "chunk", "done_chunks", "plan", "known_plan", "expired", "processing_page"),
        *("backlog", "video", "attempts", "chunks_of", "recent", "newest", "at_work", "help_wanted", "named_media"),
        *("server", "tables", "columns", "indexes", "lease_indexes", "failures"),
        *("check", "session", "migrate_patience", "migrate_lock", "migrate_record", "migrate_applied"),
    }
