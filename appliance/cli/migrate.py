"""`migrate`: the schema, made or brought up to date; harmless when repeated and from every host at once."""

from __future__ import annotations

import argparse

from appliance.adapters.postgres import migrate
from appliance.cli import exits, settings, terminal


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def main(options: argparse.Namespace) -> int:
    """Prints the names of the migrations that this run applied."""
    database = settings.read(options).database
    seconds = database.connect_timeout_seconds
    applied = migrate.migrate(database.read_dsn(), table=database.table, connect_timeout_seconds=seconds)
    if options.json:
        terminal.emit({"table": database.table, "applied": applied})
        return exits.DONE
    for name in applied:
        terminal.say(f"applied {name}")
    terminal.say(f"The schema beside the table {database.table} is up to date.")
    return exits.DONE
