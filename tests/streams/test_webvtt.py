from __future__ import annotations

from fractions import Fraction

from appliance.streams import webvtt

SAID = """WEBVTT

STYLE
::cue { color: lime }

one
00:01.000 --> 00:02.500 align:left
Hello,

world

00:05.000 --> 00:06.000


100:00:00.000 --> 100:00:01.000
a --> b
"""


def test_cues_keep_their_lines_and_settings() -> None:
    first, last = webvtt.cues(SAID)
    assert first == webvtt.Cue(Fraction(1), Fraction(5, 2), " align:left", ("Hello,", "world"))
    assert last.start_seconds == 360_000
    assert last.lines == ("a \u2192 b",)  # an arrow in the text would begin a cue


def test_cues_are_cut_to_the_presentation_and_sorted() -> None:
    said = "WEBVTT\n\n" + "\n\n".join(
        f"00:{start:02}.000 --> 00:{end:02}.000\n{name}"
        for name, start, end in (("late", 30, 31), ("second", 12, 40), ("first", 8, 12), ("before", 1, 9))
    )
    moved = webvtt.moved(said, lambda seconds: seconds - 10, Fraction(15))
    assert moved == (
        "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n\n"
        "00:00:00.000 --> 00:00:02.000\nfirst\n\n00:00:02.000 --> 00:00:15.000\nsecond\n"
    )


def test_nothing_said_is_an_empty_file_with_its_header() -> None:
    assert webvtt.moved("WEBVTT\n\n", lambda seconds: seconds, Fraction(10)) == webvtt.HEADER
