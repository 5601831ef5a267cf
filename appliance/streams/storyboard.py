"""The storyboard of the seek bar as WebVTT: each cue names a piece of a sprite sheet, as players expect it."""

from __future__ import annotations

from fractions import Fraction

from appliance.streams.presentation import Presentation

NAME = "storyboard.vtt"


def storyboard(presentation: Presentation) -> str:
    """One cue a picture, with a media fragment of its sheet (Media Fragments URI 1.0 §4.2.2)."""
    board, rate = presentation.plan.storyboard, presentation.plan.grid.rate
    assert board is not None, "without pictures there is no storyboard"
    cues = [
        f"{timestamp(picture.first / rate)} --> {timestamp(picture.last / rate)}\n"
        f"{picture.uri}#xywh={picture.x},{picture.y},{board.width},{board.height}\n"
        for picture in presentation.pictures
    ]
    return "\n".join(["WEBVTT\n", *cues])


def timestamp(seconds: Fraction) -> str:
    """As WebVTT has it: hours, minutes, seconds, milliseconds."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    minutes, left = divmod(whole, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{left:02}.{thousandths:03}"
