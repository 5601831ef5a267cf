"""`check`, the doctor: tries everything that the service needs, and says of each what is wrong and what to do."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from appliance.cli import exits, settings, terminal
from appliance.cli.check import fleet, host, services
from appliance.cli.check.finding import DOWN, OK, PROBLEM, WARNING, Finding
from appliance.cli.services import Services
from appliance.config import Config
from appliance.domain.errors import ApplianceError, Unavailable

SIGNS = {OK: "ok", WARNING: "warning", PROBLEM: "PROBLEM", DOWN: "DOWN"}
STYLES = {OK: "green", WARNING: "yellow", PROBLEM: "bold red", DOWN: "bold red"}

Probe = Callable[[], Iterable[Finding]]


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def main(options: argparse.Namespace) -> int:
    """0 nothing is wrong (warnings may be), 1 something is, 69 a dependency does not answer, 78 configuration."""
    found = examine(settings.read(options))
    if options.json:
        terminal.emit({"findings": [asdict(finding) for finding in found]})
    else:
        _tell(found)
    statuses = {finding.status for finding in found}
    return exits.NEGATIVE if PROBLEM in statuses else exits.UNAVAILABLE if DOWN in statuses else exits.DONE


def examine(config: Config) -> list[Finding]:
    """Every finding. All is tried at once, so that the slowest to fail is all the wait, and none hides another."""
    asked = Services(config)
    probes: dict[str, Probe] = {
        "configuration": lambda: host.secrets(config),
        "ffmpeg": lambda: host.ffmpeg(config),
        "sandbox": lambda: host.sandbox(config),
        "scratch": lambda: host.scratch(config),
        "size": lambda: host.size(config),
        "port": lambda: host.port(config),
        "textfile": lambda: host.textfile(config),
        "postgres": lambda: services.postgres(asked),
        "redis": lambda: services.redis(asked),
        "sqs": lambda: services.sqs(asked),
        "s3": lambda: services.streams(asked),
        "s3 sources": lambda: services.sources(asked),
        "ec2": lambda: fleet.ec2(config),
        "autoscaling": lambda: fleet.group(asked),
        "cloudwatch": lambda: services.cloudwatch(asked),
    }
    with ThreadPoolExecutor(len(probes)) as threads:
        answers = [threads.submit(_tried, name, probe) for name, probe in probes.items()]
        return [finding for answer in answers for finding in answer.result()]


def _tried(name: str, probe: Probe) -> list[Finding]:
    try:
        return list(probe()) or [Finding(name, OK, "")]
    except Unavailable as error:
        return [Finding(name, DOWN, error.sentence, error.hint)]
    except ApplianceError as error:
        return [Finding(name, PROBLEM, error.sentence, error.hint)]
    except Exception as error:  # noqa: BLE001 - a mistake of one probe must not hide what the others found
        sentence = f"This could not be checked: {type(error).__name__}: {error}"
        return [Finding(name, PROBLEM, sentence, "Report it with this line; the other lines hold.")]


def _tell(found: list[Finding]) -> None:
    for finding in found:
        line = f"{SIGNS[finding.status]:<8} {finding.about}: {finding.sentence}".rstrip(": ")
        terminal.say(line, style=STYLES[finding.status], hang=9)
        if finding.cure:
            terminal.say(f"         → {finding.cure}", hang=11)
    wrong = sum(finding.status in (PROBLEM, DOWN) for finding in found)
    warnings = sum(finding.status == WARNING for finding in found)
    terminal.say(f"{_number(wrong, 'problem')}, {_number(warnings, 'warning')}")


def _number(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
