"""What the measurements with targets share: what they print, and when they are content.

One line a target, as soon as it is known. What could not be measured here is said, and is not met.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from appliance.cli import terminal

MET, MISSED, LEFT_OUT = 0, 1, 69
T = TypeVar("T")


class Missing(Exception):
    """Something this machine has not; the sentence says what."""


@dataclass(frozen=True)
class Figure:
    """`ratio` is None when this was left out, and `why` says why. `at_least`: large is good. `raw` explains it."""

    name: str
    ratio: float | None
    target: float
    at_least: bool = False
    why: str = ""
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        if self.ratio is None:
            return False
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target

    def to_json(self) -> dict[str, Any]:
        ratio = None if self.ratio is None else round(self.ratio, 3)
        fields = {"name": self.name, "ratio": ratio, "target": self.target, "ok": self.ok}
        return {**fields, **({"left_out": self.why} if self.why else {}), **self.raw}

    def words(self) -> str:
        wanted = f"{'≥' if self.at_least else '≤'} {self.target:g}"
        if self.ratio is None:
            return f"left out  {self.name} ({wanted}): {self.why}"
        raw = ", ".join(f"{name} {_shown(value)}" for name, value in self.raw.items())
        return f"{'ok' if self.ok else 'MISSED':8}  {self.name}: {self.ratio:.3g} ({wanted})" + (raw and f"; {raw}")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def tell(figures: Iterable[Figure], *, as_json: bool) -> int:
    """Print each; the exit status: 0 only when every target holds, 69 when the rest could not be measured."""
    statuses = {MET}
    for figure in figures:
        terminal.emit(figure.to_json()) if as_json else print(figure.words(), flush=True)
        statuses.add(MET if figure.ok else LEFT_OUT if figure.ratio is None else MISSED)
    return MISSED if MISSED in statuses else max(statuses)


def parser(name: str, doc: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """The options of every measurement."""
    made = argparse.ArgumentParser(
        prog=f"install.sh bench {name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--rounds", type=int, default=rounds, help="each way is measured so often, in turn")
    made.add_argument("--quick", action="store_true", help="small and short: shows that it runs, says little")
    made.add_argument("--json", action="store_true", help="one JSON object a line")
    return made


def interleaved(ways: dict[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Each way once in every round, so that whatever else the machine does meets all of them."""
    found: dict[str, list[T]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    return found


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def rounded(values: Sequence[float], digits: int = 3) -> list[float]:
    return [round(value, digits) for value in values]


def cores(wanted: int) -> list[int]:
    """The cores this process may use. Raises Missing when they are fewer."""
    found = sorted(os.sched_getaffinity(0))
    if len(found) < wanted:
        raise Missing(f"{wanted} cores are needed, and there are {len(found)}")
    return found
