"""Filter graphs as text: from decoded frames of any kind to frames on the plan's grid, one branch per rung."""

from __future__ import annotations

import math
from enum import Enum
from fractions import Fraction

from appliance.domain.loudness import Correction
from appliance.domain.media import Rendition
from appliance.domain.plan import AAC_FRAME_SAMPLES, AUDIO_RATE, Chunk, Grid, Mode, Plan, Storyboard
from appliance.domain.tracks import GRID_TICKS, VideoTrack

#: Frames are pushed this share of an output frame past the grid, so that a source at twice the rate never falls on the
#: rounding edge: the same frames are chosen on both sides of every seam.
PHASE = 8
#: Largest hole in the sound's timestamps that is stretched over instead of filled with silence, in samples a second.
AUDIO_SLACK = 1
#: The `colorspace` filter's names of the YCbCr matrices, by swscale's.
COLORSPACES = {
    "bt601": "smpte170m",
    "bt2020": "bt2020nc",
    "smpte240m": "smpte240m",
    "fcc": "fcc",
}
#: Sound of any layout and rate in the one that everything after can count on.
STEREO = f"aresample={AUDIO_RATE},aformat=sample_fmts=s16:channel_layouts=stereo"
#: Loudness and true peak (one `loudnorm` pass takes ten times as long); only its summary is wanted.
METER = "ebur128=peak=true:framelog=quiet"
#: Share of 8x8 blocks, of 255, in which no sample differs from its neighbours by more than noise.
FLAT = (
    "format=gray,sobel,lutyuv=y=if(lte(val\\,6)\\,255\\,0),scale=max(1\\,trunc(iw/8)):max(1\\,trunc(ih/8)):flags=area,"
    "lutyuv=y=if(gte(val\\,254)\\,255\\,0),signalstats,metadata=mode=print:key=lavfi.signalstats.YAVG:file=-"
)
#: JPEG knows only full-range BT.601 (JFIF); the rungs are BT.709.
JPEG_COLOURS = "in_color_matrix=bt709:out_color_matrix=bt601:out_range=pc"
#: A picture with this share (percent) of nearly black pixels stands for nothing.
BLACK_SHARE = 98
#: Frames of the next chunk that x264 sees and that are dropped again: where its lookahead ends at the seam, the last
#: pictures before it come out up to five points of VMAF worse. veryfast looks ten frames ahead, over three B-frames.
BEYOND_FRAMES = 16
#: Key frames among which a poster is sought; they wait in memory.
POSTER_CANDIDATES = 30
#: The envelope of a sound on a dark ground. At 2000 samples a second, because all of it waits in memory: an hour at
#: 48 kHz would be a third of a gigabyte.
WAVE = (
    "aformat=channel_layouts=mono,aresample=2000,asetnsamples=2000,"
    "showwavespic=s=1280x720:colors=0x9ecbff:draw=full:scale=sqrt,"
    "format=rgb24,lutrgb=r=max(val\\,24):g=max(val\\,32):b=max(val\\,46),scale=out_color_matrix=bt601:out_range=pc"
)


#: What counts as a change: an 8x8 block whose 64 samples differ by this in all from the last frame that stayed (six
#: levels each on average: a dot of a letter), or this share of all blocks by half as much (a slow fade).
CHANGED_BLOCK, CHANGED_A_LITTLE, CHANGED_SHARE = 384, 192, 0.1
COMPARE = f"mpdecimate=hi={CHANGED_BLOCK}:lo={CHANGED_A_LITTLE}:frac={CHANGED_SHARE}"
_MARK, _TELL = "metadata=mode=add:key=grid:value=1", "metadata=mode=print:file=-:direct=1"
#: A line on stdout for each frame.
COUNT = f"{_MARK},{_TELL}"
#: For every eighth: enough to see that something moves, and a line costs whoever reads it 0.1 ms.
ALIVE = f"{_MARK}:enable=not(mod(n\\,8)),{_TELL}"
#: Samples a side of what is compared, in steps of half as much, in each plane; the first one's columns are left out.
BLOCK = 8
#: Columns of a bar left of the picture: of those that are left out, and of a block.
BAR = 2 * BLOCK


def at_most(rate: Fraction) -> str:
    """A source that is faster than the grid, one frame for each of its frames; a slower one as it is."""
    slot = f"floor({{}}*{rate}+1/{PHASE})"
    return f"select=isnan(prev_selected_t)+gt({slot.format('t')}\\,{slot.format('prev_selected_t')})"


class Bridge(Enum):
    """What is shown in a chunk without a picture of its own, because everything in it is garbage."""

    NONE = 0
    #: The last picture after the chunk's seek point.
    LAST = 1
    #: The last key picture of all before the chunk.
    KEY = 2


def encoded_frames(grid: Grid, chunk: Chunk) -> int:
    """The chunk's frames and what x264 sees of the next ones."""
    return min(chunk.frames + BEYOND_FRAMES, grid.frames - chunk.first_frame)


