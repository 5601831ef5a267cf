"""What a caged program really cannot do; each wall is also seen to be missing when it is taken away."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.adapters.ffmpeg import cage, sandbox, starter, tools
from appliance.adapters.ffmpeg.run import Limits, run
from appliance.adapters.ffmpeg.sandbox import Cage
from appliance.domain.errors import ConfigError, Transient
from tests.canary import CanaryServer

TOP = Path(__file__).parents[3]
PYTHON = str(Path(sys.executable).resolve())
#: Interpreters that another account may be able to run.
PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3", PYTHON)
OPEN = Cage(landlock=False, seccomp=False, readable=(sys.base_prefix,))
SHUT = Cage(readable=(sys.base_prefix,))
MACHINE = os.uname().machine

#: A hostile program: tries everything in a table and says what worked.
HOSTILE = """
import ctypes, errno, json, os, socket, sys
canary, port, parent, outside = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    if libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments]) < 0:
        raise OSError(ctypes.get_errno(), "")
def connect(family, kind, address):
    with socket.socket(family, kind) as s: s.connect(address)
def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.sendto(b"x", ("127.0.0.1", port))
def fork():
    if os.fork() == 0: os._exit(0)
    os.wait()
def thread():
    import _thread, time
    lock = _thread.allocate_lock(); lock.acquire(); _thread.start_new_thread(lock.release, ()); lock.acquire()
def write(path):
    with open(path, "w") as f: f.write("x")
def executable():
    write("program"); os.chmod("program", 0o755)
x86 = os.uname().machine == "x86_64"
tries = {
    "canary": lambda: open(canary).read(),
    "passwd": lambda: open("/etc/passwd").read(),
    "environment of the parent": lambda: open(f"/proc/{parent}/environ", "rb").read(),
    "list the parent's directory": lambda: os.listdir(".."),
    "write outside": lambda: write(outside + "/written"),
    "remove outside": lambda: os.unlink(outside + "/removable"),
    "link outside": lambda: os.link("own", outside + "/linked"),
    "rename outside": lambda: os.rename("own", outside + "/renamed"),
    "chmod outside": lambda: os.chmod(outside + "/removable", 0o777),
    "truncate outside": lambda: os.truncate(outside + "/removable", 0),
    "symlink": lambda: os.symlink(canary, "symlink"),
    "tcp": lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port)),
    "udp": udp,
    "unix": lambda: socket.socket(socket.AF_UNIX).close(),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "socketpair": lambda: socket.socketpair(),
    "fork": fork,
    "signal to the parent": lambda: os.kill(parent, 0),
    "limits of the parent": lambda: call(302 if x86 else 261, parent, 0, 0, 0),
    "ptrace": lambda: call(101 if x86 else 117, 16, parent, 0, 0),
    "bpf": lambda: call(321 if x86 else 280, 0, 0, 0),
    "userfaultfd": lambda: call(323 if x86 else 282, 0),
    "unshare": lambda: call(272 if x86 else 97, 0x10000000),
    "shared memory": lambda: call(29 if x86 else 194, 0, 4096, 0o1600),
    "more files": lambda: [os.open("/dev/null", 0) for _ in range(300)],
    "make executable": executable,
    "own file": lambda: write("own"),
    "own directory": lambda: (os.mkdir("d"), os.rename("own", "d/own"), os.rename("d/own", "own"), os.rmdir("d")),
    "null": lambda: write("/dev/null"),
    "random": lambda: open("/dev/urandom", "rb").read(8),
    "thread": thread,
    "signal to itself": lambda: os.kill(os.getpid(), 0),
}
done = {}
order = sorted(tries, key=lambda name: (name == "more files", name != "own file"))  # the one needs what the other takes
for name in order:
    try:
        tries[name](); done[name] = "worked"
    except OSError as error:
        done[name] = errno.errorcode.get(error.errno, str(error.errno))
    except RuntimeError as error:
        done[name] = str(error)
