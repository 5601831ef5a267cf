"""Real programs that hang, flood, die or are told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.adapters.ffmpeg import starter
from appliance.adapters.ffmpeg.run import Limits, run
from appliance.adapters.ffmpeg.sandbox import Cage
from appliance.domain.errors import LeaseLost, Transient

#: For programs in Python, wherever it is installed.
CAGE = Cage(readable=(sys.base_prefix,))
GENEROUS = Limits(deadline_seconds=30, stall_seconds=30, memory_bytes=1 << 30, cage=CAGE)


def ok() -> None:
    """Nothing ends the job."""


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def python(script: str) -> list[str]:
    """What waits: a caged shell cannot, because `sleep` would be a process of its own."""
    return [str(Path(sys.executable).resolve()), "-I", "-S", "-c", script]


def test_a_program_that_ends_tells_how(tmp_path: Path) -> None:
    lines: list[str] = []
    ended = run(
        shell("echo one; echo two; echo oops >&2; exit 3"),
        directory=tmp_path,
        limits=GENEROUS,
        check=ok,
        on_line=lines.append,
    )
    assert (ended.status, lines, ended.last_words) == (3, ["one", "two"], "oops")
    assert ended.wall_seconds > 0
    assert ended.peak_memory_bytes > 0


def test_no_address_of_a_programs_memory_is_kept(tmp_path: Path) -> None:
    said = shell("echo '[mov,mp4 @ 0x55d0c8] [h264 @ 0x7f] error at 0x1f' >&2")
    assert run(said, directory=tmp_path, limits=GENEROUS, check=ok).last_words == "[mov,mp4] [h264] error at 0x1f"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_f32_a_program_that_is_killed_from_outside_has_said_nothing_about_its_input(
    tmp_path: Path, number: signal.Signals
) -> None:
    with pytest.raises(Transient, match=f"killed by signal {number}") as caught:
        run(shell(f"echo half; kill -{int(number)} $$"), directory=tmp_path, limits=GENEROUS, check=ok)
    assert caught.value.code == "encode_failed"


def test_f33_a_program_whose_output_time_stands_still_is_killed(tmp_path: Path) -> None:
    script = "import time\nwhile True: print('out_time_us=1000', flush=True); time.sleep(0.05)"
    with pytest.raises(Transient, match="no progress") as caught:
        run(python(script), directory=tmp_path, limits=Limits(30, 0.6, 1 << 30, CAGE), check=ok)
    assert caught.value.code == "encode_stalled"


def test_f34_every_step_has_a_deadline(tmp_path: Path) -> None:
    script = "import time\nfor n in range(9999): print(f'out_time_us={n}', flush=True); time.sleep(0.05)"
    with pytest.raises(Transient, match="still running"):
        run(python(script), directory=tmp_path, limits=Limits(0.6, 30, 1 << 30, CAGE), check=ok)


def test_a_program_that_closes_its_output_and_stays_is_killed(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="did not end"):
        run(shell("exec >&- 2>&- sleep 60"), directory=tmp_path, limits=Limits(0.6, 30, 1 << 30), check=ok)


def test_undrained_stderr_cannot_block_it(tmp_path: Path) -> None:
    ended = run(
        python("import sys; sys.stderr.write('x' * 5_000_000); sys.stderr.write('\\nlast\\n')"),
        directory=tmp_path,
        limits=GENEROUS,
        check=ok,
    )
    assert ended.stderr[-1] == "last"


def test_what_check_raises_kills_the_whole_group_and_passes_through(tmp_path: Path) -> None:
    pids: list[int] = []

    def lost() -> None:
        if len(pids) == 2:
            raise LeaseLost("The row is somebody else's.")

    script = "echo $$; sleep 60 & echo $!; wait"
    with pytest.raises(LeaseLost):
        run(
            shell(script),
            directory=tmp_path,
            limits=Limits(30, 30, 1 << 30, Cage(seccomp=False)),  # with it there is no group: nothing can fork
            check=lost,
            on_line=lambda line: pids.append(int(line)),
        )
    assert all(_gone(pid) for pid in pids)


@pytest.mark.parametrize("script", ["echo $$ $PPID; exec sleep 60", "echo $PPID"], ids=["at work", "idle"])
def test_f31_program_and_starter_die_with_the_process_that_they_work_for(tmp_path: Path, script: str) -> None:
    code = (
        "import sys, time; from pathlib import Path; from appliance.adapters.ffmpeg.run import *;"
        "limits = Limits(60, 60, 1 << 30); run(['/bin/sh', '-c', sys.argv[2]], directory=Path(sys.argv[1]),"
        " limits=limits, check=lambda: None, on_line=lambda line: print(line, flush=True));"
        "print('idle', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path), script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        if script.endswith("$PPID"):
            assert parent.stdout.readline() == "idle\n"
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        parent.send_signal(signal.SIGKILL)
    assert all(_gone(pid) for pid in pids)


def test_a_starter_that_does_not_end_is_killed_and_its_program_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter, "END_SECONDS", 0.1)
    pids: list[int] = []

    def stop(line: str) -> None:
        pids.extend(map(int, line.split()))
        os.kill(pids[1], signal.SIGSTOP)

    def lost() -> None:
        if pids:
            raise LeaseLost("The row is somebody else's.")

    with pytest.raises(LeaseLost):
        run(shell("echo $$ $PPID; exec sleep 60"), directory=tmp_path, limits=GENEROUS, check=lost, on_line=stop)
    assert all(_gone(pid) for pid in pids)


def test_one_starter_serves_one_program_after_another(tmp_path: Path) -> None:
    assert _starter_of(tmp_path) == _starter_of(tmp_path)


def test_what_was_raised_ends_the_starter_too(tmp_path: Path) -> None:
    def lost() -> None:
        raise LeaseLost("The row is somebody else's.")

    before = _starter_of(tmp_path)
    with pytest.raises(LeaseLost):
        run(shell("exec sleep 60"), directory=tmp_path, limits=GENEROUS, check=lost)
    assert _gone(before)
    assert _starter_of(tmp_path) != before


def test_a_starter_that_is_killed_takes_its_program_along_and_is_no_word_about_the_input(tmp_path: Path) -> None:
    pids: list[int] = []

    def kill(line: str) -> None:
        pids.extend(map(int, line.split()))
        os.kill(pids[1], signal.SIGKILL)

    with pytest.raises(Transient, match="starts ffmpeg was killed") as caught:
        run(shell("echo $$ $PPID; exec sleep 60"), directory=tmp_path, limits=GENEROUS, check=ok, on_line=kill)
    assert caught.value.code == "encode_failed"
    assert all(_gone(pid) for pid in pids)


def test_a_starter_that_was_killed_while_it_was_idle_is_replaced(tmp_path: Path) -> None:
    before = _starter_of(tmp_path)
    os.kill(before, signal.SIGKILL)
    assert _gone(before)
    assert _starter_of(tmp_path) != before


def _starter_of(directory: Path) -> int:
    """The PID of what started a program that ran just now."""
    lines: list[str] = []
    run(shell("echo $PPID"), directory=directory, limits=GENEROUS, check=ok, on_line=lines.append)
    return int(lines[0])


def test_the_environment_holds_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    lines: list[str] = []
    run(["/usr/bin/env"], directory=tmp_path, limits=GENEROUS, check=ok, on_line=lines.append)
    assert sorted(line.split("=")[0] for line in lines) == ["LANG", "PATH"]


def test_f46_memory_is_bounded(tmp_path: Path) -> None:
    ended = run(python("b'x' * (2 << 30)"), directory=tmp_path, limits=GENEROUS, check=ok)
    assert ended.status != 0
    assert "MemoryError" in ended.last_words


def _gone(pid: int) -> bool:
    """True once the process is dead, a zombie that waits for its reaper included."""
    for _ in range(100):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            if state != "Z":
                time.sleep(0.05)
                continue
        return True
    os.kill(pid, signal.SIGKILL)
    return False
