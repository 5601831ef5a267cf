"""`status`: what waits, what runs on this host, and who answers; most useful when something does not."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from appliance.cli import exits, settings, supervisor, terminal
from appliance.cli.services import Services
from appliance.domain.errors import Unavailable


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def main(options: argparse.Namespace) -> int:
    """69 when a dependency does not answer; whatever is known is printed all the same."""
    services = Services(settings.read(options))
    found = look(services)
    if options.json:
        terminal.emit(found)
    else:
        _tell(found)
    up = all(dependency["up"] for dependency in found["dependencies"].values())
    return exits.DONE if up else exits.UNAVAILABLE


def look(services: Services) -> dict[str, Any]:
    """Ask all at once, so that the slowest one to fail is all the wait there is."""
    asked: dict[str, Callable[[], Any]] = {
        "postgres": lambda: asdict(services.reports.backlog()),
        "redis": lambda: {"up_seconds": services.telemetry.up_seconds()},
        "sqs": lambda: asdict(services.doorbell.depth()),
        "s3": services.streams.ping,
    }
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = {name: threads.submit(_ask, question) for name, question in asked.items()}
        service = supervisor.look(services.config.web.port)
        dependencies = {name: answer.result() for name, answer in answers.items()}
    return {"backlog": dependencies["postgres"]["answer"], "dependencies": dependencies, "service": service}


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
    _tell_service(found["service"])


def _dependency(name: str, found: dict[str, Any]) -> tuple[str, str, str]:
    if not found["up"]:
        return name, "down", f"{found['problem']}\n→ {found['hint']}" if found["hint"] else found["problem"]
    counts = found["answer"] if name in ("sqs", "redis") else {}
    about = (f"{key.removesuffix('_seconds')} {_amount(key, value)}" for key, value in counts.items())
    return name, "up", ", ".join(about)


def _amount(name: str, value: float) -> str:
    return terminal.seconds(value) if name.endswith("_seconds") else str(value)


def _tell_service(service: dict[str, Any] | None) -> None:
    if service is None:
        terminal.say("No supervisor answers on this host. `systemctl status video-appliance` says why.")
        return
    terminal.table(*supervisor.encoders(service))
    for sentence in supervisor.worries(service):
        terminal.say(f"! {sentence}", style="bold red", hang=2)
