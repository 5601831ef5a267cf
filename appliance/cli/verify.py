"""`verify URL|DIR`: anybody's HLS stream, read to the last box and held against the rules."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote, urlsplit

from appliance.adapters.directory import Directory
from appliance.adapters.http import Http
from appliance.cli import exits, terminal
from appliance.domain.errors import Unavailable
from appliance.domain.stored import Absent, Stored, TooMuch
from appliance.streams import m3u8
from appliance.streams.hls import MASTER
from appliance.streams.m3u8 import BadPlaylist, Range
from appliance.streams.proof import Broken, Verdict, verify

#: One object: a single-file rung of many hours is read in ranges, so this is a segment, or nonsense.
MOST_BYTES = 512 * 1024 * 1024
#: Silence of a server, and one whole object, in seconds.
TIMEOUT_SECONDS, DEADLINE_SECONDS = 20.0, 180.0
#: Findings of one rule that are printed; with --json all of them are.
SHOWN = 5
PLAYLISTS = (".m3u8", ".m3u")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="URL|DIR", help="a playlist's address or path, or the directory of a master")


def main(options: argparse.Namespace) -> int:
    """0 whole as far as it was looked into, 1 a rule is broken, 69 the playlist cannot be reached."""
    place = Place()
    master = _master(options.target)
    try:
        place.read(master)
    except (Absent, TooMuch) as error:
        raise Unavailable("stream", f"{master}: {error}", hint="Give a playlist's address or its directory.") from error
    verdict = verify(place.read, master)
    if options.json:
        terminal.emit(_as_json(options.target, verdict))
    else:
        _tell(verdict)
    return exits.NEGATIVE if verdict.broken else exits.DONE


class Place:
    """Files and addresses: a playlist of either may name the other's kind, but a server's never names a file."""

    def __init__(self) -> None:
        self._files = Directory(Path(), most_bytes=MOST_BYTES)
        self._web = Http(timeout_seconds=TIMEOUT_SECONDS, deadline_seconds=DEADLINE_SECONDS, most_bytes=MOST_BYTES)

    def read(self, key: str, span: Range | None = None) -> Stored:
        if span and span[0] > MOST_BYTES:
            raise TooMuch(f"it has more than {MOST_BYTES} bytes")
        if "://" in key:
            return self._web.read(key, span)
        try:
            return self._files.read(key, span)
        except Absent:
            # Written for a server: escaped, or with a query.
            plain = unquote(urlsplit(key).path)
            if plain == key:
                raise
            return self._files.read(plain, span)


def _master(target: str) -> str:
    """The playlist's address or path; in a directory its master.m3u8, or the only multivariant playlist."""
    if "://" in target or not Path(target).is_dir():
        return target
    found = Path(target) / MASTER
    if found.is_file():
        return str(found)
    masters = [path for path in sorted(Path(target).rglob("*")) if path.suffix in PLAYLISTS and _multivariant(path)]
    if len(masters) != 1:
        names = ", ".join(str(path) for path in masters[:SHOWN]) or "none"
        hint = "Name the playlist itself."
        raise Unavailable(
            "stream", f"{target} holds no {MASTER} and not one multivariant playlist: {names}.", hint=hint
        )
    return str(masters[0])


def _multivariant(path: Path) -> bool:
    try:
        return bool(m3u8.parse_master(path.read_text()).variants)
    except (BadPlaylist, OSError, UnicodeDecodeError):
        return False


def _as_json(target: str, verdict: Verdict) -> dict[str, object]:
    return {
        "target": target,
        "master": verdict.stream.master_key,
        "whole": not verdict.broken and not verdict.unseen,
        "broken": [_finding(finding) for finding in verdict.broken],
        "advice": [_finding(finding) for finding in verdict.advice],
        "not_looked_into": [{"object": key, "sentence": sentence} for key, sentence in verdict.unseen],
        "read": _counts(verdict),
    }


def _finding(finding: Broken) -> dict[str, object]:
    return {name: value for name, value in asdict(finding).items() if name != "chunk"}


def _counts(verdict: Verdict) -> dict[str, int]:
    stream = verdict.stream
    return {
        "playlists": len(stream.playlists),
        "segments": sum(map(len, stream.weights.values())),
        "bytes": sum(size for weights in stream.weights.values() for size, _ in weights),
    }


def _tell(verdict: Verdict) -> None:
    _findings(verdict.broken, "bold red")
    _findings(verdict.advice, "yellow")
    for key, sentence in verdict.unseen:
        terminal.say(f"not looked into  {key}: {sentence}", style="dim", hang=2)
    counts = _counts(verdict)
    read = f"{counts['segments']} segments of {counts['playlists']} playlists, {terminal.size(counts['bytes'])}"
    rules = len({finding.rule for finding in verdict.broken})
    if verdict.broken:
        terminal.say(f"BROKEN: {rules} rules, {len(verdict.broken)} findings ({read} read)", style="bold red")
    elif verdict.unseen:
        terminal.say(f"NOTHING BROKEN in what was looked into ({read} read)", style="yellow")
    else:
        terminal.say(f"WHOLE ({read} read)", style="green")


def _findings(findings: tuple[Broken, ...], style: str) -> None:
    """Rule by rule, and of each the first few."""
    for rule in dict.fromkeys(finding.rule for finding in findings):
        same = [finding for finding in findings if finding.rule == rule]
        for finding in same[:SHOWN]:
            terminal.say(f"{finding.source} ({rule})  {finding.object}: {finding.sentence}", style=style, hang=2)
        if len(same) > SHOWN:
            terminal.say(f"  … and {len(same) - SHOWN} more of {rule}", style=style)
