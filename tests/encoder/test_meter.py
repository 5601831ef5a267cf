from __future__ import annotations

import pytest

from appliance.domain.media import DEFAULT_LADDER, Source
from appliance.domain.plan import Packaging, Plan, make_plan
from appliance.encoder.meter import Meter
from tests.domain.test_plan import audio, video

SECONDS = 120


def plan_of(source: Source) -> Plan:
    return make_plan(source, identity={}, steps=DEFAULT_LADDER, packaging=Packaging())


def test_half_of_the_pictures_is_half_of_the_work_however_much_sound_is_done() -> None:
    plan = plan_of(Source("mov", video(30, SECONDS), audio(SECONDS)))
    told: list[float] = []
    meter = Meter(plan, lambda fraction, *_: told.append(fraction))
    meter.move(plan.chunk(0), SECONDS)
    meter.finish(plan.chunk(0), 1.0)
    assert meter.expected_seconds(plan.chunk(1).frames) is None  # the sound's pace is not the pictures'
    meter.move(plan.chunk(1), 30)
    meter.finish(plan.chunk(1), 45.0)
    meter.move(plan.chunk(2), 30)
    assert told == [0, 0.25, 0.75]
    assert meter.expected_seconds(plan.chunk(2).frames) == pytest.approx(45.0)


def test_a_recording_of_nothing_but_sound_moves_with_the_sound() -> None:
    plan = plan_of(Source("mov", None, audio(SECONDS)))
    told: list[float] = []
    Meter(plan, lambda fraction, *_: told.append(fraction)).move(plan.chunk(0), SECONDS / 4)
    assert told == [0.25]
