"""Every ffmpeg and ffprobe command line, built by pure functions; each flag with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from appliance.adapters.ffmpeg import filters
from appliance.adapters.ffmpeg.filters import Bridge
from appliance.domain.content import Content
from appliance.domain.gaps import opened
from appliance.domain.loudness import Correction
from appliance.domain.media import Rendition, fitted, level
from appliance.domain.plan import Chunk, Grid, Plan, Storyboard
from appliance.domain.tracks import GRID_TICKS

#: The source's name in the job's private directory: never the user's.
SOURCE = "source"
POSTER = "poster.jpg"
EVEN_SOUND = "sound.mka"
#: Enough to see movement, and for a still picture whose fields seem to come in turns to show both turns.
SCANNED_FRAMES = 120
#: A poster fits into this, in pixels.
POSTER_SHORT, POSTER_LONG = 720, 1280
#: Subtitles are written this much later than they are, so that those before output time 0 have a time too, in seconds.
TEXT_LEAD = 3600
#: Real containers only: a playlist, a concat script or an SDP named `.mp4` must not open other files (F45).
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,wav,w64,mp3,flac,aac,mxf,"
    "h264,hevc,ivf,gif,ac3,eac3,dts,amr,amrnb,amrwb,aiff,caf,m4v,h263,obu,au,dv"
)
PROTOCOLS = "file,pipe,fd"
#: How x264 encodes what is dropped again: its lookahead sees the same, so the pictures before come out as they did.
CHEAPLY = "q=51,me=dia,subme=0,merange=4,no-8x8dct"
#: CRF that frames get because they stay: the repeats of a constant rate would have made them better. Measured on five
#: recordings of screens for the bytes and the VMAF of such an encode.
LONG_LOOKED_AT = 0.5
#: A screen's text moves by whole pixels, so less is sought between them: measured on five recordings with the default
#: preset, an eighth to a fifth of the CPU time for 2 to 5 % more bytes at equal VMAF. A preset set for screens stays.
SCREEN = {"veryfast": ["subme=1"]}
#: Frames that x264's presets keep to predict from, where these are more than its B-frames need anyway.
REFERENCES = {"slow": 5, "slower": 8, "veryslow": 16}


def guarded_input(max_pixels: int) -> list[str]:
    """What stands before `-i` in every call, whoever makes it (MEDIA §2)."""
    return [
        "-protocol_whitelist", PROTOCOLS,  # no network, no crypto, no subfile: one upload must not read another
        "-format_whitelist", FORMATS,  # no demuxer that opens what a file names
        "-max_pixels", str(max_pixels),  # a small PNG can ask for gigabytes (F46)
    ]  # fmt: skip


def probe(ffprobe: str, max_pixels: int) -> list[str]:
    """Container and streams as JSON."""
    return [
        ffprobe, "-v", "error", *guarded_input(max_pixels),
        "-of", "json", "-show_format", "-show_streams", "-show_chapters",
        "-i", f"file:{SOURCE}",
    ]  # fmt: skip


def packets(ffprobe: str, max_pixels: int) -> list[str]:
    """Every packet's stream, times, size and flags, one CSV line each: header durations lie, packets do not."""
    return [
        ffprobe, "-v", "error", *guarded_input(max_pixels),
        "-of", "csv=p=0", "-show_entries", "packet=stream_index,pts,dts,duration,size,flags",
        "-i", f"file:{SOURCE}",
    ]  # fmt: skip


def trial(ffmpeg: str, max_pixels: int, stream_index: int, kind: str, *, decoder: str = "") -> list[str]:
    """Decode until the first frame of one stream comes out; its checksum (or cue) on stdout is the proof."""
    return [
        ffmpeg, "-hide_banner", "-nostdin", "-nostats", "-v", "info", *guarded_input(max_pixels),
        *_decoder(decoder),
        "-i", f"file:{SOURCE}",
        "-map", f"0:{stream_index}",
        *{"v": ["-vf", "trim=end_frame=1,showinfo=checksum=0"], "a": ["-af", filters.STEREO]}.get(kind, []),
        f"-frames:{kind}", "1",
        *(["-c:s", "webvtt", "-f", "webvtt"] if kind == "s" else ["-f", "framecrc"]), "pipe:1",
    ]  # fmt: skip


