"""What the doctor found out about one thing."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, PROBLEM, DOWN = "ok", "warning", "problem", "down"


@dataclass(frozen=True)
class Finding:
    """`status`: ok, warning (works, not as well as it could), problem (will not work), down (does not answer)."""

    about: str
    status: str
    sentence: str
    cure: str = ""
