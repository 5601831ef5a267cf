from __future__ import annotations

from dataclasses import fields, replace

from appliance.config import Config, Database, Pool
from appliance.supervisor.reload import AT_ONCE, SHARED, SUPERVISOR_ONLY, changes


def test_nothing_changed():
    found = changes(Config(path="/a"), Config(path="/b"))
    assert (found.at_once, found.with_next_encoders, found.after_restart) == ((), (), ())


def test_names_are_told_and_values_are_not():
    found = changes(Config(), Config(database=Database(dsn="postgresql://u:secret@h/d")))
    assert found.changed == found.with_next_encoders == found.after_restart == ("database.dsn",)
    assert "secret" not in repr(found)


def test_the_drain_budget_concerns_supervisor_and_encoders():
    found = changes(Config(), Config(pool=replace(Pool(), drain_seconds=5.0, silent_seconds=5.0)))
    assert found.at_once == ("pool.drain_seconds", "pool.silent_seconds")
    assert found.with_next_encoders == ("pool.drain_seconds",)


def test_the_sections_are_those_of_the_file():
    assert {field.name for field in fields(Config)} >= AT_ONCE | SHARED | SUPERVISOR_ONLY