done["no new privileges"] = libc.prctl(39, 0, 0, 0, 0)
print(json.dumps(done))
"""
#: What the program may do, in the cage and out of it.
HARMLESS = {"own file", "own directory", "null", "random", "thread", "signal to itself"}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    directory = tmp_path / "job"
    directory.mkdir()
    return directory


def limits(rules: Cage) -> Limits:
    return Limits(deadline_seconds=60, stall_seconds=60, memory_bytes=4 << 30, cage=rules)


def lines_of(command: list[str], job: Path, rules: Cage = SHUT) -> list[str]:
    lines: list[str] = []
    ended = run(command, directory=job, limits=limits(rules), check=lambda: None, on_line=lines.append)
    assert ended.status == 0, ended.stderr
    return lines


def python(script: str, *arguments: object) -> list[str]:
    return [PYTHON, "-I", "-S", "-c", script, *map(str, arguments)]


def hostile(job: Path, tmp_path: Path, rules: Cage) -> tuple[dict[str, Any], CanaryServer]:
    """What the program could do, and the server that it tried to reach."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "removable").write_text("x")
    (tmp_path / "canary").write_text("secret")
    with CanaryServer() as server:
        command = python(HOSTILE, tmp_path / "canary", server.port, os.getpid(), outside)
        (line,) = lines_of(command, job, rules)
    return json.loads(line), server


def test_a_caged_program_reaches_its_own_directory_and_nothing_else(job: Path, tmp_path: Path) -> None:
    done, server = hostile(job, tmp_path, SHUT)
    assert done.pop("no new privileges") == 1
    assert {name for name, answer in done.items() if answer == "worked"} == HARMLESS
    assert server.connections == 0
    assert (tmp_path / "outside" / "removable").stat().st_mode & 0o777 != 0o777
    assert sorted(path.name for path in (tmp_path / "outside").iterdir()) == ["removable"]


def test_without_its_two_layers_the_same_program_reaches_the_canaries(job: Path, tmp_path: Path) -> None:
    done, server = hostile(job, tmp_path, OPEN)
    worked = {name for name, answer in done.items() if answer == "worked"}
    assert {"canary", "tcp", "unix", "fork", "write outside", "signal to the parent"} <= worked
    assert "more files" not in worked  # an rlimit, which every kernel has
    assert server.connections == 1


def test_the_program_has_no_capability_of_root_but_to_read_an_upload_of_somebody_else(job: Path) -> None:
    script = (
        "import ctypes; d = (ctypes.c_uint32 * 6)();"
        "ctypes.CDLL(None).capget((ctypes.c_uint32 * 2)(0x20080522, 0), d); print(*d)"
    )
    effective, permitted, inheritable, *high = map(int, lines_of(python(script), job)[0].split())
    assert {effective | 2, permitted | 2} == {2}
    assert [inheritable, *high] == [0, 0, 0, 0]


def test_a_set_user_id_program_gives_a_caged_one_nothing(tmp_path: Path) -> None:
    """As another account than root; the control run shows that the program does give rights without the cage."""
    interpreter = _for_nobody()
    shelf = Path("/var/tmp") / f"cage-{os.getpid()}"
    shelf.mkdir()
    try:
        escalate = shelf / "escalate"
        escalate.write_bytes(Path("/usr/bin/id").read_bytes())
        escalate.chmod(0o4755)
        package = _readable_copy(shelf)
        room = shelf / "room"
        room.mkdir()
        room.chmod(0o777)
        script = (
            "import sys; from pathlib import Path; from appliance.adapters.ffmpeg.run import *;"
            "from appliance.adapters.ffmpeg.sandbox import Cage, self_test;"
            "print('layers', *map(int, self_test(Cage()).values()), flush=True);"
            f"e = run([{str(escalate)!r}, '-u'], directory=Path({str(room)!r}), limits=Limits(60, 60, 1 << 30),"
            " check=lambda: None, on_line=lambda line: print('caged', line, flush=True))"
        )
        plain = subprocess.run(_nobody([str(escalate), "-u"]), capture_output=True, text=True, check=True).stdout
        caged = subprocess.run(
            _nobody([interpreter, "-c", script]),
            capture_output=True,
            text=True,
            check=True,
            cwd=package,
            env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        ).stdout
        if plain.strip() != "0":
            pytest.skip("the file system ignores set-user-ID")
        layers = " ".join(str(int(holds)) for holds in sandbox.self_test(Cage()).values())
        assert caged.splitlines() == [f"layers {layers}", "caged 65534"]
    finally:
        shutil.rmtree(shelf)


