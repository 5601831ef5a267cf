"""`bench guards`: every guard of the ownership statements is dropped in turn; exits 0 only when each is missed."""

from __future__ import annotations

import argparse
import json
import sys
import time

from appliance.adapters.postgres.migrate import migrate
from appliance.local.stack import Stack
from tests.adapters.postgres.mutilation import Hunt, Verdict
from tests.adapters.postgres.stage import Admin
from tests.adapters.postgres.terms import guards, ownership_statements

TEMPLATE = "template_of_the_guards"


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench guards", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    begun = time.monotonic()
    verdicts = hunt()
    seconds = round(time.monotonic() - begun, 1)
    survivors = [str(verdict.guard) for verdict in verdicts if not verdict.caught]
    caught = len(verdicts) - len(survivors)
    if arguments.json:
        statements = len({verdict.guard.statement for verdict in verdicts})
        figures = {"statements": statements, "guards": len(verdicts), "caught": caught, "survivors": survivors}
        print(json.dumps({**figures, "seconds": seconds}))
    else:
        for verdict in verdicts:
            print(f"{verdict.guard}\n    {verdict.by or 'SURVIVED'}")
        print(f"{caught} of {len(verdicts)} guards are missed when they are dropped ({seconds} s)")
    return 1 if survivors else 0


def hunt() -> list[Verdict]:
    stack = Stack()
    try:
        stack.postgres.start()
        admin = Admin(stack.postgres.dsn)
        admin(f"CREATE DATABASE {TEMPLATE}")
        admin.connection.close()
        migrate(stack.postgres.database_dsn(TEMPLATE), table="video")
        with Hunt.on(stack.postgres, TEMPLATE) as found:
            statements = ownership_statements().values()
            return [found.try_without(guard) for statement in statements for guard in guards(statement)]
    finally:
        stack.stop()


if __name__ == "__main__":
    sys.exit(main())
