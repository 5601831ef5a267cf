"""What a video cost, for people: the receipt of an attempt (domain/receipt.py) as lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.cli import terminal


def show(receipt: Mapping[str, Any], title: str = "receipt") -> None:
    """Print what the receipt knows; one of an attempt that ended early may know little."""
    terminal.facts(
        title,
        {
            "recording": terminal.seconds(receipt.get("media_seconds")),
            "time": _time(receipt),
            "CPU": terminal.seconds(receipt.get("cpu_seconds")),
            "memory": terminal.size(receipt.get("peak_memory_bytes")),
            "rungs": ", ".join(receipt.get("rungs") or ()),
            "chunks": _chunks(receipt),
            "bytes": _bytes(receipt),
            "encoded": _encoded(receipt),
            "whole video": _whole(receipt.get("video")),
            "chapters": "\n".join(map(_chapter, receipt.get("chapters") or ())),
            "ffmpeg": receipt.get("ffmpeg_build"),
            "warnings": "\n".join(receipt.get("warnings") or ()),
        },
    )


def _bytes(cost: Mapping[str, Any]) -> str:
    return f"{terminal.size(cost.get('bytes_in'))} in, {terminal.size(cost.get('bytes_out'))} out"


def _encoded(cost: Mapping[str, Any]) -> str:
    """Media seconds of every track together: what the CPU time was spent on."""
    seconds = cost.get("rung_seconds")
    return f"{terminal.seconds(seconds)} of all rungs" if seconds else ""


def _whole(cost: Mapping[str, Any] | None) -> str:
    """What the finished stream cost, assistants and earlier attempts included."""
    if not cost:
        return ""
    used = f"CPU {terminal.seconds(cost['cpu_seconds'])}, memory {terminal.size(cost['peak_memory_bytes'])}"
    return f"{used}, {_bytes(cost)}, {_encoded(cost)}"


def _chapter(chapter: Mapping[str, Any]) -> str:
    return f"{terminal.seconds(chapter['start_seconds'])} {chapter['title']}"


def _time(receipt: Mapping[str, Any]) -> str:
    wall, media = receipt.get("wall_seconds") or 0.0, receipt.get("media_seconds") or 0.0
    speed = f" ({media / wall:.1f} × as fast as it plays)" if wall and media else ""
    return terminal.seconds(wall) + speed


def _chunks(receipt: Mapping[str, Any]) -> str:
    """`4: 3 encoded, 1 resumed`; kinds that did not occur are left out, encoded and resumed never."""
    always = ("encoded", "resumed")
    counts = {kind: receipt.get(f"chunks_{kind}") or 0 for kind in (*always, "assisted", "redone")}
    told = (f"{count} {kind}" for kind, count in counts.items() if count or kind in always)
    return f"{receipt.get('chunks_total') or 0}: {', '.join(told)}"