def scan(
    ffmpeg: str, max_pixels: int, stream_index: int, at_seconds: float, *, grid: Fraction | None = None
) -> list[str]:
    """Ask `idet` if some seconds of pictures are two fields each; with `grid`, a line on stdout for each change."""
    asked = ["-vf", "idet", "-frames:v", str(SCANNED_FRAMES)]
    if grid:
        graph = f"trim=end_frame={SCANNED_FRAMES},idet,{filters.at_most(grid)},{filters.COMPARE},{filters.COUNT}"
        asked = ["-vf", graph, "-fps_mode", "passthrough"]
    return [
        ffmpeg, "-hide_banner", "-nostdin", "-nostats", "-v", "info", *guarded_input(max_pixels),
        "-noaccurate_seek",  # any key frame near there will do; pictures on the way to the exact one cost as much
        "-ss", f"{at_seconds:.3f}",
        "-i", f"file:{SOURCE}",
        "-map", f"0:{stream_index}",
        *asked, "-f", "null", "-",
    ]  # fmt: skip


def look(
    ffmpeg: str, max_pixels: int, stream_index: int, at_seconds: Sequence[float], *, decoder: str = ""
) -> list[str]:
    """The share of flat blocks in the key frames at or before these times, one line each on stdout."""
    command = [ffmpeg, "-hide_banner", "-nostdin", "-nostats", "-v", "error"]
    for at in at_seconds:
        command += [
            *guarded_input(max_pixels),
            "-noaccurate_seek", "-ss", f"{at:.3f}", "-threads", "1",  # no frames in advance
            *_decoder(decoder), "-i", f"file:{SOURCE}",
        ]  # fmt: skip
    for number in range(len(at_seconds)):
        command += ["-map", f"{number}:{stream_index}", "-vf", filters.FLAT, "-frames:v", "1", "-f", "null", "-"]
    return command


def _decoder(name: str) -> list[str]:
    return ["-c:v", name] if name else []


def video_chunk(
    ffmpeg: str,
    plan: Plan,
    chunk: Chunk,
    *,
    preset: str,
    threads: int,
    max_pixels: int,
    bridge: Bridge = Bridge.NONE,
) -> list[str]:
    """One decode, all rungs: `{rung}.mp4` each in the working directory."""
    assert plan.video is not None
    command = [
        ffmpeg, "-hide_banner", "-nostdin", "-y",
        "-v", "verbose",  # the summary says how many frames were decoded
        "-max_error_rate", "1",  # a damaged minute is bridged and warned about, not refused
        "-nostats", "-progress", "pipe:1",  # output time, to show progress and to notice a standstill
        *guarded_input(max_pixels),
        *_clock(plan),
        *(["-skip_frame", "nokey"] if bridge is Bridge.KEY else _seek(plan, chunk)),
        "-reinit_filter", "0",  # a new size in the middle is the graph's business: a new graph would begin again
        *_decoder(plan.video.decoder),
        "-threads", str(threads),  # of the decoder: frames side by side cost memory and save no CPU time
        "-i", f"file:{SOURCE}",
        "-filter_complex_threads", str(threads),
        "-filter_complex", filters.video_graph(plan, chunk, bridge),
    ]  # fmt: skip
    for rung in plan.video.rungs:
        command += _rung(rung, plan, chunk, preset, threads)
    return command


def _jpeg(quality: str) -> list[str]:
    return [
        "-map_metadata", "-1", "-bitexact",
        "-c:v", "mjpeg", "-q:v", quality,  # 2 is best, 31 worst
        "-f", "image2",
    ]  # fmt: skip


# Pictures are made of what was just encoded: of its key frames alone, which costs next to nothing. A branch of the
# encode's own graph would cost its progress: ffmpeg reports none before every output has begun.


def sprites(ffmpeg: str, rung: Rendition, board: Storyboard, gop: int, *, max_pixels: int) -> list[str]:
    """The storyboard's sheets of one chunk: `sprite_00001.jpg`, … in the working directory."""
    graph = filters.sprites(board, gop)
    return [*_key_frames(ffmpeg, rung, max_pixels), "-vf", graph, *_jpeg("5"), "sprite_%05d.jpg"]


def poster(ffmpeg: str, rung: Rendition, *, any_picture: bool, max_pixels: int) -> list[str]:
    """One picture that stands for all: `poster.jpg` in the working directory."""
    size = fitted(rung.width, rung.height, POSTER_SHORT, POSTER_LONG)
    graph = filters.poster(*size, any_picture=any_picture)
    return [*_key_frames(ffmpeg, rung, max_pixels), "-vf", graph, *_one_picture()]


def wave(ffmpeg: str, *, max_pixels: int) -> list[str]:
    """The encoded sound as a picture: `poster.jpg` in the working directory."""
    return [
        ffmpeg, "-hide_banner", "-nostdin", "-y", "-v", "error",
        *guarded_input(max_pixels),
        "-i", "file:audio.mp4",
        "-filter_complex", filters.WAVE, *_one_picture(),
    ]  # fmt: skip


