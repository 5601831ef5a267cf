"""`video-appliance VERB`: finds the verb, and turns whatever it raises into a sentence and an exit status.

Each verb is a module of `appliance.cli` with `arguments(parser)` and `main(options) -> int`; only the chosen one is
imported, so that `version` waits for no boto3 and `run` never sees rich.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import sys
import textwrap
import traceback
from collections.abc import Sequence
from pathlib import Path

from appliance.cli import exits
from appliance.config import DEFAULT_PATH
from appliance.domain.errors import ApplianceError, ConfigError, Unavailable
from appliance.domain.secrets import redacted

PROGRAM = "video-appliance"
VERBS = {
    "run": "the service in the foreground: a supervisor and its encoders, until SIGTERM",
    "check": "the doctor: tries everything the service needs, and says what to do",
    "status": "backlog, encoders of this host, which dependencies answer",
    "top": "this host at work, refreshed each second; q leaves",
    "submit": "queue a recording: a file, a key in S3, or the platform's row by its id",
    "list": "the newest videos, or those of one status, and what became of them",
    "show": "one video: row, attempts, chunks, receipt, live progress",
    "retry": "put a FAILED or READY video back into the queue",
    "cancel": "end a waiting video at once, a running one within one renewal",
    "reconcile": "take videos back from dead owners and ring for due ones, one pass by hand",
    "drain": "let this host's service end: no more work, finish or hand over",
    "migrate": "bring the database's schema up to date",
    "config": "the configuration: what is set and where, what is wrong with it, its schema",
    "reload": "ask the running service to read its file again (what systemctl reload runs)",
    "autoscaling": "print the fleet's scaling policies and alarms with your names filled in",
    "encode": "encode one local file into a directory, without any service",
    "verify": "hold any HLS stream against the rules, by its address or directory",
    "completion": "a completion script for bash, zsh or fish",
    "demo": "the whole appliance on an embedded stack, with a sample lecture",
    "version": "the versions of the appliance and of ffmpeg",
}


STATUSES = """exit status: 0 done, 1 it ran and the answer is no, 2 this command line cannot be read,
  69 a dependency does not answer, 78 the configuration cannot be used"""


class Help(argparse.RawDescriptionHelpFormatter):
    """Paths and shell lines stay whole: nothing is broken at a hyphen."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's) and return its exit status."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        status: int = _verb(options.verb).main(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        # `video-appliance list | head`: nobody reads on, and the interpreter must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.NEGATIVE
    except Exception as error:  # noqa: BLE001 - the top: whatever it is, a person reads a sentence
        return _explain(error, options)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The verb's options; `--config` and `--json` may stand before or after the verb. Exits with 2 on a mistake."""
    listing = "\n".join(f"  {verb:<11} {summary}" for verb, summary in VERBS.items())
    top = argparse.ArgumentParser(
        prog=PROGRAM,
        parents=[_everywhere(None, as_json=False)],
        formatter_class=Help,
        description="Turns uploaded lectures into adaptive streams.",
        epilog=f"verbs:\n{listing}\n\n`{PROGRAM} VERB --help` says more about one of them.\n\n{STATUSES}",
    )
    top.add_argument("verb", metavar="VERB", help="what to do; see below")
    top.add_argument("rest", nargs=argparse.REMAINDER, metavar="…", help=argparse.SUPPRESS)
    if not arguments:
        top.print_help(sys.stderr)
        raise SystemExit(exits.USAGE)
    chosen = top.parse_args(arguments)
    if chosen.verb not in VERBS:
        near = difflib.get_close_matches(chosen.verb, VERBS, 1)
        top.error(f"there is no verb {chosen.verb}; " + (f"did you mean `{near[0]}`?" if near else "--help lists them"))
    parser = _parser(chosen.verb, _everywhere(chosen.config, as_json=chosen.json))
    return parser.parse_args(chosen.rest, argparse.Namespace(verb=chosen.verb, parsers=parsers))


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every verb's, for whoever describes the command line (`completion`). Imports all of them."""
    return {verb: _parser(verb, _everywhere(None, as_json=False)) for verb in VERBS}


def _parser(verb: str, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    description = f"{verb}: {VERBS[verb]}."
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} {verb}", parents=[common], description=description, formatter_class=Help
    )
    _verb(verb).arguments(parser)
    return parser


def _everywhere(config: Path | None, *, as_json: bool) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    place = f"the configuration (default: $VIDEO_APPLIANCE_CONFIG, else {DEFAULT_PATH})"
    options.add_argument("--config", type=Path, metavar="PATH", default=config, help=place)
    options.add_argument(
        "--json", action="store_true", default=as_json, help="one object a line, for programs (config/json.md)"
    )
    options.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    return options


def _verb(name: str) -> exits.Verb:
    verb: exits.Verb = importlib.import_module(f"appliance.cli.{name}")
    return verb


def _explain(error: Exception, options: argparse.Namespace) -> int:
    """Say what happened and what to do next; a stack trace only with --debug."""
    status, code, sentence, hint = _meaning(error)
    if options.debug:
        sys.stderr.write(redacted("".join(traceback.format_exception(error))))
    if options.json:
        sys.stdout.write(json.dumps({"error": {"code": code, "sentence": sentence, "hint": hint}}) + "\n")
    sys.stderr.write(f"{PROGRAM}: {sentence}\n" + (f"  → {hint}\n" if hint else ""))
    return status


def _meaning(error: Exception) -> tuple[int, str, str, str]:
    """(exit status, code, sentence, hint) of anything that a verb raises."""
    match error:
        case ConfigError(problems=problems):
            hint = f"`{PROGRAM} config validate` checks the file again."
            return exits.CONFIGURATION, error.code, "\n".join(problems), hint
        case Unavailable(dependency=dependency):
            hint = error.hint or f"`{PROGRAM} status` says what answers."
            return exits.UNAVAILABLE, dependency, error.sentence, hint
        case ApplianceError():
            return exits.NEGATIVE, error.code, error.sentence, error.hint
        case _:
            where = traceback.extract_tb(error.__traceback__)[-1]
            sentence = redacted(f"the appliance made a mistake: {type(error).__name__}: {error}")
            hint = f"It happened at {where.filename}:{where.lineno}; --debug shows the way there, for a report."
            return exits.NEGATIVE, "internal_error", sentence, hint


if __name__ == "__main__":
    sys.exit(main())
