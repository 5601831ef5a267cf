"""On a terminal: nothing is wider than it, nor than 100 columns, however long an id, a host, a title or a reason is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.cli import supervisor
from appliance.domain.receipt import Chapter, Receipt
from tests.cli.test_top import told as scene
from tests.hosts import World
from tests.shell import appliance

HOST = "ip-10-20-30-40.eu-central-1.compute.internal.of-a-platform-with-long-names"
BIGINT = 2**63 - 1
TITLE = "uploads/Lecture 12 — Thermodynamics of Irreversible Processes/" + "Aufzeichnung_des_ganzen_Tages_" * 5 + ".mp4"
REASON = "The encoder stopped with an error: " + "Error while decoding stream #0:1: Invalid data found; " * 8
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
COLOUR = re.compile(r"\x1b\[(\d+;)*(3\d|4\d|9\d|10\d)[;m]")
VERBS = ("list", f"show {BIGINT}", "status", "top --once", "check", f"cancel {BIGINT}")
#: Prints sentences; so do a supervisor's worries below the tables of `status`.
IN_LINES = ("check", "status", f"cancel {BIGINT}")


@pytest.fixture(params=[80, 200])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A terminal of so many columns; what may be used of them."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(request.param))
    return min(request.param, 100)


@pytest.fixture
def long_words(world: World, settings: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows, a supervisor and a configuration of very long words."""
    chapters = (Chapter(0.0, 1.0, "An introduction to everything " * 6),)
    receipt = Receipt(warnings=(REASON[:200],), chapters=chapters, ffmpeg_build="n9-" + "x" * 120).to_json()
    for number, status in enumerate(("FAILED", "PROCESSING", "READY", "UPLOADED", "PENDING")):
        video_id, worker = BIGINT - number, f"{HOST[:50]}:12:4194304"
        world.query(
            "INSERT INTO video (id, tenant_id, status, file_key, hls_path, error_code, error_reason, leased_by, plan)"
            " VALUES (%s, %s, %s, %s, %s, 'encode_failed', %s, %s, %s)",
            *(video_id, BIGINT, status, TITLE, TITLE, REASON, worker, "f" * 64),
        )
        world.query(
            "INSERT INTO video_attempt (token, video_id, epoch, host, worker, started_at, ended_at, outcome,"
            " error_reason, receipt) VALUES (gen_random_uuid(), %s, 7, %s, %s, now(), now(), 'failed', %s, %s)",
            *(video_id, HOST, f"{HOST}:12:4194304", REASON, json.dumps(receipt)),
        )
    monkeypatch.setattr(supervisor, "look", lambda _port: service())
    changed = yaml.safe_load(settings.read_text())
    changed["storage"]["bucket"] = "b" * 63
    changed["redis"]["url"] = f"redis://{HOST}.{HOST}.invalid:6379/0"
    changed["workspace"] = {"directory": f"/var/cache/{'video-appliance-' * 9}"}
    settings.write_text(yaml.safe_dump(changed))
    return settings


def service() -> dict[str, Any]:
    """A supervisor whose database is away, with everything long that may be."""
    found = {**scene("broken"), "host": HOST}
    found["slots"] = [{**slot, "video_id": BIGINT, "step": "storyboard", "chunk": 720} for slot in found["slots"]]
    found["notices"] = {"web": f"The port 9100 is held by {HOST}; " + "set web.port, or web.textfile. " * 4}
    return found


def printed(verb: str, settings: Path) -> list[str]:
    return appliance(*verb.split(), "--config", settings).out.splitlines()


@pytest.mark.parametrize("verb", VERBS)
def test_long_words_are_folded_and_ids_are_not(long_words: Path, columns: int, verb: str) -> None:
    lines = [ESCAPE.sub("", line).rstrip() for line in printed(verb, long_words)]
    wide = [line for line in lines if len(line) > columns]
    # A path or a host that is longer than a line stands alone on it, whole for whoever copies it; in no table.
    assert [line for line in wide if verb not in IN_LINES or len(line.split()) > 1] == []
    assert verb in IN_LINES or str(BIGINT) in "".join(lines)


def test_a_pipe_gets_whole_lines_without_escapes_and_a_terminal_no_colour_where_none_is_wanted(
    long_words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {verb: printed(verb, long_words) for verb in VERBS}
    assert [verb for verb, lines in told.items() if "\x1b" in "".join(lines)] == []
    assert [line for line in told["list"] if TITLE in line and REASON.strip() in line and str(BIGINT) in line]
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = [verb for verb in VERBS if COLOUR.search("".join(printed(verb, long_words)))]
    assert {"list", "status", "check"} <= {*coloured}
    monkeypatch.setenv("NO_COLOR", "1")
    assert [verb for verb in VERBS if COLOUR.search("".join(printed(verb, long_words)))] == []