def test_self_test_finds_every_layer_that_this_kernel_has_and_no_other() -> None:
    kernel = {"landlock": ctypes.CDLL(None).syscall(ctypes.c_long(444), None, ctypes.c_long(0), ctypes.c_long(1)) > 0}
    kernel["seccomp"] = MACHINE in cage.MACHINES
    assert sandbox.self_test(Cage()) == {"no_new_privs": True, "rlimits": True, **kernel}
    assert set(sandbox.self_test(Cage())) == set(sandbox.LAYERS)


@pytest.mark.parametrize("layer", ["landlock", "seccomp"])
def test_a_layer_that_is_off_is_said_to_be_missing_and_refused_where_it_is_required(job: Path, layer: str) -> None:
    assert not sandbox.self_test(Cage(**{layer: False}))[layer]
    demanding = Cage(**{layer: False}, required=True)
    with pytest.raises(ConfigError, match=f"{layer} is missing and sandbox.required is true"):
        sandbox.self_test(demanding)
    with pytest.raises(Transient, match="could not be started in its sandbox") as caught:
        run(["/bin/true"], directory=job, limits=limits(demanding), check=lambda: None)
    assert "sandbox.required" in caught.value.details


def test_a_cage_that_does_not_answer_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter.Starter, "ended", lambda self, seconds: None)
    with pytest.raises(Transient, match="did not answer"):
        sandbox.self_test(Cage())


def test_on_a_kernel_without_landlock_programs_run_and_the_layer_is_said_to_be_missing() -> None:
    script = "from appliance.adapters.ffmpeg import sandbox; print(sandbox.self_test(sandbox.Cage()))"
    done = without_landlock([sys.executable, "-c", script])
    assert "'landlock': False" in done.stdout
    assert "'seccomp': True" in done.stdout


def test_run_refuses_to_start_without_a_required_layer(tmp_path: Path) -> None:
    settings = {
        "database": {"dsn": "postgresql://nobody@127.0.0.1:1/none"},
        "queue": {"url": "http://127.0.0.1:1/queue"},
        "storage": {"bucket": "a-bucket"},
        "aws": {"region": "us-east-1"},
        "workspace": {"directory": str(tmp_path)},
        "sandbox": {"required": True},
    }
    (tmp_path / "appliance.yaml").write_text(json.dumps(settings))
    done = without_landlock([sys.executable, "-m", "appliance", "--config", str(tmp_path / "appliance.yaml"), "run"])
    assert done.returncode == 78
    assert "landlock is missing and sandbox.required is true" in done.stderr


def test_a_program_that_is_not_there_is_no_word_about_the_upload(job: Path) -> None:
    with pytest.raises(Transient, match="could not be started in its sandbox") as caught:
        run(["/nowhere/ffmpeg"], directory=job, limits=limits(Cage()), check=lambda: None)
    assert "No such file" in caught.value.details


@pytest.mark.parametrize(
    ("call", "number", "error"),
    [("pidfd_open", errno.ENOSYS, ConfigError), ("fork", errno.EAGAIN, Transient), ("pipe", errno.EMFILE, Transient)],
)
def test_what_a_starter_cannot_do_is_said_and_leaves_it_alive(
    job: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, error: type[Exception]
) -> None:
    script, serve = starter.SERVE.rsplit("; ", 1)
    fail = f"def {call}(*_): raise OSError({number}, 'cannot {call}')"
    monkeypatch.setattr(starter, "SERVE", f"{script}\n{fail}\ncage.os.{call} = {call}\n{serve}")
    with pytest.raises(error, match=f"cannot {call}"):
        sandbox.self_test(Cage())
    bounds = limits(Cage())
    for _ in range(2):
        with pytest.raises(Transient, match="could not be started in its sandbox") as caught:
            run(["/bin/true"], directory=job, limits=bounds, check=lambda: None)
        assert f"cannot {call}" in caught.value.details


