"""Redis as telemetry: heartbeats and progress with a time to live, and nothing that anybody may depend on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from appliance.domain.errors import Unavailable
from appliance.domain.video import Lease

#: After an error progress is not tried for this many timeouts: a dead Redis must not slow the encode.
PAUSE_TIMEOUTS = 5
#: Deletes the key only while it holds the value: another owner's heartbeat is never taken away.
DELETE_OWN = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def refusal(error: BaseException | None) -> str:
    """Why Redis said no (a password, a command that is not allowed); empty when it did not answer."""
    return str(error) if isinstance(error, redis.AuthenticationError | redis.ResponseError) else ""


def progress_key(tenant_id: int, video_id: int) -> str:
    return f"tenant:{tenant_id}:video:{video_id}:progress"


def heartbeat_key(tenant_id: int, video_id: int) -> str:
    return f"tenant:{tenant_id}:video:{video_id}:heartbeat"


class Telemetry:
    """Writing never raises: it counts (`on_error`), logs once per outage and starts over with a fresh connection.

    Reading raises Unavailable("redis", …), because whoever reads decides something. One instance per thread.
    A video without a tenant has no keys and is passed over.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 2.0,
        heartbeat_ttl_seconds: float = 60.0,
        progress_ttl_seconds: float = 3600.0,
        on_error: Callable[[], None] = lambda: None,
    ) -> None:
        # One retry, because a connection that idled may have been dropped by a proxy.
        self._client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            decode_responses=True,
            retry=Retry(NoBackoff(), 1),
        )
        where = self._client.connection_pool.connection_kwargs
        self._place = f" at {where['host']}:{where.get('port', 6379)}" if "host" in where else ""
        self._pause_seconds = PAUSE_TIMEOUTS * timeout_seconds
        self._heartbeat_ttl_seconds = heartbeat_ttl_seconds
        self._progress_ttl_seconds = progress_ttl_seconds
        self._on_error = on_error
        self._log = structlog.get_logger()
        self._paused_until = 0.0
        #: False during an outage.
        self.answers = True

    def beat(self, lease: Lease) -> None:
        """The lease's owner lives. SET with EX in one command: a key without an end would hide a death for ever."""
        if lease.tenant_id is not None:
            key = heartbeat_key(lease.tenant_id, lease.video_id)
            self._write(lambda: self._client.set(key, _heartbeat(lease), ex=_whole(self._heartbeat_ttl_seconds)))

    def progress(self, lease: Lease, fields: dict[str, Any]) -> None:
        """Replace the video's progress; `updated_at`: Unix seconds on Redis' clock, whatever this host's says (F18)."""
        if lease.tenant_id is None or time.monotonic() < self._paused_until:
            return
        key = progress_key(lease.tenant_id, lease.video_id)

        def write() -> None:
            seconds, microseconds = self._client.time()
            text = json.dumps({**fields, "updated_at": seconds + microseconds / 1_000_000})
            self._client.set(key, text, ex=_whole(self._progress_ttl_seconds))

        self._write(write)

    def end(self, lease: Lease) -> None:
        """The job is over: its own heartbeat goes, another owner's stays."""
        if lease.tenant_id is not None:
            key = heartbeat_key(lease.tenant_id, lease.video_id)
            self._write(lambda: self._client.eval(DELETE_OWN, 1, key, _heartbeat(lease)))

    def heartbeats(self, videos: Sequence[tuple[int, int]]) -> list[str | None]:
        """The raw value of each (tenant_id, video_id), None where the key is absent."""
        if not videos:
            return []
        return list(self._read(lambda: self._client.mget([heartbeat_key(*video) for video in videos])))

    def up_seconds(self) -> float:
        """For how long this Redis has been running."""
        return float(self._read(lambda: self._client.info("server"))["uptime_in_seconds"])

    def info(self) -> dict[str, Any]:
        """What Redis says of itself (INFO), all sections in one."""
        return dict(self._read(self._client.info))

    def read_progress(self, tenant_id: int, video_id: int) -> dict[str, Any] | None:
        text = self._read(lambda: self._client.get(progress_key(tenant_id, video_id)))
        if text is None:
            return None
        try:
            fields = json.loads(text)
        except ValueError:
            return None
        return fields if isinstance(fields, dict) else None

    def close(self) -> None:
        self._client.close()

    def _write(self, command: Callable[[], object]) -> None:
        try:
            command()
        except (redis.RedisError, OSError) as error:
            self._lost(error)
        else:
            self._back()

    def _read(self, command: Callable[[], Any]) -> Any:
        try:
            return command()
        except (redis.RedisError, OSError) as error:
            self._client.connection_pool.disconnect()
            raise Unavailable(
                "redis",
                f"Redis{self._place} refused or did not answer: {error}",
                hint="Check redis.url and the server; encoding goes on without it.",
            ) from error

    def _lost(self, error: Exception) -> None:
        """A replica that was demoted still answers, read-only: only a new connection finds the new primary (F22)."""
        self._client.connection_pool.disconnect()
        self._paused_until = time.monotonic() + self._pause_seconds
        self._on_error()
        if self.answers:
            self.answers = False
            self._log.warning("DEPENDENCY_DOWN", dependency="redis", error=str(error))

    def _back(self) -> None:
        if not self.answers:
            self.answers = True
            self._log.info("DEPENDENCY_BACK", dependency="redis")


def _heartbeat(lease: Lease) -> str:
    """The same bytes at every beat, so that `end` recognises its own."""
    fields = {"token": str(lease.token), "epoch": lease.epoch, "host": lease.worker.host, "worker": lease.worker.name}
    return json.dumps(fields, separators=(",", ":"))


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