def video_graph(plan: Plan, chunk: Chunk, bridge: Bridge = Bridge.NONE) -> str:
    """Decode → upright (ffmpeg does it) → progressive → on the grid → exact count → cascade of rungs, each labelled."""
    track = plan.video
    assert track is not None
    steps = [
        *_one_size(track),
        *([f"bwdif=mode=send_frame:parity={track.deinterlace}:deint=all"] if track.deinterlace else []),
        *_on_the_grid(plan, chunk, track, bridge),
        *(_changes(plan.grid, track) if chunk.mode is Mode.REPEATS else []),
        *(["premultiply=inplace=1"] if track.transparent else []),  # on black
        *_to_sdr(track),
    ]
    return f"[0:{track.stream_index}]" + ",".join(steps) + "," + _cascade(track)


def _one_size(track: VideoTrack) -> list[str]:
    """Calls and screen shares change their size in the middle: such pictures are fitted into the first one's size.

    Nothing is done to pictures of that size.
    """
    size = f"{track.source_width}:{track.source_height}"
    if not track.letterbox:
        return [f"scale={size}"]
    return [f"scale={size}:force_original_aspect_ratio=decrease", f"pad={size}:-1:-1:eval=frame"]


def _moved(plan: Plan, start: int) -> str:
    """A time on the source's clock → ticks since `start`, without the gaps."""
    return f"PTS-({start})" + "".join(f"-gte(PTS\\,{gap.at})*{gap.length}" for gap in plan.gaps)


def _on_the_grid(plan: Plan, chunk: Chunk, track: VideoTrack, bridge: Bridge) -> list[str]:
    """`encoded_frames`, the first of them the picture that is on screen at the chunk's start.

    Where the sound outlasts the picture the chunk may begin after the last frame; then the grid is begun at that frame
    and the held pictures before the chunk are cut off.
    """
    grid = plan.grid
    count = encoded_frames(grid, chunk)
    hold = max(0, chunk.first_frame - max(0, track.frames - 1))
    start = chunk.first_frame - hold
    frame_ticks = GRID_TICKS * grid.rate_den // grid.rate_num
    offset = plan.origin_ticks + start * frame_ticks - frame_ticks // PHASE
    clock = [f"settb=1/{GRID_TICKS}", f"setpts={_moved(plan, offset)}"]
    if bridge is not Bridge.NONE:  # every grid frame since what was decoded, and on and on; `fps` alone ends there
        return [
            *clock,
            f"fps=fps={grid.rate_num}/{grid.rate_den}:round=near",
            "tpad=stop=-1:stop_mode=clone",
            f"trim=start_pts={hold}",
            "setpts=PTS-STARTPTS",
            f"trim=end_frame={count}",
        ]
    return [
        *clock,
        # start_time: frames before the chunk are dropped, but the last of them is held until the next one
        f"fps=fps={grid.rate_num}/{grid.rate_den}:start_time=0:round=near",
        # a decode that ends early is padded with its last picture
        "tpad=stop=-1:stop_mode=clone",
        f"trim=start_frame={hold}:end_frame={hold + count}",
        *(["setpts=PTS-STARTPTS"] if hold else []),
    ]


def stretch(plan: Plan, chunk: Chunk) -> int:
    """How many times slower than they are x264 is told that frames follow each other.

    It gives frames that stay longer more bits, up to those that stay a second; where repeats are dropped, a page would
    be as large as it is long. When every frame stays a second or more it treats all alike, and still counts the rate
    buffer by true times, which it does not with `force-cfr`.
    """
    return math.ceil(plan.grid.rate) if chunk.mode is Mode.REPEATS else 1


def _changes(grid: Grid, track: VideoTrack) -> list[str]:
    """Of the grid's frames the first two, those that begin a group, and those unlike the last one that stayed.

    A bar left of the picture, black and white in turns, is what makes these a change. The second one stays because
    FRAME-RATE is that of the frames that come fastest, and players reckon the rate from the first ones.
    """
    width, height = track.source_width, track.source_height
    return [
        # where nothing changes, nothing comes out for seconds, and that is no standstill
        ALIVE,
        f"pad={_whole_blocks(width + BAR)}:{max(2 * BLOCK, _whole_blocks(height))}:{BAR}:0",
        f"drawbox=x=0:y=0:w={BAR}:h=ih:color=white:t=fill:enable=mod(floor(n/{grid.gop_frames})+gte(n\\,1)\\,2)",
        COMPARE,
        f"crop={width}:{height}:{BAR}:0:exact=1",
        f"setpts=PTS*{math.ceil(grid.rate)}",
    ]