def test_f31_a_fork_whose_starter_is_gone_already_becomes_nothing() -> None:
    script = "import sys; sys.path.append(sys.argv[1]); import cage; cage.die_with(1); print('goes on')"
    command = [sys.executable, "-I", "-S", "-c", script, str(Path(cage.__file__).parent)]
    done = subprocess.run(command, capture_output=True, check=False)  # its parent is not init
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


def test_f31_of_a_request_that_breaks_off_nothing_is_started() -> None:
    for sent in (b"", b"/tmp"):
        ours, theirs = socket.socketpair()
        with theirs:
            if sent:
                socket.send_fds(ours, [cage.HEAD.pack(10), sent], [])
            ours.close()
            assert cage._asked(theirs) is None


def test_what_a_program_may_hold_is_no_more_than_its_three_pipes(job: Path) -> None:
    """F42: nothing of ours is inherited."""
    with socket.socket() as ours:
        os.set_inheritable(ours.fileno(), True)
        script = (
            "import os\nfor n in range(256):\n  try: os.fstat(n); print(n)\n  except OSError: pass"  # no /proc in there
        )
        assert lines_of(python(script), job) == ["0", "1", "2"]


@pytest.mark.parametrize("hidden", [True, False])
def test_ffmpeg_reaches_no_server_and_no_file_even_if_its_own_white_lists_are_taken_away(
    job: Path, tmp_path: Path, hidden: bool
) -> None:
    """F45 by the cage alone; without it the same command reaches both canaries, so the test can fail."""
    rules = Cage() if hidden else Cage(landlock=False, seccomp=False)
    canary = tmp_path / "canary.mkv"
    _picture(canary)
    (job / "list").write_text(f"ffconcat version 1.0\nfile '{canary}'\n")
    ffmpeg = tools.find().ffmpeg
    ask = [ffmpeg, "-v", "error", "-nostdin", "-y"]
    copied = [*ask, "-f", "concat", "-safe", "0", "-i", "list", "-c", "copy", "copied.mkv"]
    with CanaryServer() as server:
        fetched = [*ask, "-i", f"http://127.0.0.1:{server.port}/x.mkv", "-f", "null", "-"]
        ended = [run(command, directory=job, limits=limits(rules), check=lambda: None) for command in (copied, fetched)]
    assert [ended[0].status == 0, server.connections > 0] == [not hidden, not hidden]


# ---- the filter, interpreted -----------------------------------------------------------------------------------------


def verdict(machine: str, pid: int, number: int, arguments: tuple[int, ...] = (), arch: int | None = None) -> int:
    """What the kernel would return for this call: classic BPF over struct seccomp_data (linux/seccomp.h)."""
    data = {cage.NR: number, cage.ARCH: cage.MACHINES[machine][0] if arch is None else arch}
    data |= {cage.ARG0_LOW + 8 * place: value & 0xFFFFFFFF for place, value in enumerate(arguments)}
    program, at, accumulator = cage.instructions(machine, pid), 0, 0
    while True:
        code, jump_true, jump_false, constant = program[at]
        at += 1
        match code:
            case cage.LOAD:
                accumulator = data.get(constant, 0)
            case cage.RETURN:
                return constant
            case cage.EQUAL:
                at += jump_true if accumulator == constant else jump_false
            case cage.GREATER:
                at += jump_true if accumulator > constant else jump_false
            case cage.SET:
                at += jump_true if accumulator & constant else jump_false


