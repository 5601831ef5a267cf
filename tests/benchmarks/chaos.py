"""`./install.sh bench chaos`: real hosts on a real stack, faults from a seed, a verdict from each row's history."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import time

from tests.chaos.run import Verdict, Wanted, as_json, run

#: Set once this process has a mount table of its own, in which small disks may be mounted.
OWN_MOUNTS = "CHAOS_OWN_MOUNTS"
SHOWN_VIOLATIONS = 30


def main() -> int:
    """0 only for a clean verdict."""
    options = arguments()
    disks = os.geteuid() == 0 and own_mounts()
    wanted = Wanted(
        seed=options.seed,
        minutes=options.minutes,
        videos=options.videos,
        real=options.real,
        hosts=options.hosts,
        encoders=options.encoders,
        disks=disks,
    )
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    print(f"seed {options.seed}", file=sys.stderr)
    verdict = run(wanted, progress())
    print("\r\033[K" if sys.stderr.isatty() else "", end="", file=sys.stderr)
    print(as_json(verdict) if options.json else as_text(verdict))
    return 0 if verdict.clean else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./install.sh bench chaos", description=__doc__)
    parser.add_argument("--videos", type=int, help="end after this many; else the time decides")
    parser.add_argument("--minutes", type=float, default=2.0, help="faults and videos for at most this long (2)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of faults, victims and sizes")
    parser.add_argument("--real", type=int, default=10, help="how many videos the real ffmpeg encodes (10)")
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--encoders", type=int, default=3, help="of each host (3)")
    parser.add_argument("--json", action="store_true", help="the verdict as one object on the last line")
    return parser.parse_args()


def own_mounts() -> bool:
    """Start over with a mount table of our own: what is mounted in it goes with us, however we end."""
    alone = ["unshare", "--mount", "--propagation", "private"]
    if not os.environ.get(OWN_MOUNTS) and subprocess.run([*alone, "true"], check=False).returncode == 0:
        os.environ[OWN_MOUNTS] = "1"
        os.execvp("unshare", [*alone, sys.executable, "-m", "tests.benchmarks.chaos", *sys.argv[1:]])
    return OWN_MOUNTS in os.environ


def progress():
    """One line that changes in a terminal; elsewhere a line every ten seconds."""
    terminal, shown = sys.stderr.isatty(), [float("-inf")]

    def show(text: str) -> None:
        now = time.monotonic()
        if terminal:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif now - shown[0] >= 10:
            shown[0] = now
            print(text, file=sys.stderr, flush=True)

    return show


def as_text(verdict: Verdict) -> str:
    lines = [f"seed {verdict.seed}, {verdict.seconds:.0f} s"]
    for name, value in verdict.figures.items():
        shown = ", ".join(f"{key} {number}" for key, number in value.items()) if isinstance(value, dict) else value
        lines.append(f"{name}: {shown if not isinstance(value, dict) else shown or 'none'}")
    lines += [
        f"VIOLATION {violation.rule}: {violation.sentence}" for violation in verdict.violations[:SHOWN_VIOLATIONS]
    ]
    lines.append("verdict: clean" if verdict.clean else f"verdict: {len(verdict.violations)} violations")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
