from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.media import DEFAULT_LADDER, RATES, busiest_rate, display_size, ladder, snap_rate


@pytest.mark.parametrize(
    ("size", "rungs"),
    [
        ((1920, 1080), ["1920x1080", "1280x720", "854x480", "640x360"]),
        ((1080, 1920), ["1080x1920", "720x1280", "480x854", "360x640"]),
        ((3840, 2160), ["1920x1080", "1280x720", "854x480", "640x360"]),
        ((826, 590), ["826x590", "672x480", "504x360"]),
        ((1138, 540), ["1138x540", "1012x480", "758x360"]),
        ((854, 480), ["854x480", "640x360"]),
        ((176, 144), ["176x144"]),
        ((2, 2), ["2x2"]),
    ],
)
def test_ladder_never_enlarges_and_follows_the_short_side(size: tuple[int, int], rungs: list[str]) -> None:
    assert [f"{rung.width}x{rung.height}" for rung in ladder(*size, DEFAULT_LADDER)] == rungs


@given(st.integers(2, 8192), st.integers(2, 8192))
def test_every_rung_is_even_and_not_larger_than_the_picture(width: int, height: int) -> None:
    width, height = display_size(width, height, Fraction(1))
    rungs = ladder(width, height, DEFAULT_LADDER)
    assert rungs
    for rung in rungs:
        assert rung.width % 2 == rung.height % 2 == 0
        assert rung.width <= width
        assert rung.height <= height


@pytest.mark.parametrize(
    ("pixels", "aspect", "shown"),
    [
        ((720, 576), Fraction(16, 15), (768, 576)),
        ((352, 288), Fraction(64, 45), (500, 288)),
        ((1440, 1080), Fraction(4, 3), (1920, 1080)),
        ((1080, 1440), Fraction(3, 4), (1080, 1920)),
        ((161, 121), Fraction(1), (160, 120)),
    ],
)
def test_pixels_become_square_and_even(pixels: tuple[int, int], aspect: Fraction, shown: tuple[int, int]) -> None:
    assert display_size(*pixels, aspect) == shown


@pytest.mark.parametrize(
    ("source", "output"),
    [
        (Fraction(60), Fraction(30)),
        (Fraction(60000, 1001), Fraction(30000, 1001)),
        (Fraction(50), Fraction(25)),
        (Fraction(120), Fraction(30)),
        (Fraction(24), Fraction(24)),
        (Fraction(24000, 1001), Fraction(24000, 1001)),
        (Fraction(2997, 100), Fraction(30000, 1001)),
        (Fraction(15), Fraction(15)),
        (Fraction(5), Fraction(10)),
        (Fraction(14), Fraction(15)),
        (Fraction(57600), Fraction(30)),
    ],
)
def test_rates_snap_to_the_fields_rates(source: Fraction, output: Fraction) -> None:
    assert snap_rate(source) == output


@given(st.fractions(Fraction(1, 10), Fraction(100000)))
def test_any_rate_snaps_to_one_of_ours(rate: Fraction) -> None:
    assert snap_rate(rate) in RATES


def test_the_busiest_stretch_decides_the_rate() -> None:
    slow = [Fraction(second) for second in range(20)]
    fast = [Fraction(20) + Fraction(frame, 25) for frame in range(50)]
    assert busiest_rate(slow + fast, None) == 25


def test_a_declared_rate_is_taken_when_rounded_timestamps_say_nearly_the_same() -> None:
    rounded = [Fraction(round(frame * 1001 / 30), 1000) for frame in range(90)]
    assert busiest_rate(rounded, Fraction(30000, 1001)) == Fraction(30000, 1001)


def test_an_absurd_declared_rate_is_not_believed() -> None:
    assert busiest_rate([Fraction(frame, 30) for frame in range(60)], Fraction(57600)) == 30
