"""How loud a sound is (EBU R 128, ITU-R BS.1770), and what brings it to where listeners expect it."""

from __future__ import annotations

from dataclasses import dataclass, replace

#: A difference nobody hears, in LU.
TOLERANCE_LU = 0.5
#: More would only make noise loud, in dB.
MOST_GAIN_DB = 30.0
#: Quieter than this is silence with a hiss, in LUFS; the gate of BS.1770 reports -70 for digital silence.
SILENCE_LUFS = -60.0
#: Under a limiter a decibel more of gain is less than one of loudness.
UNDER_LIMIT = 2.0
#: What an AAC encoder may add to a peak, in dB.
OVERSHOOT_DB = 1.0


@dataclass(frozen=True)
class Loudness:
    """A measured sound, or a wanted one: integrated loudness in LUFS, true peak in dBTP."""

    lufs: float
    true_peak_db: float


@dataclass(frozen=True)
class Correction:
    """A gain in dB, then a limiter with this ceiling in dB; None: none is needed."""

    gain_db: float
    ceiling_db: float | None


def correction(found: Loudness, wanted: Loudness) -> Correction | None:
    """What to do to a sound; None for silence and for one that is as wanted."""
    if found.lufs <= SILENCE_LUFS:
        return None
    gain = min(MOST_GAIN_DB, wanted.lufs - found.lufs)
    if abs(gain) <= TOLERANCE_LU:
        gain = 0.0
    loud = found.true_peak_db + gain > wanted.true_peak_db - OVERSHOOT_DB
    limited = loud and (gain != 0.0 or found.true_peak_db > wanted.true_peak_db)
    if not gain and not limited:
        return None
    return Correction(gain, wanted.true_peak_db - OVERSHOOT_DB if limited else None)


def improved(done: Correction, came_out: Loudness, wanted: Loudness) -> Correction | None:
    """What to try after this one was encoded and measured: limiting makes quieter, encoding raises peaks.

    None where it holds. A gain at its bound is not raised.
    """
    short = wanted.lufs - came_out.lufs
    over = came_out.true_peak_db - wanted.true_peak_db
    better = done
    if abs(short) > TOLERANCE_LU:
        better = replace(better, gain_db=min(MOST_GAIN_DB, better.gain_db + short * UNDER_LIMIT))
    if over > 0 or better.gain_db > done.gain_db:  # more gain, more overshoot
        ceiling = wanted.true_peak_db - OVERSHOOT_DB if done.ceiling_db is None else done.ceiling_db
        better = replace(better, ceiling_db=ceiling - max(over * 1.25, OVERSHOOT_DB / 4))
    return None if better == done else better