def _whole_blocks(length: int) -> int:
    """The comparison leaves out what is no whole block at the lower and right edges, and less than two of them."""
    return -(-length // BLOCK) * BLOCK


def _to_sdr(track: VideoTrack) -> list[str]:
    """PQ and HLG to BT.709 in linear light; everything else only gets its matrix and range in `_to_bt709`."""
    if not track.tone_map:
        return []
    levels = "pc" if track.full_range else "tv"
    return [
        f"zscale=transferin={track.tone_map}:primariesin=bt2020:matrixin=bt2020nc:rangein={levels}:transfer=linear:npl=100",
        "format=gbrpf32le",
        "zscale=primaries=bt709",
        "tonemap=hable:desat=0",
        "zscale=transfer=bt709:matrix=bt709:range=tv",
    ]


def _cascade(track: VideoTrack) -> str:
    """Each rung is scaled from the one above it: less work than from the source, and measured no worse."""
    first, *rest = track.rungs
    parts = [",".join([*top(track, first), *_fan_out(first, 0, rest)])]
    for number, rung in enumerate(rest, start=1):
        scale = f"[s{number}]scale={rung.width}:{rung.height}:flags=bicubic,setsar=1"
        parts.append(",".join([scale, *_fan_out(rung, number, rest[number:])]))
    return ";".join(parts)


def top(track: VideoTrack, rung: Rendition) -> list[str]:
    """From the source's size and colours to the highest rung's."""
    # accurate_rnd: no drift of the colours over four generations of scaling
    size = f"scale={rung.width}:{rung.height}:flags=bicubic+accurate_rnd"
    return [
        *_to_bt709(track, size),
        "setsar=1",
        "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709",
    ]


def _to_bt709(track: VideoTrack, size: str) -> list[str]:
    """Scaled to `size`, 4:2:0 in eight bits, with BT.709's matrix and limited range.

    swscale changes a matrix on a way that takes twenty times as long as the `colorspace` filter (2.3 against 0.1 ms for
    826x590); that one knows only plain YCbCr of limited range.
    """
    matrix = "bt709" if track.tone_map else track.matrix
    if not track.planes or track.full_range or matrix == "bt709":
        return [f"{size}:in_color_matrix={matrix}:out_color_matrix=bt709:out_range=tv", "format=yuv420p"]
    others = "".join(f":{kind}=bt709:i{kind}=bt709" for kind in ("primaries", "trc"))  # left as they are
    return [
        "setparams=colorspace=bt709",  # so that swscale sees nothing to change
        size,
        "format=yuv420p",
        f"colorspace=ispace={COLORSPACES[matrix]}:space=bt709:irange=tv:range=tv{others}",
    ]


def _fan_out(rung: Rendition, number: int, below: list[Rendition]) -> list[str]:
    return [f"split=2[{rung.name}][s{number + 1}]"] if below else [f"null[{rung.name}]"]


def sprites(board: Storyboard, gop: int) -> str:
    """Of the key frames every so many, small, in sheets."""
    return (
        f"select=not(mod(n\\,{board.interval_frames // gop})),"
        f"scale={board.width}:{board.height}:flags=bicubic:{JPEG_COLOURS},tile={board.columns}x{board.rows}"
    )


def poster(width: int, height: int, *, any_picture: bool) -> str:
    """The most ordinary of the key frames that are not black; `any_picture`: the first."""
    choose = [
        "blackframe=amount=0",
        f"metadata=mode=select:key=lavfi.blackframe.pblack:value={BLACK_SHARE}:function=less",
        f"thumbnail=n={POSTER_CANDIDATES}",
    ]
    return ",".join([*([] if any_picture else choose), f"scale={width}:{height}:{JPEG_COLOURS}"])


def audio_graph(plan: Plan, change: Correction | None) -> str:
    """Sound from output time 0, as loud as wanted, cut or padded to exactly the plan's AAC frames."""
    samples = plan.audio_frames * AAC_FRAME_SAMPLES
    steps = [*_sound(plan), *_louder(change), "apad", f"atrim=end_sample={samples}"]
    return ",".join(steps) + "[audio]"


def loudness_graph(plan: Plan) -> str:
    """The same sound into the meter, which says what it measured at the end."""
    return ",".join([*_sound(plan), METER]) + "[audio]"


def _sound(plan: Plan) -> list[str]:
    """From output time 0 on, holes filled with silence, in the layout and rate of the output."""
    track = plan.audio
    assert track is not None
    layout = "mono" if track.channels == 1 else "stereo"
    return [
        f"[0:{track.stream_index}]asettb=1/{GRID_TICKS}",
        f"asetpts={_moved(plan, plan.origin_ticks)}",
        f"aresample={AUDIO_RATE}:async={AUDIO_SLACK}:first_pts=0",
        f"aformat=sample_fmts=fltp:sample_rates={AUDIO_RATE}:channel_layouts={layout}",
    ]


def _louder(change: Correction | None) -> list[str]:
    if change is None:
        return []
    steps = [f"volume={change.gain_db:.2f}dB"]
    if change.ceiling_db is not None:
        # latency: the limiter looks ahead, and the sound must not come later than the picture
        steps.append(f"alimiter=limit={10 ** (change.ceiling_db / 20):.4f}:level=false:latency=1")
    return steps
