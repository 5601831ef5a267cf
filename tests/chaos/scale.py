"""The constants of a chaos run: everything that takes minutes in production takes seconds."""

from __future__ import annotations

from typing import Any

RENEW_SECONDS = 1.0
LEASE_SECONDS = 6.0
HEARTBEAT_TTL_SECONDS = 3.0
#: A pause of this length outlives the lease, and ends before the supervisor takes the paused child for dead.
LONG_PAUSE_SECONDS = 9.0
SILENT_SECONDS = 15.0
#: systemd's RestartSec=2 of the unit.
RESTART_SECONDS = 2.0
#: Waits that are no setting (30 s × 4ⁿ after a failure, 60 s after an outage) are this much shorter in the database.
WAITS_DIVISOR = 20
#: What must be gone this long after its supervisor or fork server was killed (F31).
ORPHAN_SECONDS = 5.0

#: One small rung for the fakes, a second above it for the real ones; chunks of two seconds, so that all have several.
ENCODE: dict[str, Any] = {
    "preset": "ultrafast",
    "ladder": [
        {"short_side": 180, "crf": 28, "maxrate": "400k"},
        {"short_side": 36, "crf": 30, "maxrate": "100k"},
    ],
    "gop_seconds": 1,
    "segment_seconds": 1,
    "chunk_seconds": 2,
    "sprite_seconds": 0,
}

#: The fakes are shell scripts, which the cage would not let start anything.
SANDBOX: dict[str, Any] = {"landlock": False, "seccomp": False}

SETTINGS: dict[str, Any] = {
    "database": {"connect_timeout_seconds": 2, "statement_timeout_seconds": 3},
    "redis": {"timeout_seconds": 0.4},
    "aws": {"connect_timeout_seconds": 2, "read_timeout_seconds": 5},
    # moto looks at a queue a hundred times a second while somebody polls it
    "queue": {"wait_seconds": 1, "poll_seconds": 1},
    "lease": {
        "lease_seconds": LEASE_SECONDS,
        "renew_seconds": RENEW_SECONDS,
        "chunk_lease_seconds": 4,
        "heartbeat_ttl_seconds": HEARTBEAT_TTL_SECONDS,
        "grace_seconds": 1,
        # losses are what this run makes; a video that only met too many of them is to be READY all the same
        "max_attempts": 40,
        "max_losses": 40,
    },
    "reconcile": {"tick_seconds": 1, "first_ring_seconds": 2},
    "pool": {
        "drain_seconds": 10,
        "silent_seconds": SILENT_SECONDS,
        "boot_seconds": 20,
        "backoff_first_seconds": 0.1,
        "backoff_cap_seconds": 2,
    },
    "workspace": {"min_free_bytes": "1MiB", "min_free_memory_bytes": "64MiB"},
    "ffmpeg": {"stall_seconds": 6, "min_deadline_seconds": 40},
    "encode": ENCODE,
    "sandbox": SANDBOX,
}
