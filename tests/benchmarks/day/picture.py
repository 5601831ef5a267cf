"""The day as an SVG in the style of the architecture's: how many hosts there are and how long videos wait."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from tests.benchmarks.day import oracle
from tests.benchmarks.day.arrivals import DAY_SECONDS, HOUR, Lecture
from tests.benchmarks.day.state import PERIOD_SECONDS, Outcome, Setting

WIDTH, HEIGHT, LEFT, RIGHT = 900, 400, 50, 745
#: Upper and lower edge of each panel.
HOSTS, WAITS = (44, 238), (288, 372)
#: Waits are shown by the half hour of their claim; a half hour with fewer claims says nothing.
SPAN_SECONDS, FEWEST = 1800.0, 20
BEGIN_HOUR = 4
STYLE = """
  text { fill: #1a1f27 } .small { font-size: 12px; fill: #4a5462 } .head { font-weight: 700 } .ground { fill: #fff }
  .need { fill: #dfe5ee } .away { fill: #fff3d6 } .grid { stroke: #c9d0da; stroke-width: 1 }
  .line { fill: none; stroke-width: 1.8 } .ours { stroke: #2456c8 } .old { stroke: #b3261e; stroke-dasharray: 5 3 }
  .oursword { fill: #2456c8 } .oldword { fill: #b3261e }
"""

Point = tuple[float, float]


def drawn(lectures: Sequence[Lecture], setting: Setting, ours: Outcome, old: Outcome) -> str:
    """The whole file."""
    needed = [(when, running / setting.slots) for when, running in oracle.needed(lectures) if when <= DAY_SECONDS]
    most = max(*ours.hosts, *old.hosts, *(hosts for _, hosts in needed))
    waits = {"ours": _waits(ours), "old": _waits(old)}
    longest = max(minutes for points in waits.values() for _, minutes in points)
    parts = [_frame(), _away(setting), _panel(HOSTS, most, "hosts"), _panel(WAITS, longest, "p95 wait in minutes")]
    parts.append(_area(_scaled(_thinned(needed), most, HOSTS)))
    for name, outcome in (("ours", ours), ("old", old)):
        hosts = [(minute * PERIOD_SECONDS, float(number)) for minute, number in enumerate(outcome.hosts)]
        parts += [_line(name, _scaled(_corners(hosts), most, HOSTS)), _line(name, _scaled(waits[name], longest, WAITS))]
    parts.append(_words(ours, old))
    return "\n".join([*parts, "</svg>\n"])


def _waits(outcome: Outcome) -> list[Point]:
    spans: dict[int, list[float]] = defaultdict(list)
    for claimed, wait in zip(outcome.claims, outcome.waits, strict=True):
        spans[int(claimed // SPAN_SECONDS)].append(wait)
    return [
        ((span + 0.5) * SPAN_SECONDS, sorted(found)[int(0.95 * len(found))] / 60)
        for span, found in sorted(spans.items())
        if len(found) >= FEWEST
    ]


def _corners(points: Sequence[Point]) -> list[Point]:
    """Without the points that say the same as those on either side of them."""
    inner = [b for a, b, c in zip(points, points[1:], points[2:], strict=False) if not a[1] == b[1] == c[1]]
    return [points[0], *inner, points[-1]]


def _thinned(steps: Iterable[Point]) -> list[Point]:
    """The last value of every three minutes: the picture has no room for more."""
    return list({int(when // (3 * PERIOD_SECONDS)): (when, value) for when, value in steps}.values())


def _scaled(points: Iterable[Point], most: float, panel: tuple[int, int]) -> list[Point]:
    top, bottom = panel
    return [
        (LEFT + when / DAY_SECONDS * (RIGHT - LEFT), bottom - value / most * (bottom - top)) for when, value in points
    ]


def _path(points: Iterable[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _line(name: str, points: list[Point]) -> str:
    return f'<path class="line {name}" d="{_path(points)}"/>'


def _area(points: list[Point]) -> str:
    bottom = HOSTS[1]
    return f'<path class="need" d="{_path([(points[0][0], bottom), *points, (points[-1][0], bottom)])}z"/>'


def _text(x: float, y: float, words: str, kind: str = "small", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{words}</text>'


def _frame() -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t" '
        'font-family="system-ui, sans-serif" font-size="14">\n'
        '<title id="t">Hosts and waiting times over a simulated day: direct mode follows the work, the old rule not'
        f'</title>\n<style>{STYLE}</style>\n<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="12"/>'
    )


def _away(setting: Setting) -> str:
    since, until = (LEFT + when / DAY_SECONDS * (RIGHT - LEFT) for when in setting.redis_away)
    storm = LEFT + setting.storm_at / DAY_SECONDS * (RIGHT - LEFT)
    return (
        f'<rect class="away" x="{since:.1f}" y="{HOSTS[0] - 20}" width="{until - since:.1f}" '
        f'height="{WAITS[1] - HOSTS[0] + 20}"/>'
        + _text(since - 6, HOSTS[0] - 8, "Redis is away, then EC2 takes a fifth of the hosts", anchor="end")
        + f'<path class="grid" d="M{storm:.1f} {HOSTS[0] - 20}V{WAITS[1]}"/>'
    )


def _panel(panel: tuple[int, int], most: float, words: str) -> str:
    top, bottom = panel
    parts = [f'<path class="grid" d="M{LEFT} {bottom}H{RIGHT}"/>', _text(LEFT, top - 8, words, "head")]
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * (bottom - top)
        parts += [
            f'<path class="grid" d="M{LEFT - 4} {y:g}H{LEFT}"/>',
            _text(LEFT - 8, y + 4, f"{share * most:.0f}", anchor="end"),
        ]
    for hour in range(0, 25, 4):
        x = LEFT + hour * HOUR / DAY_SECONDS * (RIGHT - LEFT)
        parts.append(_text(x, bottom + 16, f"{(hour + BEGIN_HOUR) % 24}:00", anchor="middle"))
    return "".join(parts)


def _words(ours: Outcome, old: Outcome) -> str:
    lines = [
        ("head oursword", "direct mode"),
        ("small", f"{ours.host_seconds / HOUR:.0f} hours"),
        ("small", f"{ours.killed} encodes killed"),
        ("head oldword", "old rule"),
        ("small", f"{old.host_seconds / HOUR:.0f} hours"),
        ("small", f"{old.killed} encodes killed"),
        ("small", "grey: hosts full of"),
        ("small", "what is there to do"),
    ]
    return "".join(
        _text(RIGHT + 12, HOSTS[0] + 20 * number + 6 * (number // 3), words, kind)
        for number, (kind, words) in enumerate(lines)
    )
