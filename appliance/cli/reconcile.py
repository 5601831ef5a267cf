"""`reconcile`: one pass by hand. Ten of them at once are as harmless as one."""

from __future__ import annotations

import argparse

from appliance.cli import exits, settings, terminal
from appliance.cli.services import Services
from appliance.supervisor.reconcile import Report, reconcile_once
from appliance.wiring.supervisor import rules


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="change nothing, print what would be reclaimed")


def main(options: argparse.Namespace) -> int:
    """The lines are a contract that operators grep. 69 when Redis or SQS did not answer in between."""
    config = settings.read(options)
    services = Services(config)
    report = reconcile_once(
        services.sweeps, services.telemetry, services.doorbell, rules(config), dry_run=options.dry_run
    )
    if options.json:
        terminal.emit(_as_json(report, dry_run=options.dry_run))
    else:
        for line in report.lines:
            terminal.say(line)
    for error in report.errors:
        terminal.complain(error)
    return exits.UNAVAILABLE if report.errors else exits.DONE


def _as_json(report: Report, *, dry_run: bool) -> dict[str, object]:
    counts = {name: getattr(report, name) for name in ("reclaimed", "enqueued", "swept", "by_reason")}
    return {**counts, "dry_run": dry_run, "lines": report.lines, "errors": [error.sentence for error in report.errors]}
