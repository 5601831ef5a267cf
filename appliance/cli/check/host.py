"""What this host itself must have: programs, walls, room, a port; and files that keep their secrets."""

from __future__ import annotations

import json
import os
import shutil
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from appliance.adapters.ffmpeg import tools
from appliance.adapters.ffmpeg.sandbox import self_test
from appliance.cli.check.finding import OK, PROBLEM, WARNING, Finding
from appliance.config import Config
from appliance.domain.secrets import secrets_of
from appliance.supervisor.capacity import encoders, look
from appliance.supervisor.web.holder import holder, listening
from appliance.wiring.cage import cage

GIB = 1024**3
#: Our own supervisor answers in milliseconds.
LOCAL_SECONDS = 2.0


def secrets(config: Config) -> Iterator[Finding]:
    """A password that everybody on this host may read."""
    inside = secrets_of(config.database.dsn) | secrets_of(config.redis.url)
    files = {config.path: bool(inside), config.database.dsn_file: True, config.redis.url_file: True}
    for path, secret in files.items():
        if path and secret and Path(path).exists() and Path(path).stat().st_mode & stat.S_IROTH:
            cure = f"sudo chmod o-r {path} (root and the service's group must be able to read it)"
            yield Finding("configuration", WARNING, f"{path} holds a password and everybody may read it.", cure)


def ffmpeg(config: Config) -> Iterator[Finding]:
    found = tools.find(config.ffmpeg.ffmpeg, config.ffmpeg.ffprobe)
    if missing := tools.lacks(found.ffmpeg):
        cure = "Leave ffmpeg.ffmpeg empty to use the build that is installed with the appliance, or take a full build."
        yield Finding("ffmpeg", PROBLEM, f"{found.ffmpeg} has no {', '.join(missing)}.", cure)
    else:
        yield Finding("ffmpeg", OK, f"{found.ffmpeg}, version {found.build}")


def sandbox(config: Config) -> Iterator[Finding]:
    """A caged process really tries to read, to write and to connect where it must not."""
    layers = self_test(cage(config))
    missing = [name for name, holds in layers.items() if not holds]
    if not missing:
        yield Finding("sandbox", OK, f"{', '.join(layers)} hold")
        return
    off = [name for name in missing if not getattr(config.sandbox, name, True)]
    cure = f"Set sandbox.{off[0]} to true." if off else "A kernel with Landlock (5.13) and seccomp has all layers."
    yield Finding("sandbox", WARNING, f"ffmpeg runs without {' and '.join(missing)}.", cure)


def scratch(config: Config) -> Iterator[Finding]:
    settings, place = config.workspace, Path(config.workspace.directory)
    there = next(path for path in (place, *place.parents) if path.exists())
    if there == place and not place.is_dir():
        yield Finding("scratch", PROBLEM, f"{place} is no directory.", "Move it away, or set workspace.directory.")
        return
    if there == place and not os.access(place, os.W_OK | os.X_OK):
        cure = f"sudo chown -R video-appliance {place}, or run this as the service does."
        yield Finding("scratch", PROBLEM, f"{place} cannot be written to by this user.", cure)
    free, floor = shutil.disk_usage(there).free, settings.min_free_bytes
    room = f"{free / GIB:.1f} GiB are free under {place}"
    if free < floor:
        cure = "Make room, mount a larger disk there, or lower workspace.min_free_bytes."
        yield Finding("scratch", PROBLEM, f"{room}, and {floor / GIB:.1f} GiB must stay free: no work is taken.", cure)
    elif free < floor + settings.source_cache_bytes:
        cure = "Lower workspace.source_cache_bytes, or take a larger disk."
        yield Finding("scratch", WARNING, f"{room}: less than the cache of sources may take.", cure)
    else:
        yield Finding("scratch", OK, room)


def size(config: Config) -> Iterator[Finding]:
    """What `pool.encoders` asks of this host's cores and memory."""
    seen, settings = look(), config.pool
    fitting, why = encoders(
        seen,
        cores_per_encoder=settings.cores_per_encoder,
        memory_per_encoder_bytes=settings.memory_per_encoder_bytes,
    )
    wanted = settings.encoders
    if isinstance(wanted, int) and wanted > fitting:
        cure = f"Set pool.encoders to auto or to {fitting}; or take a larger instance."
        yield Finding("size", WARNING, f"pool.encoders asks for {wanted}, and this host carries {why}.", cure)
    else:
        yield Finding("size", OK, why)


def port(config: Config) -> Iterator[Finding]:
    number = config.web.port
    if number and listening(number) and not _ours(number):
        cure = "Set web.port to a free port, for example 9101, or let node_exporter serve our series: web.textfile."
        yield Finding("port", PROBLEM, f"Port {number} is taken by {holder(number)}: no metrics, no status page.", cure)


def _ours(number: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{number}/status.json", timeout=LOCAL_SECONDS) as answer:
            return "slots" in json.load(answer)
    except (OSError, ValueError):
        return False


def textfile(config: Config) -> Iterator[Finding]:
    place = Path(config.web.textfile).parent
    if config.web.textfile and not (place.is_dir() and os.access(place, os.W_OK)):
        cure = f"Make {place}, give it to the service's user, and let the unit write there (ReadWritePaths=)."
        yield Finding("textfile", PROBLEM, f"{place} cannot be written to: web.textfile stays empty.", cure)