@pytest.mark.parametrize("machine", cage.MACHINES)
def test_the_filter_on_both_machines(machine: str) -> None:
    some, denied = cage.numbers(cage.CONDITIONAL, machine), cage.numbers(cage.NUMBERS, machine)
    assert {verdict(machine, 7, number) for number in denied.values()} == {cage.DENY}
    for name in ("kill", "tgkill", "prlimit64"):
        answers = [verdict(machine, 7, some[name], (who,)) for who in (7, 0, 8, 1, 2**32 - 1)]
        assert answers == [cage.ALLOW, cage.ALLOW, cage.DENY, cage.DENY, cage.DENY]
    assert verdict(machine, 7, some["clone"], (cage.CLONE_THREAD | 0x100,)) == cage.ALLOW
    assert verdict(machine, 7, some["clone"], (17,)) == cage.DENY  # SIGCHLD: a fork
    assert verdict(machine, 7, cage.CLONE3) == cage.ABSENT
    assert verdict(machine, 7, cage.LAST_KNOWN + 1) == cage.ABSENT
    assert verdict(machine, 7, 0x40000000 + 41) == cage.ABSENT  # x32's socket(2)
    assert verdict(machine, 7, denied["socket"], arch=0x40000003) == cage.KILL  # i386
    named = {*denied.values(), *some.values(), cage.CLONE3}
    assert {verdict(machine, 7, n) for n in range(cage.LAST_KNOWN + 1) if n not in named} == {cage.ALLOW}


@pytest.mark.parametrize(
    ("machine", "header", "flags"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", []),
        ("aarch64", "/usr/include/asm-generic/unistd.h", ["-D__ARCH_WANT_SYS_CLONE3", "-D__ARCH_WANT_MEMFD_SECRET"]),
    ],
)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str, header: str, flags: list[str]) -> None:
    if not Path(header).exists():
        pytest.skip(f"{header} is not installed")
    text = Path(header).read_text()
    given = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    ours = cage.numbers(cage.NUMBERS, machine) | cage.numbers(cage.CONDITIONAL, machine) | {"clone3": cage.CLONE3}
    assert {name: number for name, number in ours.items() if given.get(name, number) != number} == {}
    assert len(ours.keys() & given.keys()) > 100


# ---- tools -----------------------------------------------------------------------------------------------------------


def without_landlock(command: list[str]) -> subprocess.CompletedProcess[str]:
    """The command on a kernel whose landlock_create_ruleset(2) is not there, as far as it can see."""
    script = (
        "import ctypes, os, struct, sys; from appliance.adapters.ffmpeg import cage;"
        "code = b''.join(struct.pack('=HBBI', *i) for i in [(0x20, 0, 0, 0), (0x15, 0, 1, 444),"
        " (0x06, 0, 0, cage.ABSENT), (0x06, 0, 0, cage.ALLOW)]);"
        "b = ctypes.create_string_buffer(code, len(code)); p = cage._Program(4, ctypes.addressof(b));"
        "cage._prctl(38, 1); cage._prctl(22, 2, ctypes.addressof(p)); os.execv(sys.argv[1], sys.argv[1:])"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *command], cwd=TOP, capture_output=True, text=True, check=False, timeout=120
    )


def _picture(path: Path) -> None:
    command = [tools.find().ffmpeg, "-v", "error", "-f", "lavfi", "-i", "testsrc2=d=1:s=64x64:r=5", str(path)]
    subprocess.run(command, check=True)


def _nobody(command: list[str]) -> list[str]:
    return ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *command]


def _for_nobody() -> str:
    """An interpreter that an account without rights can run."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another account")
    for interpreter in PYTHONS:
        script = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            if subprocess.run(_nobody([interpreter, "-c", script]), check=False, capture_output=True).returncode == 0:
                return interpreter
        except FileNotFoundError:
            pytest.skip("setpriv is not installed")
    pytest.skip("no Python that another account could run")


def _readable_copy(shelf: Path) -> Path:
    """The package where everybody may read it."""
    shutil.copytree(TOP / "appliance", shelf / "package/appliance", ignore=shutil.ignore_patterns("__pycache__"))
    return shelf / "package"
