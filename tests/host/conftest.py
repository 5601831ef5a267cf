"""One booted machine for all tests of this room, and the appliance installed on it as an operator would."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.local.aws import CREDENTIALS
from appliance.local.port import LOOPBACK, free_ports
from appliance.local.stack import Stack
from tests.host.machine import UNIT, Machine, booted, impossible
from tests.hosts import FAST, World, eventually
from tests.recordings import lecture

TOP = Path(__file__).parents[2]
CONFIGURATION = "/etc/video-appliance.yaml"
DROP_IN = f"/etc/systemd/system/{UNIT}.service.d/tests.conf"
#: The stack's accounts instead of an instance role; waits that the stories can live with; a drain longer than
#: TimeoutStopSec= ends well only because the supervisor asks for more time.
OVERRIDES = f"""
[Service]
Environment={" ".join(f"{name}={value}" for name, value in CREDENTIALS.items())} AWS_EC2_METADATA_DISABLED=true
LoadCredential=database-dsn:/etc/video-appliance.dsn
RestartSec=100ms
TimeoutStopSec=2
"""
#: Half a minute in five chunks and one for the sound, one after the other.
ENCODE: dict[str, Any] = {
    "ladder": [{"short_side": 180, "crf": 30, "maxrate": "200k"}],
    "chunk_seconds": 6,
    "sprite_seconds": 0,
}
CHUNKS = 6
#: The unit's processes are its control group's.
HOLD = """
for pid in $(cat /sys/fs/cgroup/system.slice/video-appliance.service/cgroup.procs); do
  case $(readlink /proc/$pid/exe) in *ffmpeg*) kill -STOP $pid && echo held ;; esac
done
true
"""


class Service:
    """The appliance on the machine. `checkout` is what /checkout is there: to be changed into another release."""

    def __init__(self, machine: Machine, world: World, checkout: Path) -> None:
        self.machine, self.world, self.checkout = machine, world, checkout
        self.port = next(free_ports())

    def install(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.machine.run("/checkout/install.sh", "--offline", "/wheels", *arguments, check=check)

    def configure(self, **changes: dict[str, Any]) -> None:
        settings = self.world.settings()
        dsn = settings.pop("database").pop("dsn")
        file = {"dsn_file": f"/run/credentials/{UNIT}.service/database-dsn"}
        ours = {
            "web": {"host": LOOPBACK, "port": self.port},
            "encode": ENCODE,
            "database": file,
            "pool": {"encoders": 1},
        }
        for section in (FAST, ours, changes):
            for name, values in section.items():
                settings[name] = {**settings.get(name, {}), **values}
        self.machine.write(CONFIGURATION, yaml.safe_dump(settings))
        self.machine.write("/etc/video-appliance.dsn", dsn, mode=0o600)
        if self.machine.write(DROP_IN, OVERRIDES):
            self.machine.systemctl("daemon-reload")

    def stand(self) -> None:
        """Installed, configured as above and running, whatever the test before did."""
        new = self.machine.run("test", "-e", "/opt/video-appliance/current", check=False).returncode != 0
        if new:
            assert "Next: 1. edit /etc/video-appliance.yaml" in self.install().stdout
        self.configure()
        self.machine.systemctl("enable", "--now", UNIT)
        if new:
            self.machine.run("video-appliance", "migrate")

    def begun(self, video: Path, chunks: int = 1) -> int:
        """Submit the recording and wait until so many of its chunks are done."""
        video_id = self.world.upload(video)
        self.world.ring(video_id)
        eventually(lambda: self.done_chunks(video_id) >= chunks)
        return video_id

    def hold(self) -> None:
        """Stop an ffmpeg of the service where it is, so that its video cannot come to its end by itself."""
        eventually(lambda: "held" in self.machine.say("sh", "-c", HOLD))

    def done_chunks(self, video_id: int) -> int:
        statement = "SELECT count(*) AS done FROM video_chunk WHERE video_id = %s AND state = 'DONE'"
        return int(self.world.query(statement, video_id)[0]["done"])

    def ready(self, video_id: int) -> dict[str, Any]:
        """The receipt of the attempt that made it READY, in which nothing was charged to the video."""
        row = eventually(
            lambda: (row := self.world.row(video_id))["status"] in {"READY", "FAILED"} and row, seconds=120
        )
        assert (row["status"], row["error_reason"]) == ("READY", "")
        assert (row["failure_count"], row["loss_count"]) == (0, 0)
        receipt: dict[str, Any] = self.world.attempts(video_id)[-1]["receipt"]
        return receipt

    @property
    def release(self) -> str:
        return Path(self.machine.say("readlink", "/opt/video-appliance/current")).name

    @property
    def runs(self) -> str:
        """The release that the running supervisor is of."""
        line = self.machine.say("cat", f"/proc/{self.machine.main_pid}/cmdline")
        return line.partition("/releases/")[2].partition("/")[0]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkout")
    for name in ("appliance", "systemd", "config"):
        shutil.copytree(TOP / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TOP / "install.sh", directory)
    return directory


@pytest.fixture(scope="session")
def wheels() -> Path:
    """The packages of the service, downloaded once for each checkout."""
    directory = TOP / ".venv/wheels"
    lock, mark = TOP / "config/requirements/run.txt", directory / "lock"
    if not mark.exists() or mark.read_bytes() != lock.read_bytes():
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([TOP / "install.sh", "wheels", directory], check=True)
        mark.write_bytes(lock.read_bytes())
    return directory


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory, checkout: Path, wheels: Path) -> Iterator[Machine]:
    if reason := impossible():
        pytest.skip(reason)
    with booted(tmp_path_factory.mktemp("machine") / "files", (checkout, "/checkout"), (wheels, "/wheels")) as machine:
        yield machine


@pytest.fixture(scope="session")
def before(machine: Machine) -> set[str]:
    """The machine's files before anything was installed."""
    return machine.files()


@pytest.fixture(scope="session")
def world(stack: Stack) -> World:
    """Outside of the machine, on loopback, which is the same there."""
    stack.start()
    bucket, queue = stack.aws.make_bucket("host-bucket"), stack.aws.make_queue("host-queue")
    return World(stack.postgres.dsn, stack.redis.url, stack.aws, bucket, queue)


@pytest.fixture(scope="session")
def _service(machine: Machine, before: set[str], world: World, checkout: Path) -> Service:
    return Service(machine, world, checkout)


@pytest.fixture
def service(_service: Service) -> Service:
    _service.stand()
    return _service


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lecture(tmp_path_factory.mktemp("source") / "lecture.mp4", seconds=30, size="320x180", rate="15")


@pytest.fixture(scope="session")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three times as many chunks: it is still being encoded when a release has been built."""
    return lecture(tmp_path_factory.mktemp("source") / "lecture.mp4", seconds=100, size="320x180", rate="15")