def _key_frames(ffmpeg: str, rung: Rendition, max_pixels: int) -> list[str]:
    return [
        ffmpeg, "-hide_banner", "-nostdin", "-y", "-v", "error",
        *guarded_input(max_pixels),
        "-skip_frame", "nokey",
        "-i", f"file:{rung.name}.mp4",
        "-fps_mode", "passthrough",
    ]  # fmt: skip


def _one_picture() -> list[str]:
    return ["-frames:v", "1", *_jpeg("3"), "-update", "1", POSTER]


def _clock(plan: Plan) -> list[str]:
    """The source's own clock, so that the grid has one phase in the whole video; or ffmpeg's, where that jumps."""
    return [] if plan.continuous else ["-copyts"]


def _seek(plan: Plan, chunk: Chunk) -> list[str]:
    """To the key frame at or before the picture that is on screen when the chunk starts."""
    if chunk.first_frame == 0:
        return []
    assert plan.video is not None
    # MP4 seeks by decode time: as far back as a picture may be decoded before it is shown
    frame = Fraction(plan.grid.rate_den * GRID_TICKS, plan.grid.rate_num)
    shown = opened(plan.gaps, plan.origin_ticks + round((chunk.first_frame - 1) * frame))
    at = Fraction(shown - plan.video.reorder_ticks, GRID_TICKS)
    return [
        "-noaccurate_seek",  # an accurate seek throws that picture away when it began earlier
        "-seek_timestamp", "1",  # on the source's clock, not counted from its start
        "-ss", f"{float(at):.6f}",
    ]  # fmt: skip


