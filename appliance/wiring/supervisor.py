"""Where the supervisor's objects are made. Nothing here connects; each thread gets adapters of its own."""

from __future__ import annotations

import faulthandler
import os
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import structlog

from appliance import log
from appliance.adapters.autoscaling import ScalingGroup
from appliance.adapters.cloudwatch import CloudWatch
from appliance.adapters.ec2 import Metadata
from appliance.adapters.ffmpeg.sandbox import self_test
from appliance.adapters.postgres.connection import Database
from appliance.adapters.postgres.media import Media
from appliance.adapters.postgres.reports import Reports
from appliance.adapters.postgres.sweeps import Sweeps
from appliance.adapters.prometheus import CONTENT_TYPE
from appliance.adapters.ssm import Parameter
from appliance.adapters.systemd import Notify
from appliance.config import Config, load, validate_for_run
from appliance.domain.secrets import without_secrets
from appliance.supervisor.abandon import Abandoner
from appliance.supervisor.board import Board
from appliance.supervisor.capacity import scratch
from appliance.supervisor.dependencies import Dependencies
from appliance.supervisor.fleet import Director, Member
from appliance.supervisor.fork import Entry, spawner, start_fork_server
from appliance.supervisor.history import History
from appliance.supervisor.media import MediaSweep
from appliance.supervisor.metrics import Metrics
from appliance.supervisor.notices import Notices
from appliance.supervisor.onlooker import Onlooker
from appliance.supervisor.pool import Pool
from appliance.supervisor.process import Fitting, Service, Supervisor
from appliance.supervisor.reconcile import Rules
from appliance.supervisor.reload import Answer
from appliance.supervisor.tick import Settings, Ticker
from appliance.supervisor.tokens import TokenFiles
from appliance.supervisor.web.server import Pages, Web
from appliance.supervisor.web.shape import media_origin, page
from appliance.supervisor.web.textfile import TextFile
from appliance.wiring import adapters
from appliance.wiring.cage import cage
from appliance.wiring.host import encoders
from appliance.wiring.memory import one_heap

#: Imported once by the fork server, so that each child is forked with everything loaded.
PRELOAD = ["appliance.wiring.preload"]


def run(config: Config) -> int:
    """The service, until it is told to leave; returns its exit status. Raises ConfigError before anything starts."""
    validate_for_run(config)
    one_heap()
    log.configure(config.log.level, secrets=adapters.secrets(config))
    log.catch_all()
    faulthandler.enable()  # systemd's watchdog sends SIGABRT: then the journal shows where every thread stood (F43)
    layers = tried(config)
    start_fork_server(PRELOAD)
    from appliance.wiring import encoder  # noqa: PLC0415 - after the fork server, whose start wants a bare process

    return build(config, encoder.main, sandbox=layers).run()


def tried(config: Config) -> dict[str, bool]:
    """The layers of ffmpeg's cage that hold on this host, said once. Raises ConfigError when they must and do not."""
    layers = self_test(cage(config))
    missing = [name for name, holds in layers.items() if not holds]
    if missing:
        hint = "ffmpeg runs with fewer walls around it. A kernel with Landlock and seccomp has them all."
        structlog.get_logger().warning("SANDBOX", missing=missing, hint=hint, **layers)
    else:
        structlog.get_logger().info("SANDBOX", **layers)
    return layers


def build(
    config: Config,
    entry: Entry,
    environment: Mapping[str, str] = os.environ,
    sandbox: Mapping[str, bool] = MappingProxyType({}),
) -> Supervisor:
    """`entry(config, slot, connection)` is what each child runs; `sandbox` what `tried` found."""
    clock = time.monotonic
    history = History(config.reconcile.tick_seconds)
    board = Board(started_at=clock(), ticked_at=clock(), sandbox=dict(sandbox), history=history)
    metrics = Metrics()
    dependencies = Dependencies(clock, metrics.count)
    files = TokenFiles(runtime_directory(config, environment))
    pool = Pool(spawner(config, entry), config.pool, clock)
    abandoner = _abandoner(config, files, dependencies, metrics)
    ticker = _ticker(config, board, dependencies, metrics, lambda: board.encoders)
    onlooker = _onlooker(config, board)
    shown = pages(config, board, dependencies, metrics, clock=clock, look=onlooker.look)
    web = Web(config.web.host, config.web.port, shown, board.notices)
    beside: list[Service] = [TextFile(Path(config.web.textfile), shown.metrics)] if config.web.textfile else []
    beside += [*_on_ec2(config, board, dependencies), *_media_sweep(config, metrics)]
    return Supervisor(
        config,
        Fitting(
            read=lambda: _read_again(config.path),
            spawner=lambda changed: spawner(changed, entry),
            count=encoders,
            set_log_level=lambda level: log.configure(level, secrets=adapters.secrets(config)),
            answer=Answer(runtime_directory(config, environment)),
        ),
        pool,
        abandoner=abandoner,
        services=[ticker, onlooker, web, *beside],
        files=files,
        board=board,
        dependencies=dependencies,
        metrics=metrics,
        notify=Notify(environment),
        clock=clock,
    )


