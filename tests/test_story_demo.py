"""`demo`, as the first thing that anybody runs: it ends well or says why not, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from appliance.adapters.ffmpeg import tools
from appliance.cli.shapes import PRINTED
from tests.browser.player import play
from tests.recordings import lecture
from tests.shapes import misfits
from tests.shell import command, environment


class Demo:
    """A running demo, and every process that it and its servers started."""

    def __init__(self, process: subprocess.Popen[str], scratch: Path) -> None:
        self.process = process
        self.scratch = scratch
        self.family: set[psutil.Process] = set()
        #: Known at the end of the block.
        self.left_over: list[str] = []

    def look(self) -> None:
        """Remember who is there now."""
        self.family |= set(psutil.Process(self.process.pid).children(recursive=True))

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Exit status and the rest of its output."""
        self.look()
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out

    def look_back(self) -> list[str]:
        """Processes that still run, and files in the directory for temporary ones.

        They may take a moment where nobody waited for them, because the demo itself was killed.
        """
        psutil.wait_procs(self.family, timeout=30)
        running = [one for one in self.family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        return [*(str(one) for one in running), *(str(path) for path in self.scratch.iterdir())]


@contextmanager
def demo(tmp_path: Path, *arguments: object) -> Iterator[Demo]:
    # not below tmp_path, which is closed to the user that PostgreSQL runs as when we are root
    scratch = Path(tempfile.mkdtemp(dir="/tmp"))
    scratch.chmod(0o755)
    with subprocess.Popen(
        command("demo", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment({"TMPDIR": str(scratch), "AWS_PROFILE": "a-real-account"}),
    ) as process:
        running = Demo(process, scratch)
        try:
            yield running
        finally:
            process.kill()
            process.wait()
            running.left_over = running.look_back()
            shutil.rmtree(scratch)


def probe(master: Path) -> dict[str, Any]:
    entries = ["-show_entries", "stream=codec_type,height:format=duration", "-of", "json"]
    done = subprocess.run([tools.find().ffprobe, "-v", "error", *entries, str(master)], check=True, capture_output=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_sample_is_ready_plays_everywhere_and_ctrl_c_leaves_only_the_stream(tmp_path: Path) -> None:
    with demo(tmp_path, "--keep", "--json", "--out", tmp_path / "out") as running:
        assert running.process.stdout is not None
        told = json.loads(running.process.stdout.readline())
        assert (told["outcome"], told["error_code"]) == ("READY", None)
        assert [*misfits(told, PRINTED["demo"])] == []
        assert [*told["seconds"]] == ["stack", "sample", "submit", "claim", "encode", "copy"]
        assert urllib.request.urlopen(told["status_page"], timeout=10).status == 200
        verb = [told["command"], "list", "--status", "READY", "--json"]
        found = subprocess.run(verb, check=True, capture_output=True, text=True, cwd=tmp_path, env={})
        assert json.loads(found.stdout)["hls_path"] == told["hls_path"]
        assert b"<video" in urllib.request.urlopen(told["player"], timeout=10).read()
        status, _ = running.end(signal.SIGINT)
    assert (status, running.left_over) == (0, [])
    assert told["master"] == str(tmp_path / "out/master.m3u8")
    receipt = told["receipt"]
    # An encoder of this host that has nothing to do may have helped.
    assert receipt["chunks_encoded"] + receipt["chunks_assisted"] == receipt["chunks_total"]
    assert receipt["chunks_resumed"] == 0
    found = probe(Path(told["master"]))
    heights = {stream["height"] for stream in found["streams"] if stream["codec_type"] == "video"}
    assert heights == {int(rung[:-1]) for rung in receipt["rungs"] if rung.endswith("p")}
    assert {720, 360} <= heights <= {720, 480, 360}  # a rung in between may cost too nearly the same
    assert abs(float(found["format"]["duration"]) - 24) < 1 / 30
    assert probe(tmp_path / "out" / told["hls_path"].split("/", 2)[2])["streams"]


def test_the_copy_of_a_recording_plays_in_hls_js(tmp_path: Path) -> None:
    from appliance.cli.demo.player import Player

    file = lecture(tmp_path / "lecture.mp4", seconds=8, size="320x180")
    with demo(tmp_path, file) as running:
        out, _ = running.process.communicate(timeout=120)
    assert running.process.returncode == 0, out
    assert out.splitlines()[-1] == f"READY {tmp_path}/video-appliance-demo/master.m3u8"
    assert "chunks" in out
    with Player(tmp_path / "video-appliance-demo") as player:
        report = play(player.url, "hls.js")
    assert (report["ended"], report["errors"], report["pieces"], report["stalls"]) == (True, [], 1, 0)


def test_a_file_that_is_not_media_ends_with_1_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("Not a film.\n" * 100)
    with demo(tmp_path, tmp_path / "notes.mp4", "--json", "--keep") as running:
        out, _ = running.process.communicate(timeout=60)
    assert running.process.returncode == 1
    told = json.loads(out.splitlines()[-1])
    assert (told["outcome"], told["error_code"], told["master"]) == ("FAILED", "not_media", "")
    assert [*misfits(told, PRINTED["demo"])] == []
    assert told["error_reason"]
    assert not (tmp_path / "video-appliance-demo").exists()


def test_a_demo_that_is_killed_at_work_leaves_nothing(tmp_path: Path) -> None:
    file = lecture(tmp_path / "lecture.mp4", seconds=20, size="640x360")
    with demo(tmp_path, file) as running:
        assert running.process.stderr is not None
        while "encode" not in (line := running.process.stderr.readline()):
            assert line, "it ended before it began to encode"
        status, _ = running.end(signal.SIGKILL)
    assert (status, running.left_over) == (-signal.SIGKILL, [])


def test_a_file_that_is_not_there_starts_nothing(tmp_path: Path) -> None:
    with demo(tmp_path, tmp_path / "none.mp4") as running:
        _, err = running.process.communicate(timeout=60)
    assert running.process.returncode == 1
    assert f"There is no file {tmp_path}/none.mp4." in err
    assert running.left_over == []
