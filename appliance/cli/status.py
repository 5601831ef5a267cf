"""`status`: what waits, what runs on this host, and who answers; most useful when something does not."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from appliance.adapters.cloudwatch import CloudWatch
from appliance.cli import exits, settings, supervisor, terminal
from appliance.cli.services import Services
from appliance.domain import fleet
from appliance.domain.errors import Unavailable
from appliance.wiring.host import encoders


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cloudwatch", action="store_true", help="also what CloudWatch holds, beside what it would get"
    )


def main(options: argparse.Namespace) -> int:
    """69 when a dependency does not answer; whatever is known is printed all the same."""
    services = Services(settings.read(options))
    found = look(services, cloudwatch=options.cloudwatch)
    if options.json:
        terminal.emit(found)
    else:
        _tell(found)
    up = all(dependency["up"] for dependency in found["dependencies"].values())
    return exits.DONE if up else exits.UNAVAILABLE


def look(services: Services, *, cloudwatch: bool = False) -> dict[str, Any]:
    """Ask all at once, so that the slowest one to fail is all the wait there is."""
    asked: dict[str, Callable[[], Any]] = {
        "postgres": lambda: asdict(services.reports.backlog()),
        "redis": lambda: {"up_seconds": services.telemetry.up_seconds()},
        "sqs": lambda: asdict(services.doorbell.depth()),
        "s3": services.streams.ping,
    }
    if cloudwatch:
        asked["cloudwatch"] = lambda: _last_points(services)
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = {name: threads.submit(_ask, question) for name, question in asked.items()}
        service = supervisor.look(services.config.web.port)
        dependencies = {name: answer.result() for name, answer in answers.items()}
    found = {"backlog": dependencies["postgres"]["answer"], "dependencies": dependencies, "service": service}
    return {**found, "cloudwatch": _beside(services, dependencies) if cloudwatch else None}


def _last_points(services: Services) -> dict[str, dict[str, Any]]:
    """Metric → value and time of its last minute; without those that nobody published."""
    client = CloudWatch(services.aws("cloudwatch"), services.config.cloudwatch.namespace)
    return {
        name: {"value": points[-1][1], "at": points[-1][0].isoformat()}
        for name, points in client.get(*fleet.METRICS).items()
        if points
    }


def _beside(services: Services, dependencies: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Metric → what CloudWatch holds and what a host would publish now; null where nobody answers."""
    backlog, depth, held = (dependencies[name]["answer"] for name in ("postgres", "sqs", "cloudwatch"))
    period_seconds = services.config.cloudwatch.period_seconds
    failures = _ask(lambda: services.reports.failures(period_seconds))["answer"] if backlog else None
    now = fleet.published(
        backlog["by_status"] if backlog else {},
        assisting=backlog["assisting"] if backlog else 0,
        oldest_due_seconds=backlog["oldest_due_seconds"] if backlog else None,
        failures=failures or 0,
        **(depth or {"visible": 0, "inflight": 0}),
        slots_per_host=encoders(services.config)[0],
    )
    unknown = {name for name in fleet.METRICS if not (depth if name in fleet.OF_THE_QUEUE else failures is not None)}
    return {
        name: {"published": (held or {}).get(name), "now": None if name in unknown else value}
        for name, value in now.items()
    }


def _ask(question: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"up": True, "answer": question(), "problem": "", "hint": ""}
    except Unavailable as error:
        return {"up": False, "answer": None, "problem": error.sentence, "hint": error.hint}


def _tell(found: dict[str, Any]) -> None:
    backlog = found["backlog"]
    if backlog is None:
        terminal.say("The backlog is unknown: PostgreSQL does not answer.", style="bold red")
    else:
        oldest = {"oldest due": terminal.seconds(backlog["oldest_due_seconds"])}
        terminal.facts("backlog", {**backlog["by_status"], **oldest})
    rows = [_dependency(name, answer) for name, answer in found["dependencies"].items()]
    terminal.table("dependencies", ("name", "state", "about"), rows)
    if found["cloudwatch"]:
        columns = ("metric", "published>", "at", "now>")
        terminal.table("CloudWatch", columns, [_compared(*beside) for beside in found["cloudwatch"].items()])
    _tell_service(found["service"])


def _compared(name: str, beside: dict[str, Any]) -> tuple[str, str, str, str]:
    published, now = beside["published"], beside["now"]
    value = "nothing" if published is None else _amount(name, published["value"])
    return name, value, published["at"] if published else "", "unknown" if now is None else _amount(name, now)


def _dependency(name: str, found: dict[str, Any]) -> tuple[str, str, str]:
    if not found["up"]:
        return name, "down", f"{found['problem']}\n→ {found['hint']}" if found["hint"] else found["problem"]
    counts = found["answer"] if name in ("sqs", "redis") else {}
    about = (f"{key.removesuffix('_seconds')} {_amount(key, value)}" for key, value in counts.items())
    return name, "up", ", ".join(about)


def _amount(name: str, value: float) -> str:
    return terminal.seconds(value) if name.endswith("_seconds") else f"{value:.10g}"


def _tell_service(service: dict[str, Any] | None) -> None:
    if service is None:
        terminal.say("No supervisor answers on this host. `systemctl status video-appliance` says why.")
        return
    terminal.table(*supervisor.encoders(service))
    for sentence in supervisor.worries(service):
        terminal.say(f"! {sentence}", style="bold red", hang=2)
