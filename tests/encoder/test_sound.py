"""The sound that comes out, measured as listeners' tools do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.adapters.ffmpeg import tools
from appliance.adapters.ffmpeg.filters import METER
from appliance.adapters.ffmpeg.run import Limits, run
from appliance.config import Config
from appliance.domain.loudness import Loudness
from appliance.encoder.sound import measured
from appliance.wiring.local import encode_file
from tests.encoder.test_seams import SETTINGS
from tests.recordings import ffmpeg


def come_out(source: Path, *, loudness: bool = True) -> Loudness:
    out = source.parent / f"out-{loudness}"
    config = Config(encode=replace(SETTINGS, loudness=loudness))
    result = encode_file(config, source, out, lambda percent, step, more: None)
    assert result.outcome == "READY", result.error_reason
    return measure(out / "audio.m3u8")


def measure(file: Path) -> Loudness:
    command = [tools.find().ffmpeg, "-nostdin", "-hide_banner", "-i", str(file), "-af", METER, "-f", "null", "-"]
    ended = run(command, directory=file.parent, limits=Limits(60, 60, 4 << 30), check=lambda: None)
    found = measured(ended)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("sound", "layout"),
    [
        ("sine=f=440:d=8,volume=-17dB", "mono"),
        # syllables: short and far above the average, so that their peaks need the limiter
        ("anoisesrc=c=pink:seed=1:d=8:r=48000,volume='0.01+0.5*pow(max(0,sin(t*9)*sin(t*2)),6)':eval=frame", "stereo"),
        ("sine=f=440:d=8,volume=16dB", "stereo"),
    ],
    ids=["quiet tone", "speech", "clipped"],
)
def test_every_sound_comes_out_equally_loud(tmp_path: Path, sound: str, layout: str) -> None:
    source = tmp_path / "source.wav"
    ffmpeg("-f", "lavfi", "-i", f"{sound},aformat=sample_rates=48000:channel_layouts={layout}", str(source))
    before, after = measure(source), come_out(source)
    assert abs(before.lufs + 16) > 4
    assert after.lufs == pytest.approx(-16, abs=1)
    assert after.true_peak_db <= -1.5


def test_silence_stays_silent(tmp_path: Path) -> None:
    source = tmp_path / "source.wav"
    ffmpeg("-f", "lavfi", "-i", "anullsrc=r=48000:cl=stereo:d=2", str(source))
    assert come_out(source).lufs <= -70


def test_switched_off_the_sound_is_as_loud_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "source.wav"
    ffmpeg("-f", "lavfi", "-i", "sine=f=440:d=3,volume=-17dB", "-ar", "48000", str(source))
    assert come_out(source, loudness=False).lufs == pytest.approx(measure(source).lufs, abs=0.3)
