from __future__ import annotations

from pathlib import Path

import pytest

from appliance.adapters.ffmpeg import tools
from appliance.adapters.ffmpeg.run import Ended
from appliance.domain.errors import Transient
from appliance.domain.media import Source
from appliance.domain.plan import Chunk, Packaging, make_plan
from appliance.encoder.chunk import _refuse_failure, _warnings, encode
from appliance.wiring.engine import rules
from tests.domain.test_plan import video
from tests.encoder.test_pipeline import CONFIG

CHUNK = Chunk(3, 0, 1, 0, 30)


def ended(status: int, *words: str) -> Ended:
    return Ended(status, words, 0.0, 0.0, 0)


def test_every_step_takes_its_programs_from_the_same_starters() -> None:
    found = rules(CONFIG)
    assert found.limits(0).starters is found.limits(60).starters


def test_a_full_disk_is_told_from_other_failures() -> None:
    with pytest.raises(Transient) as caught:
        _refuse_failure(ended(1, "av_interleaved_write_frame(): No space left on device"), CHUNK)
    assert caught.value.code == "disk_full"


@pytest.mark.parametrize(("status", "how"), [(1, "ended with status 1"), (-9, "was killed by signal 9")])
def test_the_support_desk_reads_a_sentence_and_the_operator_ffmpegs_words(status: int, how: str) -> None:
    with pytest.raises(Transient) as caught:
        _refuse_failure(ended(status, "[mov] moov atom not found"), CHUNK)
    assert caught.value.sentence == f"The encoder {how} in chunk 3."
    assert caught.value.details == "[mov] moov atom not found"


def test_frames_that_could_not_be_decoded_are_a_warning() -> None:
    summary = "Input stream #0:0 (video): 90 packets read (1 bytes); 88 frames decoded; 2 decode errors;"
    plan = make_plan(Source("mov", video(30, 1), None), identity={}, steps=CONFIG.encode.ladder, packaging=Packaging())
    assert _warnings(ended(0, summary), plan, CHUNK) == ("Chunk 3: 2 frames could not be decoded and were bridged.",)
    assert _warnings(ended(0, summary.replace("2 decode", "0 decode")), plan, CHUNK) == ()


def test_what_ffmpeg_cannot_read_fails_the_chunk_and_leaves_no_piece(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"no media")
    plan = make_plan(Source("mov", video(30, 1), None), identity={}, steps=CONFIG.encode.ladder, packaging=Packaging())
    with pytest.raises(Transient) as caught:
        encode(
            tools.find(),
            rules(CONFIG),
            plan,
            plan.chunk(1),
            directory=tmp_path,
            check=lambda: None,
            on_seconds=lambda seconds: None,
        )
    assert caught.value.code == "encode_failed"
    assert caught.value.details
    assert not list(tmp_path.glob("*.mp4"))
