from __future__ import annotations

import math

import pytest

from appliance.domain.loudness import Correction, Loudness, correction, improved

WANTED = Loudness(-16, -1.5)


@pytest.mark.parametrize(
    ("lufs", "peak", "change"),
    [
        (-26, -20, Correction(10, None)),
        (-26, -8, Correction(10, -2.5)),
        (-9, 0.3, Correction(-7, None)),
        (-50, -40, Correction(30, None)),
        (-16.4, -3, None),
        (-16.2, 0.5, Correction(0, -2.5)),
        (-70, -math.inf, None),
        (-math.inf, -math.inf, None),
        (-62, -50, None),
    ],
    ids=["quiet", "peaks", "loud", "very quiet", "as wanted", "clipped", "silence", "nothing", "hiss"],
)
def test_a_sound_is_brought_to_its_loudness(lufs: float, peak: float, change: Correction | None) -> None:
    assert correction(Loudness(lufs, peak), WANTED) == change


def test_what_came_out_is_mended() -> None:
    done = Correction(10, -2.5)
    assert improved(done, Loudness(-16.2, -1.6), WANTED) is None
    assert improved(done, Loudness(-18, -2), WANTED) == Correction(14, -2.75)
    assert improved(done, Loudness(-16, -0.7), WANTED) == Correction(10, -3.5)
    assert improved(Correction(30, -2.5), Loudness(-25, -3), WANTED) is None
