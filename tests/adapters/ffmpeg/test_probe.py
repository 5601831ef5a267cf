"""What a probe believes: recordings made here, and files that are not recordings."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from appliance.adapters.ffmpeg import tools
from appliance.adapters.ffmpeg.probe import Probe
from appliance.adapters.ffmpeg.run import Ended, Limits, run
from appliance.adapters.ffmpeg.sandbox import Cage
from appliance.adapters.ffmpeg.tools import Tools
from appliance.domain.errors import ConfigError, SourceRejected, Transient
from appliance.domain.media import Source
from appliance.domain.tracks import GRID_TICKS
from tests.beside import PATIENCE_SECONDS, two_at_once
from tests.recordings import numbered

LIMITS = Limits(deadline_seconds=60, stall_seconds=30, memory_bytes=4 << 30)


def probe(
    directory: Path, *, max_pixels: int = 1 << 26, max_seconds: float = 3600, close_gaps_seconds: float = 60
) -> Source:
    prober = Probe(tools.find(), LIMITS, max_pixels, max_seconds, close_gaps_seconds)
    return prober(directory, lambda: None, lambda ended: None)


def make(directory: Path, *options: str) -> Path:
    target = directory / "source"
    command = [tools.find().ffmpeg, "-v", "error", "-y", *options, f"file:{target}"]
    subprocess.run(command, check=True)
    return target


@pytest.mark.parametrize("victim", ["show_streams", "packet=stream_index", "framecrc"])
def test_f32_a_probe_that_is_killed_condemns_no_recording_and_shortens_none(tmp_path: Path, victim: str) -> None:
    numbered(tmp_path / "source", rate="25", frames=25, options=["-f", "mp4"])
    real = tools.find()
    script = '#!/bin/sh\ncase "$*" in *{}*) kill -9 $$ ;; esac\nexec {} "$@"\n'
    for name, program in (("ffmpeg", real.ffmpeg), ("ffprobe", real.ffprobe)):
        (tmp_path / name).write_text(script.format(victim, program))
        (tmp_path / name).chmod(0o755)
    fragile = Tools(str(tmp_path / "ffmpeg"), str(tmp_path / "ffprobe"), real.build)
    limits = replace(LIMITS, cage=Cage(readable=(str(tmp_path), real.ffmpeg, real.ffprobe)))
    with pytest.raises(Transient, match="killed by signal 9"):
        Probe(fragile, limits, 1 << 26, 3600)(tmp_path, lambda: None, lambda ended: None)


def test_times_come_from_packets(tmp_path: Path) -> None:
    numbered(tmp_path / "source", rate="30000/1001", frames=90, options=["-f", "mp4"])
    source = probe(tmp_path)
    assert source.video is not None
    assert source.audio is not None
    assert source.video.busiest_rate == Fraction(30000, 1001)
    assert source.video.end_seconds == pytest.approx(90 * 1001 / 30000, abs=0.001)
    assert source.video.seekable
    assert (source.audio.channels, source.audio.codec) == (1, "aac")
    assert source.warnings == ()


def test_a_header_that_lies_about_the_duration_is_not_believed(tmp_path: Path) -> None:
    whole = make(tmp_path, "-f", "lavfi", "-i", "testsrc2=d=20:s=160x90", "-f", "matroska")
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    source = probe(tmp_path)
    assert source.video is not None
    assert 1 < source.video.end_seconds < 19
    assert any("damaged" in warning and "0x" not in warning for warning in source.warnings)


def test_a_phone_held_upright_is_portrait(tmp_path: Path) -> None:
    make(tmp_path, "-f", "lavfi", "-i", "testsrc2=d=1:s=320x180", "-f", "mp4")
    (tmp_path / "source").rename(tmp_path / "flat")
    make(tmp_path, "-display_rotation", "90", "-i", str(tmp_path / "flat"), "-c", "copy", "-f", "mp4")
    video = probe(tmp_path).video
    assert video is not None
    assert (video.width, video.height) == (180, 320)


def test_sound_alone_is_a_source(tmp_path: Path) -> None:
    make(tmp_path, "-f", "lavfi", "-i", "sine=d=2", "-f", "wav")
    source = probe(tmp_path)
    assert source.video is None
    assert source.audio is not None
    assert source.end_seconds == 2


def test_cover_art_is_not_a_video(tmp_path: Path) -> None:
    cover = tmp_path / "cover.png"
    subprocess.run(
        [tools.find().ffmpeg, "-v", "error", "-f", "lavfi", "-i", "color=s=64x64:d=1", "-frames:v", "1", str(cover)],
        check=True,
    )
    make(
        tmp_path,
        *("-f", "lavfi", "-i", "sine=d=2", "-i", str(cover), "-map", "0", "-map", "1"),
        *("-c:v", "copy", "-disposition:v", "attached_pic", "-f", "mp3"),
    )
    assert probe(tmp_path).video is None


def test_a_transport_stream_cannot_be_cut(tmp_path: Path) -> None:
    make(tmp_path, "-f", "lavfi", "-i", "testsrc2=d=1:s=160x90", "-f", "mpegts")
    video = probe(tmp_path).video
    assert video is not None
    assert not video.seekable


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><body>404</body></html>",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        b"\x00" * 65536,
    ],
    ids=["empty", "html", "playlist", "concat", "sdp", "zeros"],
)
def test_f45_a_file_that_is_not_media_is_rejected_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "source").write_bytes(content)
    with pytest.raises(SourceRejected) as caught:
        probe(tmp_path)
    assert caught.value.code == "not_media"
    assert caught.value.sentence.endswith(".")


def test_subtitles_alone_are_no_recording(tmp_path: Path) -> None:
    (tmp_path / "s.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n\n")
    make(tmp_path, "-i", str(tmp_path / "s.srt"), "-f", "matroska")
    with pytest.raises(SourceRejected) as caught:
        probe(tmp_path)
    assert caught.value.code == "no_media_stream"


def test_f46_a_picture_beyond_the_operators_bound_is_rejected(tmp_path: Path) -> None:
    make(tmp_path, "-f", "lavfi", "-i", "testsrc2=d=1:s=640x360", "-f", "mp4")
    with pytest.raises(SourceRejected) as caught:
        probe(tmp_path, max_pixels=100_000)
    assert caught.value.code == "too_large"


def test_f46_a_gap_of_hours_is_closed_or_the_recording_is_too_long(tmp_path: Path) -> None:
    make(
        tmp_path,
        *("-f", "lavfi", "-i", "testsrc2=d=2:s=160x90:r=10"),
        *("-vf", "setpts=PTS+gte(N\\,10)*100000/TB", "-fps_mode", "passthrough", "-f", "matroska"),
    )
    (gap,) = probe(tmp_path).gaps
    assert gap.length == pytest.approx(100_000 * GRID_TICKS, rel=1e-4)
    with pytest.raises(SourceRejected) as caught:
        probe(tmp_path, close_gaps_seconds=200_000)
    assert caught.value.code == "too_long"


def test_an_undecodable_track_is_left_out_with_a_warning(tmp_path: Path) -> None:
    path = numbered(tmp_path / "source", rate="30", frames=30, options=["-c:a", "pcm_s16le", "-f", "mov"])
    path.write_bytes(path.read_bytes().replace(b"sowt", b"xxxx"))
    source = probe(tmp_path)
    assert source.audio is None
    assert source.video is not None
    assert source.warnings == ("The audio stream 1 cannot be decoded and was left out.",)


def test_sound_is_tried_while_pictures_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbered(tmp_path / "source", rate="30", frames=30, options=["-f", "mp4"])
    two_at_once(monkeypatch, "appliance.adapters.ffmpeg.probe", "framecrc")
    source = probe(tmp_path)
    assert source.video
    assert source.audio


@pytest.mark.parametrize("raised", [SourceRejected("no"), KeyboardInterrupt()])
def test_nobody_waits_for_sound_when_pictures_have_ended_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    numbered(tmp_path / "source", rate="30", frames=30, options=["-f", "mp4"])
    stuck, waited = threading.Event(), threading.Event()

    def hanging(command: list[str], *, check: Callable[[], None], **options: Any) -> Ended:
        if "-frames:a" in command:
            stuck.set()
            late = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < late:
                check()
                time.sleep(0.01)
            waited.set()
        if "-frames:v" in command:
            assert stuck.wait(PATIENCE_SECONDS)
            raise raised
        return run(command, check=check, **options)

    monkeypatch.setattr("appliance.adapters.ffmpeg.probe.run", hanging)
    with pytest.raises(type(raised)):
        probe(tmp_path)
    assert not waited.is_set()


def test_what_a_refused_recording_cost_is_told_by_the_thread_that_asked(tmp_path: Path) -> None:
    numbered(tmp_path / "source", rate="30", frames=60, options=["-f", "mp4"])
    told: list[tuple[int, float]] = []
    prober = Probe(tools.find(), LIMITS, 1 << 26, max_duration_seconds=1)
    with pytest.raises(SourceRejected, match="long"):
        prober(tmp_path, lambda: None, lambda ended: told.append((threading.get_ident(), ended.cpu_seconds)))
    assert len(told) == 5, "the file, its packets, a trial of each stream, the look for fields"
    assert {thread for thread, _ in told} == {threading.get_ident()}
    assert all(seconds > 0 for _, seconds in told)


def test_missing_programs_are_named_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ffmpeg was not found.*\n.*ffprobe was not found"):
        tools.find(str(tmp_path / "ffmpeg"), str(tmp_path / "ffprobe"))


def test_an_old_ffmpeg_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "ffmpeg"
    old.write_text("#!/bin/sh\necho ffmpeg version 5.1.9-0+deb12u1 Copyright\n")
    old.chmod(0o755)
    with pytest.raises(ConfigError, match=r"5\.1\.9.*7 or newer"):
        tools.find(str(old), tools.find().ffprobe)