def runtime_directory(config: Config, environment: Mapping[str, str]) -> Path:
    """What RuntimeDirectory= of the unit says (the first, when there are several), else beside the scratch rooms."""
    given = environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(given) if given else Path(config.workspace.directory) / "supervisor"


def rules(config: Config) -> Rules:
    """Reconcile's rules, for the tick and for the verb alike."""
    return Rules(
        heartbeat_ttl_seconds=config.lease.heartbeat_ttl_seconds,
        first_ring_seconds=config.reconcile.first_ring_seconds,
        batch=config.reconcile.batch,
        strict=config.reconcile.heartbeat == "strict",
    )


def pages(
    config: Config,
    board: Board,
    dependencies: Dependencies,
    metrics: Metrics,
    *,
    clock: Callable[[], float],
    look: Callable[[], None],
) -> Pages:
    """`look` hears of every request for the status page's figures."""
    base_url = config.status_page.media_base_url
    workspace = Path(config.workspace.directory)

    def stuck() -> str:
        seconds = board.stuck_seconds(clock())
        return f"the main loop has not turned for {seconds:.0f} s" if seconds is not None else ""

    def status() -> object:
        look()
        host = socket.gethostname()
        return without_secrets(page(board, dependencies, clock(), host=host, media_base_url=base_url))

    return Pages(
        metrics=lambda: metrics.scrape(board, dependencies, scratch(workspace)),
        metrics_type=CONTENT_TYPE,
        stuck=stuck,
        unready=lambda: board.unready(dependencies.down_seconds()),
        status=status,
        media_origin=media_origin(base_url),
    )


def sweeps(config: Config, connection: Database) -> Sweeps:
    return Sweeps(connection, max_losses=config.lease.max_losses)


def _abandoner(config: Config, files: TokenFiles, dependencies: Dependencies, metrics: Metrics) -> Abandoner:
    connection = adapters.database(config, "abandon")
    return Abandoner(
        leases=adapters.leases(config, connection),
        chunks=adapters.chunks(config, connection),
        doorbell=adapters.doorbell(config),
        files=files,
        dependencies=dependencies,
        metrics=metrics,
    )


def _on_ec2(config: Config, board: Board, dependencies: Dependencies) -> list[Service]:
    """None unless the file says that this is EC2."""
    fleet = config.fleet
    if not fleet.notices:
        return []
    metadata = Metadata(fleet.metadata_url)
    notices = Notices(metadata, drain_on_rebalance=fleet.drain_on_rebalance, board=board, dependencies=dependencies)
    if not fleet.group:
        return [notices]
    group = _scaling_group(config)
    return [
        notices,
        Member(group, hook=fleet.lifecycle_hook, board=board, dependencies=dependencies, clock=time.monotonic),
    ]


def _media_sweep(config: Config, metrics: Metrics) -> list[MediaSweep]:
    """None where leftovers are kept for ever."""
    rest_seconds = config.storage.keep_unnamed_seconds
    if not rest_seconds:
        return []
    media = Media(adapters.database(config, "media"), rest_seconds=rest_seconds)
    storage = partial(adapters.storage, config)
    return [MediaSweep(media, storage, prefix=config.storage.prefix, rest_seconds=rest_seconds, metrics=metrics)]


def _onlooker(config: Config, board: Board) -> Onlooker:
    connection = adapters.database(config, "page")
    return Onlooker(board, Reports(connection), connection.close, config.reconcile.tick_seconds)


def _ticker(
    config: Config, board: Board, dependencies: Dependencies, metrics: Metrics, slots: Callable[[], int]
) -> Ticker:
    connection = adapters.database(config, "reconcile")
    settings = Settings(
        host=socket.gethostname(),
        tick_seconds=config.reconcile.tick_seconds,
        renew_seconds=config.lease.renew_seconds,
        publish_seconds=config.cloudwatch.period_seconds,
    )
    return Ticker(
        settings,
        rules(config),
        sweeps=sweeps(config, connection),
        reports=Reports(connection),
        telemetry=adapters.telemetry(config),
        doorbell=adapters.doorbell(config),
        cloudwatch=_cloudwatch(config),
        director=_director(config) if config.fleet.direct else None,
        board=board,
        dependencies=dependencies,
        metrics=metrics,
        slots=slots,
    )


def _cloudwatch(config: Config) -> CloudWatch | None:
    if not config.cloudwatch.enabled:
        return None
    return CloudWatch(adapters.aws_client(config, "cloudwatch"), config.cloudwatch.namespace)


def _scaling_group(config: Config) -> ScalingGroup:
    return ScalingGroup(adapters.aws_client(config, "autoscaling"), config.fleet.group)


def _director(config: Config) -> Director:
    note = Parameter(adapters.aws_client(config, "ssm"), config.fleet.parameter)
    return Director(_scaling_group(config), note, stable_zero_seconds=config.fleet.stable_zero_seconds)


def _read_again(path: str) -> Config:
    config = load(path or None)
    validate_for_run(config)
    return config
