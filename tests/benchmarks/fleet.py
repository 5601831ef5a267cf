"""`bench fleet`: a day of lectures on a simulated fleet of 2,000 encoders, under the rules that scale it.

`day/world.py` says what is real and what is modelled. The oracle knows the day beforehand: nobody waits, and hosts are
booted just in time and packed as if encodes could move; it loses none. The frontier is searched on a fifth of the
fleet: for how many videos a host of eight slots is asked for, how long fewer hosts must have been enough, the group's
minimum.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from appliance.config import Fleet
from tests.benchmarks.day import oracle, picture
from tests.benchmarks.day.arrivals import HOUR, Lecture, lectures
from tests.benchmarks.day.rules import Direct, Old, Tracking
from tests.benchmarks.day.state import PERIOD_SECONDS, Outcome, Setting
from tests.benchmarks.day.world import Rule, World
from tests.benchmarks.measure import Figure, parser, tell

SLOTS, ENCODERS = 8, 2000
OLD = "old rule, visible messages only"
#: So many that the evening needs 1,900 encoders of 2,000.
LECTURES_PER_ENCODER = 11.25
HOURS_TARGET = 1.3
STABLE_ZERO_SECONDS = Fleet().stable_zero_seconds
TARGETS, PATIENCES, MINIMA = (6, 8, 10), (300.0, 1200.0, 3600.0), (0, 1, 10)


@dataclass(frozen=True)
class Fleetful:
    """The lectures of a day and the fleet they are for."""

    lectures: list[Lecture]
    setting: Setting
    seed: int

    @staticmethod
    def of(encoders: int, seed: int) -> Fleetful:
        setting = Setting(slots=SLOTS, maximum=encoders // SLOTS)
        return Fleetful(lectures(int(encoders * LECTURES_PER_ENCODER), seed), setting, seed)

    def day(self, rule: Rule, **changes: Any) -> Outcome:
        return World(self.lectures, replace(self.setting, **changes), rule, self.seed).run()

    def oracle_hours(self) -> float:
        return oracle.host_seconds(self.lectures, self.setting) / HOUR


def percentile(values: list[float], share: float) -> float:
    """0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def told(outcome: Outcome, oracle_hours: float) -> dict[str, float]:
    """Waits in seconds; `found`: from a host's unannounced end to the next claim of what it held."""
    hours = outcome.host_seconds / HOUR
    return {
        "hours": round(hours),
        "÷ oracle": round(hours / oracle_hours, 2),
        **{f"p{share}": round(percentile(outcome.waits, share / 100)) for share in (50, 95, 99)},
        "longest": round(max(outcome.waits)),
        "launches": outcome.launches,
        "thrash": outcome.thrash,
        "killed": outcome.killed,
        "handed over": outcome.handed_over,
        "lost": outcome.lost_hosts,
        "found": round(percentile(outcome.recoveries, 0.5)),
        "found p99": round(percentile(outcome.recoveries, 0.99)),
    }


def line(name: str, row: dict[str, float]) -> str:
    return f"{name:40}" + "".join(f"{value:>{len(title) + 2}g}" for title, value in row.items())


def days(fleet: Fleetful) -> Iterator[tuple[str, Outcome]]:
    """The same day under each rule."""
    yield "direct mode", fleet.day(Direct(SLOTS, STABLE_ZERO_SECONDS))
    yield "target tracking", fleet.day(Tracking(SLOTS))
    yield "direct mode, nobody helps", fleet.day(Direct(SLOTS, STABLE_ZERO_SECONDS), help=False)
    yield OLD, fleet.day(Old(SLOTS, STABLE_ZERO_SECONDS), protect=False)


def settings(fleet: Fleetful, *, quick: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """Each setting of direct mode and of target tracking, with what it came to."""
    oracle_hours = fleet.oracle_hours()
    targets, patiences, minima = ((8,), (1200.0,), (1,)) if quick else (TARGETS, PATIENCES, MINIMA)
    for target, minimum in itertools.product(targets, minima):
        ways = {f"direct, {patience / 60:.0f} min": Direct(target, patience) for patience in patiences}
        for way, rule in {**ways, "tracking": Tracking(target)}.items():
            found = told(fleet.day(rule, minimum=minimum), oracle_hours)
            yield f"{way}, {target} a host, minimum {minimum}", found


def frontier(rows: list[tuple[str, dict[str, float]]]) -> list[tuple[str, dict[str, float]]]:
    """Those that no other beats in both waiting (p95) and instance-hours, the cheapest first."""
    kept: list[tuple[str, dict[str, float]]] = []
    for name, row in sorted(rows, key=lambda one: (one[1]["hours"], one[1]["p95"])):
        if not kept or row["p95"] < kept[-1][1]["p95"]:
            kept.append((name, row))
    return kept


def figures(fleet: Fleetful, *, quick: bool, say: Callable[[str], None], draw: Path | None) -> Iterator[Figure]:
    """What must hold of our two ways and of the old one, then the frontier."""
    oracle_hours, allowed = fleet.oracle_hours(), fleet.setting.boot_seconds + 2 * PERIOD_SECONDS
    say(
        f"{len(fleet.lectures)} lectures, {fleet.setting.maximum} hosts at most; "
        f"the oracle: {oracle_hours:.0f} hours, no wait"
    )
    outcomes = dict(days(fleet))
    rows = {name: told(outcome, oracle_hours) for name, outcome in outcomes.items()}
    say(f"{'':40}" + "".join(f"  {title}" for title in rows[OLD]))
    for name, row in rows.items():
        say(line(name, row))
    for name in ("direct mode", "target tracking"):
        yield Figure(f"{name}: p95 wait beyond the oracle's, s", rows[name]["p95"], allowed, raw=rows[name])
        yield Figure(f"{name}: instance-hours ÷ oracle's", rows[name]["÷ oracle"], HOURS_TARGET)
        yield Figure(f"{name}: encodes killed by scale-in", rows[name]["killed"], 0.0)
    yield Figure(f"{OLD}: encodes killed by scale-in", rows[OLD]["killed"], 1.0, at_least=True, raw=rows[OLD])
    if draw is not None:
        draw.write_text(picture.drawn(fleet.lectures, fleet.setting, outcomes["direct mode"], outcomes[OLD]))
    small = Fleetful.of(fleet.setting.maximum * SLOTS // 5, fleet.seed)
    best = frontier([*settings(small, quick=quick)])
    say(f"frontier, {small.setting.maximum} hosts at most:")
    for name, row in best:
        say(line(name, row))
    able = [row["÷ oracle"] for _, row in best if row["p95"] <= allowed]
    raw = {"points": [{"name": name, **row} for name, row in best]}
    yield Figure(
        "frontier: least instance-hours ÷ oracle's within that wait", min(able, default=None), HOURS_TARGET, raw=raw
    )


def main() -> int:
    options = parser("fleet", __doc__, rounds=1)
    options.add_argument("--encoders", type=int, default=ENCODERS, help="the fleet at its largest")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--picture", type=Path, metavar="FILE", help="draw the day as SVG")
    given = options.parse_args()
    fleet = Fleetful.of(ENCODERS // 20 if given.quick else given.encoders, given.seed)
    say: Callable[[str], None] = (lambda _: None) if given.json else partial(print, flush=True)
    found = figures(fleet, quick=given.quick, say=say, draw=given.picture)
    return tell(found if given.json else (replace(figure, raw={}) for figure in found), as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
