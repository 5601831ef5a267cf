"""`check`, the doctor: tries everything that the service needs, and says of each what is wrong and what to do."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import wait
from dataclasses import asdict, dataclass
from functools import partial

from appliance import config as configuration
from appliance import log
from appliance.adapters import aws, redis
from appliance.adapters.postgres import connection
from appliance.cli import exits, terminal
from appliance.cli.check import database, fleet, host, services
from appliance.cli.check.finding import DOWN, OK, PROBLEM, WARNING, Finding
from appliance.cli.services import Services
from appliance.config import Config
from appliance.domain.errors import ApplianceError, Unavailable
from appliance.domain.refusal import STRANGERS
from appliance.encoder.patience import begun

SIGNS = {OK: "ok", WARNING: "warning", PROBLEM: "PROBLEM", DOWN: "DOWN"}
STYLES = {OK: "green", WARNING: "yellow", PROBLEM: "bold red", DOWN: "bold red"}
#: All the wait there is: what has not answered by then is left to itself, and said to be silent.
ENOUGH_SECONDS = 15.0
VALIDATE = "`video-appliance config validate` checks the file again."

Question = Callable[[], Iterable[Finding]]


@dataclass(frozen=True)
class Probe:
    """Of one thing, question after question: what one of them cannot see does not hide what the next one can.

    `settings`: what it asks with; it is left out where one of them is missing.
    """

    about: str
    ask: tuple[Question, ...]
    settings: tuple[str, ...] = ()

    @property
    def silence(self) -> str:
        """What to look at when it does not answer."""
        between = "at what lies between: routes, security groups, VPC endpoints, proxies"
        return f"Look at {', '.join(self.settings)}, and {between}." if self.settings else "Look at this host's load."


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def main(options: argparse.Namespace) -> int:
    """The gravest finding decides, by its remedy: 78 the file must be edited, 1 something answers and is not as it has
    to be (it will say the same tomorrow), 69 something does not answer (which may pass), 0 nothing or warnings.
    """
    log.configure("error")
    loaded, problems = configuration.inspect(options.config)
    config = loaded.config if loaded else Config()
    missing = configuration.missing(config)
    if loaded:
        problems += [f"{config.path}: {name}: {sentence}" for name, sentence in missing.items()]
    unusable = [Finding("configuration", PROBLEM, problem, VALIDATE) for problem in problems]
    found = unusable + (examine(config, missing) if loaded else answers(of_the_host(config)))
    if options.json:
        terminal.emit({"findings": [asdict(finding) for finding in found]})
    else:
        _tell(found)
    statuses = {finding.status for finding in found}
    if unusable:
        return exits.CONFIGURATION
    return exits.NEGATIVE if PROBLEM in statuses else exits.UNAVAILABLE if DOWN in statuses else exits.DONE


def examine(config: Config, missing: Collection[str] = ()) -> list[Finding]:
    """Every finding; where a setting is missing nothing is asked with it."""
    probes = [probe for probe in outside(config) if not set(probe.settings) & set(missing)]
    return answers([*of_the_host(config), *probes])


def of_the_host(config: Config) -> list[Probe]:
    asked = {
        "configuration": host.secrets,
        "ffmpeg": host.ffmpeg,
        "sandbox": host.sandbox,
        "scratch": host.scratch,
        "size": host.size,
        "port": host.port,
        "textfile": host.textfile,
    }
    return [Probe(about, (partial(question, config),)) for about, question in asked.items()]


def outside(config: Config) -> list[Probe]:
    region = "aws.region"
    asked: dict[str, tuple[tuple[Callable[[Services], Iterable[Finding]], ...], tuple[str, ...]]] = {
        "postgres": (
            (database.postgres, database.tables, database.schema, database.indexes),
            ("database.dsn", "database.dsn_file"),
        ),
        "redis": ((services.redis,), ("redis.url", "redis.url_file")),
        "sqs": ((services.sqs, services.dead_letters), ("queue.url", region)),
        "s3": ((services.streams,), ("storage.bucket", region)),
        "s3 sources": ((services.sources,), ("storage.bucket", region)),
        "ec2": ((fleet.ec2,), ("fleet.metadata_url",)),
        "autoscaling": ((fleet.group,), ("fleet.group", region)),
        "cloudwatch": ((fleet.cloudwatch,), ("cloudwatch.namespace", region)),
    }
    made = Services(config)
    return [Probe(about, tuple(partial(it, made) for it in them), needs) for about, (them, needs) in asked.items()]


def answers(probes: list[Probe], seconds: float = ENOUGH_SECONDS) -> list[Finding]:
    """All are asked at once, and none is waited for longer than this. The same finding of two is one."""
    found: list[list[Finding]] = [[] for _ in probes]
    asked = [begun(partial(_ask, probe, place)) for probe, place in zip(probes, found, strict=True)]
    done = wait(asked, seconds).done
    for probe, place, answer in zip(probes, found, asked, strict=True):
        if answer not in done:
            place.append(Finding(probe.about, DOWN, f"There was no answer within {seconds:g} s.", probe.silence))
    return list(dict.fromkeys(finding for place in found for finding in place))


def _ask(probe: Probe, found: list[Finding]) -> None:
    """What it finds is kept, whatever it meets after that. What does not answer is not asked again."""
    for question in probe.ask:
        try:
            for finding in question():
                found.append(finding)  # noqa: PERF402 - one by one: the next may raise
        except Unavailable as error:
            found.append(_unavailable(probe.about, error))
            if found[-1].status == DOWN:
                return
        except ApplianceError as error:
            found.append(Finding(probe.about, PROBLEM, error.sentence, error.hint))
        except Exception as error:  # noqa: BLE001 - a mistake of one probe must not hide what the others found
            sentence = f"This could not be checked: {type(error).__name__}: {error}"
            cure = "Report it with this line; the other lines hold."
            found.append(Finding(probe.about, PROBLEM, sentence, cure))
    if not found:
        found.append(Finding(probe.about, OK, ""))


def _unavailable(about: str, error: Unavailable) -> Finding:
    """A problem when it answered and said no, for waiting changes nothing about that; else it is down."""
    cause = error.__cause__
    word = aws.refusal(cause)
    if word == aws.NO_CREDENTIALS:
        cure = "Give the instance a role with config/iam-policy.json, or run this where the service's account is set."
        return Finding("aws", PROBLEM, "There are no AWS credentials: no role, no environment, no file.", cure)
    if word in STRANGERS:
        why = "they have expired" if "Expired" in word else "it does not know them, or this host's clock is wrong"
        cure = "Renew them where they come from; a role renews itself as long as the instance's metadata answer."
        return Finding("aws", PROBLEM, f"AWS does not accept the credentials: {why}.", cure)
    # Without a cause the sentence is ours, about what was answered.
    refused = cause is None or word or redis.refusal(cause) or connection.refusal(cause)
    return Finding(about, PROBLEM if refused else DOWN, error.sentence, error.hint)


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
