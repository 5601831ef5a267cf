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
            "bytes": f"{terminal.size(receipt.get('bytes_in'))} in, {terminal.size(receipt.get('bytes_out'))} out",
            "ffmpeg": receipt.get("ffmpeg_build"),
            "warnings": "\n".join(receipt.get("warnings") or ()),
        },
    )


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