def _rung(rung: Rendition, plan: Plan, chunk: Chunk, preset: str, threads: int) -> list[str]:
    assert plan.video is not None
    grid, slow, own = plan.grid, filters.stretch(plan, chunk), plan.video.preset
    special = SCREEN.get(preset, []) if plan.video.content is Content.SCREEN and not own else []
    preset = own or preset
    gop, count = str(grid.gop_frames), filters.encoded_frames(grid, chunk)
    # x264 counts frames, and where repeats are dropped nobody knows how many there are before the seam
    zone = [f"zones={chunk.frames},{count},{CHEAPLY}"] if count > chunk.frames and slow == 1 else []
    # what x264 makes of frames that last a second instead of one of the grid, taken back (its `qcomp` is 0.6)
    crf = rung.crf + (6 * 0.4 * math.log2(grid.rate) - LONG_LOOKED_AT if slow > 1 else 0)
    return [
        "-map", f"[{rung.name}]",
        "-c:v", "libx264", "-preset", preset, "-profile:v", "high",
        *(["-tune", plan.video.tune] if plan.video.tune else []),
        "-crf", f"{round(crf, 2):g}",
        "-maxrate", str(rung.maxrate // slow), "-bufsize", str(rung.bufsize),  # capped CRF
        "-g", gop, "-keyint_min", gop, "-sc_threshold", "0", "-flags", "+cgop",  # an IDR exactly every GOP
        *_forced_keys(grid, slow),
        "-bf", "3", "-threads", str(threads),
        "-x264-params",
        ":".join([*_rate_control(plan, rung, preset), *special, "stitchable=1", *zone]),  # equal headers
        "-frames:v", str(count), *_packets(plan, chunk, count),
        "-fps_mode", "passthrough",  # the graph has put the frames on the grid already
        "-enc_time_base", f"{slow * grid.rate_den}:{grid.rate_num}",  # one tick a frame inside x264
        *_fragmented(),
        *(["-write_btrt", "0"] if plan.drops_repeats else []),  # it would tell each chunk's own -maxrate
        "-video_track_timescale", str(grid.timescale),
        f"file:{rung.name}.mp4",
    ]  # fmt: skip


def _forced_keys(grid: Grid, slow: int) -> list[str]:
    """x264 counts frames, so where some are missing it is told when a group of pictures begins."""
    every = float(slow * grid.gop_frames / grid.rate)
    return ["-force_key_frames", f"expr:gte(t,n_forced*{every}-{float(slow / grid.rate / 2)})"] if slow > 1 else []


def _rate_control(plan: Plan, rung: Rendition, preset: str) -> list[str]:
    """No rate games with frame times. Chunks of one video need one header: the same rate and level in each."""
    grid = plan.grid
    if not plan.drops_repeats:
        return ["force-cfr=1"]
    # without force-cfr, which would say in the header that all frames are equally long; where they are, it is the same
    return [f"fps={grid.rate_num}/{grid.rate_den}", f"level={level(rung, grid.rate, REFERENCES.get(preset, 4))}"]


def _packets(plan: Plan, chunk: Chunk, count: int) -> list[str]:
    """What is done to packets before they are written."""
    grid, slow = plan.grid, filters.stretch(plan, chunk)
    steps = []
    if count > chunk.frames:
        # the next chunk begins with an IDR: the packets before it are this chunk's, in any order
        end = (
            f"pts*tb\\,{float(slow * (chunk.frames - Fraction(1, 2)) / grid.rate)}"
            if slow > 1
            else f"n\\,{chunk.frames}"
        )
        steps.append(f"noise=drop=gte({end})")
    if plan.drops_repeats:  # x264 was told another clock in some chunks; all have one header
        steps.append(f"h264_metadata=tick_rate={2 * grid.rate}")
    return ["-bsf:v", ",".join(steps)] if steps else []


def audio_chunk(
    ffmpeg: str, plan: Plan, change: Correction | None = None, *, max_pixels: int, source: str = SOURCE
) -> list[str]:
    """The whole sound in one run: `audio.mp4` in the working directory."""
    assert plan.audio is not None
    return [
        ffmpeg, "-hide_banner", "-nostdin", "-y", "-v", "verbose", "-max_error_rate", "1",
        "-nostats", "-progress", "pipe:1",
        *guarded_input(max_pixels),
        *_clock(plan),
        "-i", f"file:{source}",
        "-filter_complex", filters.audio_graph(plan, change),
        "-map", "[audio]",
        "-c:a", "aac", "-b:a", str(plan.audio.bitrate),
        *_fragmented(),
        "file:audio.mp4",
    ]  # fmt: skip


def even_sound(ffmpeg: str, plan: Plan, *, max_pixels: int) -> list[str]:
    """Sound that changes its format in the middle → `sound.mka`, at the same times in one format."""
    assert plan.audio is not None
    return [
        ffmpeg, "-hide_banner", "-nostdin", "-y", "-v", "verbose", "-max_error_rate", "1",
        "-nostats", "-progress", "pipe:1",
        *guarded_input(max_pixels),
        *_clock(plan),
        "-i", f"file:{SOURCE}",
        "-map", f"0:{plan.audio.stream_index}", "-af", filters.STEREO,
        "-c:a", "flac", "-f", "matroska", f"file:{EVEN_SOUND}",
    ]  # fmt: skip


def loudness(ffmpeg: str, plan: Plan, *, max_pixels: int, source: str = SOURCE) -> list[str]:
    """Measure the source's sound, as it will be encoded but for its loudness."""
    return [
        ffmpeg, "-hide_banner", "-nostdin", "-v", "info", "-max_error_rate", "1",
        "-nostats", "-progress", "pipe:1",
        *guarded_input(max_pixels),
        *_clock(plan),
        "-i", f"file:{source}",
        "-filter_complex", filters.loudness_graph(plan),
        "-map", "[audio]", "-f", "null", "-",
    ]  # fmt: skip


def loudness_of_encoded(ffmpeg: str, *, max_pixels: int) -> list[str]:
    """Measure what was encoded: limiting makes it quieter, and AAC adds to its peaks."""
    return [
        ffmpeg, "-hide_banner", "-nostdin", "-v", "info", "-nostats", "-progress", "pipe:1",
        *guarded_input(max_pixels),
        "-i", "file:audio.mp4",
        "-af", filters.METER, "-f", "null", "-",
    ]  # fmt: skip


def text_chunk(ffmpeg: str, plan: Plan, *, max_pixels: int) -> list[str]:
    """All text subtitles in one pass over the file: `{track}.raw` each, WebVTT, TEXT_LEAD after output time."""
    command = [
        ffmpeg, "-hide_banner", "-nostdin", "-y", "-v", "verbose", "-max_error_rate", "1",
        *guarded_input(max_pixels),
        *_clock(plan),
        "-i", f"file:{SOURCE}",
    ]  # fmt: skip
    for track in plan.text:
        command += [
            "-map", f"0:{track.stream_index}", "-map_metadata", "-1",
            "-output_ts_offset", f"{float(TEXT_LEAD - Fraction(plan.origin_ticks, GRID_TICKS)):.6f}",
            "-c:s", "webvtt", "-f", "webvtt", f"file:{track.name}.raw",
        ]  # fmt: skip
    return command


def _fragmented() -> list[str]:
    """Fragments the packager can cut: no edit list, decode times from zero, nothing from the source's metadata."""
    return [
        "-map_metadata", "-1", "-map_chapters", "-1",  # a teacher's phone writes its position into the file
        "-bitexact",  # no version strings: two hosts with one plan write the same init
        "-f", "mp4",
        "-movflags", "+frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets+skip_sidx",
        "-use_editlist", "0",
    ]  # fmt: skip
