from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from appliance.cli.demo.player import Player
from tests.browser.player import play, play_all
from tests.browser.streams import CUES, SECONDS, Stream, streams
from tests.recordings import BITS

PLAYERS = ("hls.js", "shaka HLS", "shaka DASH", "dash.js")
#: Of the stream, at four times its speed: how much later than a frame a busy machine may look at it.
LATE_SECONDS = 0.5
#: Seconds that are buffered ahead of a stream that is only looked into.
AHEAD = 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stream]:
    return streams(tmp_path_factory.mktemp("streams"))


def test_every_player_plays_every_kind_of_stream_to_its_end_and_finds_every_place(made: dict[str, Stream]) -> None:
    """One browser for all of it, because it takes longer to start than to play."""
    cases = [(kind, player) for kind in made for player in PLAYERS]
    with ExitStack() as servers:
        sites = {kind: servers.enter_context(Player(stream.directory)).url for kind, stream in made.items()}
        reports = play_all([{"site": sites[kind], "player": player, **what(made[kind])} for kind, player in cases])
    wrong = [
        f"{kind} in {player}: {sentence}"
        for (kind, player), report in zip(cases, reports, strict=True)
        for sentence in complaints(made[kind], report)
    ]
    assert not wrong, "\n".join(wrong)


def what(stream: Stream) -> dict[str, Any]:
    """What play.mjs takes of it."""
    ahead = {} if stream.whole else {"buffer": AHEAD}
    bars = {"bits": BITS if stream.rate else 0, "width": stream.size[0]}
    return {"whole": stream.whole, "seeks": stream.seeks, **bars, **ahead}


def complaints(stream: Stream, report: dict[str, Any]) -> Iterator[str]:
    """What a viewer would complain about."""
    if stream.whole:
        yield from _played_through(stream, report)
    elif report["errors"]:
        yield f"it failed: {report['errors']}"
    if abs(report["duration"] - stream.result.duration_seconds) > 0.1:
        yield f"it lasts {report['duration']} s, not {stream.result.duration_seconds}"
    # Which rung was shown last is the player's choice; its shape is not.
    width, height = report["size"]
    if (width * stream.size[1], width > 0) != (height * stream.size[0], stream.rate > 0):
        yield f"its picture is {width}x{height}"
    yield from _seeks(stream, report)
    rungs = sorted(f"{min(size)}p" for size in report["rungs"])
    if rungs != sorted(rung for rung in stream.result.rungs if rung.endswith("p")):
        yield f"it offers {rungs}, the receipt has {stream.result.rungs}"
    if stream.cues and [tuple(cue) for cue in report["cues"]] != CUES:
        yield f"its cues are {report['cues']}"


def _played_through(stream: Stream, report: dict[str, Any]) -> Iterator[str]:
    played = {name: report[name] for name in ("ended", "errors", "pieces", "stalls")}
    if played != {"ended": True, "errors": [], "pieces": 1, "stalls": 0}:
        yield f"it did not play through: {played}"
    if abs(report["at"] - SECONDS) > 0.1:
        yield f"it ended at {report['at']} s"
    if bool(report["audio_bytes"]) != stream.audio:
        yield f"{report['audio_bytes']} bytes of sound were decoded"
    yield from _pictures(stream, report)


def _pictures(stream: Stream, report: dict[str, Any]) -> Iterator[str]:
    """Each frame is the one of its time, or a later one that had come by when a busy machine looked at it."""
    if stream.rate and not report["frames"]:
        yield "no frame was shown"
    for time, number, seen_at in report["numbers"]:
        if not stream.number_at(time) - 1 <= number <= stream.number_at(max(time, seen_at) + LATE_SECONDS):
            yield f"at {time:.3f} s ({seen_at:.3f} s) it showed frame {number}, not {stream.number_at(time)}"


def _seeks(stream: Stream, report: dict[str, Any]) -> Iterator[str]:
    for seek in report["seeks"]:
        if not seek["went_on"] or not seek["buffered"] or abs(seek["at"] - seek["target"]) > 0.1:
            yield f"after a seek it stood still: {seek}"
        if stream.rate and abs(seek["shown"] - stream.number_at(seek["target"])) > 1:
            yield f"a seek should show frame {stream.number_at(seek['target'])}: {seek}"


def test_a_stream_with_a_segment_missing_is_noticed(made: dict[str, Stream], tmp_path: Path) -> None:
    """So that the test above can fail."""
    copy = shutil.copytree(made["camera"].directory, tmp_path / "out")
    for segment in copy.rglob("*p_00002.m4s"):
        segment.unlink()
    with Player(copy) as served:
        report = play(served.url, "hls.js", **what(made["camera"]))
    assert report["errors"]
    assert [sentence for sentence in complaints(made["camera"], report) if sentence.startswith("it did not play")]
