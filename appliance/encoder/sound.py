"""The sound of a video: measured, brought to the loudness that listeners expect, encoded, and measured again."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from appliance.adapters.ffmpeg import commands
from appliance.adapters.ffmpeg.run import Ended
from appliance.domain.loudness import Loudness, correction, improved
from appliance.domain.plan import Plan

#: Runs a program in the chunk's working directory; what it says of its progress is the chunk's, or nobody's.
Start = Callable[[list[str], bool], Ended]
#: Encodes after the first where limiting was not foreseen exactly; speech needs one at most.
TRIES = 2
LUFS, PEAK = re.compile(r"\bI:\s+(\S+) LUFS"), re.compile(r"\bPeak:\s+(\S+) dBFS")


def encode_sound(ffmpeg: str, plan: Plan, max_pixels: int, start: Start, source: str = commands.SOURCE) -> Ended:
    """Make `audio.mp4`; returns how the last encode ended. Without a target the sound stays as loud as it is."""
    assert plan.audio is not None
    wanted, change = plan.audio.loudness, None
    ended = None
    if wanted is not None:
        ended = start(commands.loudness(ffmpeg, plan, max_pixels=max_pixels, source=source), False)
        found = measured(ended)
        change = correction(found, wanted) if found else None
    if ended is None or not ended.reconfigured:
        ended = start(commands.audio_chunk(ffmpeg, plan, change, max_pixels=max_pixels, source=source), True)
    if ended.reconfigured and source == commands.SOURCE:
        even = start(commands.even_sound(ffmpeg, plan, max_pixels=max_pixels), False)
        one = replace(plan, audio=replace(plan.audio, stream_index=0))
        return even if even.status else encode_sound(ffmpeg, one, max_pixels, start, commands.EVEN_SOUND)
    for _ in range(TRIES):
        # without a limiter what was reckoned is what came out
        if wanted is None or change is None or change.ceiling_db is None or ended.status:
            break
        found = measured(start(commands.loudness_of_encoded(ffmpeg, max_pixels=max_pixels), False))
        change = improved(change, found, wanted) if found else None
        if change:
            ended = start(commands.audio_chunk(ffmpeg, plan, change, max_pixels=max_pixels, source=source), False)
    return ended


def measured(ended: Ended) -> Loudness | None:
    """What `ebur128` said in its summary, the last thing it says; None when it did not come so far."""
    words = "\n".join(ended.stderr)
    lufs, peak = LUFS.findall(words), PEAK.findall(words)
    return Loudness(float(lufs[-1]), float(peak[-1])) if lufs and peak and not ended.status else None
