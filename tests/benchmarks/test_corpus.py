from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.adapters.ffmpeg import tools
from appliance.config import Config
from appliance.domain.errors import ERROR_CODES
from appliance.local.aws import Aws
from tests.benchmarks import corpus as bench
from tests.benchmarks import manifest
from tests.benchmarks.canary import Canary
from tests.benchmarks.manifest import BadManifest, Expectation
from tests.benchmarks.ways import Outcome
from tests.hosts import World, eventually

#: Two small rungs: what is tried here is the runner.
SMALL: dict[str, dict[str, Any]] = {
    "encode": {
        "preset": "ultrafast",
        "ladder": [
            {"short_side": 180, "crf": 28, "maxrate": "400k"},
            {"short_side": 90, "crf": 30, "maxrate": "200k"},
        ],
    },
    "queue": {"wait_seconds": 1, "poll_seconds": 1},
}


def write(folder: Path, lines: dict[str, str]) -> None:
    rows = [f"{path}\tsomething else\t{expected}" for path, expected in lines.items()]
    (folder / "MANIFEST.tsv").write_text("\n".join(["path\tlicence\texpected", *rows]) + "\n")


def tone(file: Path, *inputs: str) -> None:
    sound = ["-f", "lavfi", "-i", "sine=frequency=440:d=1"]
    subprocess.run([tools.find().ffmpeg, "-v", "error", *inputs, *sound, str(file)], check=True)


def run(
    capsys: pytest.CaptureFixture[str], world: World, directory: Path, *arguments: object
) -> tuple[int, dict[str, dict[str, Any]], dict[str, Any]]:
    """Exit status, each file's object, and the summary."""
    options = bench.options([*map(str, arguments), "--json"])
    directory.mkdir()
    status = bench.measure(bench.selected(options), directory, options, world=world, settings=SMALL)
    *lines, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return status, {line["path"]: line for line in lines}, last["summary"]


@pytest.fixture
def world(dsn: str, redis_url: str, aws: Aws, bucket: str, queue_url: str) -> World:
    return World(dsn, redis_url, aws, bucket, queue_url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Recordings and rubbish, with a name that starts with a dash and a script that points at this machine."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    tone(folder / "-a film.mkv", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=10:d=1")
    tone(folder / "tone.wav")
    (folder / "page.mp4").write_text("<!DOCTYPE html><html></html>")
    script = "#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n"
    (folder / "playlist.mp4").write_text(script)
    return folder


def test_every_file_goes_both_ways_and_every_surprise_is_reported(
    folder: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = {
        "-a film.mkv": "encodes (name starts with dash)",
        "tone.wav": "clear rejection",
        "page.mp4": "encodes, as if it could",
        "playlist.mp4": "clear rejection; zero network/file access",
        "gone.mp4": "clear rejection or encodes",
    }
    write(folder, expected)
    status, lines, summary = run(capsys, world, tmp_path / "work", folder)
    said = {path: line["unexpected"] for path, line in lines.items()}
    assert said.pop("gone.mp4") == ["There is no such file."]
    assert [sentence.split(": ")[0] for sentence in said["tone.wav"]] == ["encode", "appliance"]
    assert "should have been rejected" in said.pop("tone.wav")[0]
    assert "It should have become READY and is FAILED not_media" in said.pop("page.mp4")[1]
    assert said == {"-a film.mkv": [], "playlist.mp4": [], "playlist.mp4 (aimed at the canary)": []}
    assert (status, summary["files"], summary["unexpected"], summary["canary_touched"]) == (1, 6, 3, [])
    for way in ("encode", "appliance"):
        assert lines["-a film.mkv"][way]["status"] == "READY"
        assert lines["-a film.mkv"][way]["peak_memory_bytes"] > 10_000_000
        assert lines["playlist.mp4"][way]["code"] in ERROR_CODES
        assert lines["playlist.mp4"][way]["reason"].endswith(".")


def test_a_corpus_that_meets_its_manifest_ends_with_0(
    folder: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, {"page.mp4": "clear rejection", "tone.wav": "either outcome"})
    status, lines, summary = run(capsys, world, tmp_path / "work", folder, "--way", "encode")
    assert (status, summary["unexpected"], len(lines)) == (0, 0, 2)
    assert lines["tone.wav"]["encode"]["broken"] == []


def test_f44_some_of_the_real_recordings_meet_their_manifest(
    corpus: Path, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [corpus, "--quick", "--skip", "*edit_list*"]
    status, lines, summary = run(capsys, world, tmp_path / "work", *arguments)
    assert status == 0, {path: line["unexpected"] for path, line in lines.items()}
    assert summary["files"] >= 7


def test_a_folder_without_a_manifest_says_so_and_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main([str(tmp_path)]) == 2
    assert "MANIFEST.tsv cannot be read: No such file or directory." in capsys.readouterr().err
    assert bench.main([]) == 2
    assert "bench corpus FOLDER" in capsys.readouterr().err
    write(tmp_path, {"a.mp4": "looks nice"})
    assert bench.main([str(tmp_path)]) == 2
    assert "`looks nice` is not understood" in capsys.readouterr().err
    (tmp_path / "MANIFEST.tsv").write_text("path\tlicence\na\tb\n")
    with pytest.raises(BadManifest, match="no column expected"):
        manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("expected", "wanted"),
    [
        ("encodes; text stays readable", Expectation.ENCODES),
        ("clear rejection: no audio/video", Expectation.REJECTION),
        ("encodes; subtitle -> WebVTT or ignored", Expectation.EITHER),
        ("either outcome; should not publish 134 s of AMR noise", Expectation.EITHER),
        ("clear rejection (unsupported codec) with ffmpeg 5.1", Expectation.EITHER),
    ],
)
def test_the_words_of_a_manifest(expected: str, wanted: Expectation) -> None:
    assert manifest.expectation(expected) == wanted


def test_a_canary_notices_who_calls_and_who_reads(tmp_path: Path) -> None:
    port = 9 if os.geteuid() == 0 else 10_009
    with Canary(tmp_path, {port}) as canary:
        aimed = canary.aimed(
            b"file /etc/passwd\nfile:///etc/hosts\nhttp://localhost:9/x <BaseURL>http://127.0.0.1/y</BaseURL>"
        )
        assert aimed.decode().split() == [
            *["file", str(canary.file), f"file://{canary.file}", canary.url, f"<BaseURL>{canary.url}</BaseURL>"]
        ]
        assert canary.touched == []
        canary.file.read_text()
        eventually(lambda: canary.touched)
        assert set(canary.touched) == {str(canary.file)}
        with pytest.raises(OSError, match=r".*"):
            urllib.request.urlopen(canary.url, timeout=5)
        assert canary.touched[-1].startswith("port ")


@pytest.mark.parametrize("bare", [True, False])
def test_the_cage_is_off_where_that_was_asked_for_and_nowhere_else(tmp_path: Path, *, bare: bool) -> None:
    sandbox = bench._config(tmp_path, {**bench.SETTINGS, **(bench.BARE if bare else {})}).sandbox
    assert (sandbox.landlock, sandbox.seccomp) == (not bare, not bare)


def test_what_exceeds_a_configured_bound_is_unexpected() -> None:
    config = Config()
    fine = Outcome("READY", None, None, seconds=200.0, media_seconds=60.0, chunks=2, peak_memory_bytes=1 << 30)
    assert list(bench.over(config, 10_000_000, fine)) == []
    greedy = replace(fine, seconds=2401.0, peak_memory_bytes=5 << 30, peak_disk_bytes=10_000_000 + 300_000_000)
    found = [sentence.split(";")[0] for sentence in bench.over(config, 10_000_000, greedy)]
    assert found == [
        "It took 5368709120 bytes of memory",
        "It took 2401 seconds",
        "It took 310000000 bytes of scratch",
    ]
