"""Each measurement with targets, tiny: that it runs and prints what it promises. What it finds here says nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.config import Encode
from appliance.local.aws import Aws
from appliance.local.postgres import Postgres
from tests.benchmarks import claims, cpu, encode, idle, measure, overhead, saturate, screen, shapes
from tests.benchmarks.measure import Figure, Missing
from tests.hosts import World
from tests.recordings import lecture


@pytest.fixture
def world(dsn: str, redis_url: str, aws: Aws, bucket: str, queue_url: str) -> World:
    return World(dsn, redis_url, aws, bucket, queue_url)


@pytest.fixture
def no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Path:
        raise Missing(f"{name} is not here")

    monkeypatch.setattr("tests.benchmarks.peers.python", absent)


def test_the_exit_status_is_0_only_when_every_target_holds(capsys: pytest.CaptureFixture[str]) -> None:
    met, missed = Figure("a", 1.0, 1.0, raw={"s": [1.5]}), Figure("b", 1.01, 1.0)
    absent = Figure("c", None, 2.0, at_least=True, why="there is none")
    statuses = [measure.tell(found, as_json=True) for found in ([met], [met, absent], [absent, missed, met])]
    assert statuses == [0, 69, 1]
    last = capsys.readouterr().out.splitlines()[1:3]
    assert last[1] == '{"name": "c", "ratio": null, "target": 2.0, "ok": false, "left_out": "there is none"}'
    assert measure.tell([absent], as_json=False) == 69
    assert capsys.readouterr().out == "left out  c (≥ 2): there is none\n"


def test_the_meter_counts_processes_whose_parent_did_not_wait(tmp_path: Path) -> None:
    """The shell is gone at once; what it left behind works on and is counted."""
    work = "$0 -c 'for _ in range(10**7): pass' &"
    alone = cpu.run([sys.executable, "-c", "pass"])
    spent = cpu.run(["sh", "-c", work, sys.executable], cwd=tmp_path)
    assert spent.cpu_seconds > 3 * alone.cpu_seconds


def test_claims_runs_without_its_peers_and_leaves_them_out(postgres: Postgres, no_peer: None) -> None:
    del no_peer
    left_out = [*claims.against(postgres, 2, jobs=20, rounds=1)]
    assert {(figure.ratio, figure.ok) for figure in left_out} == {(None, False)}
    assert all("is not here" in figure.why for figure in left_out)
    with claims.database(postgres, claims.DUE.format(rows=22)) as dsn:
        assert claims.ours(dsn, 2) > 0
    assert [figure.ratio is not None for figure in claims.sizes(postgres, 20, 40, 5, 1)] == [True, True]


def test_recordings_are_left_out_without_the_corpus(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CORPUS_DIR", raising=False)
    found = [
        *encode.figures(tmp_path, seconds=1, size=(160, 90), rounds=1),
        *saturate.figures(world, tmp_path, seconds=1, size=(160, 90), rounds=1),
        *screen.figures(tmp_path, seconds=1, rounds=1),
    ]
    assert len(found) == 7 + 5 + 5
    assert {figure.ratio for figure in found} == {None}
    assert {figure.why for figure in found} == {"CORPUS_DIR is not set", "not all of the recordings are here"}


def test_a_recording_of_a_screen_is_compared_with_the_cascade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(screen.RECORDINGS))
    file = tmp_path / "corpus" / name
    file.parent.mkdir(parents=True)
    lecture(file, seconds=2, size="480x360")
    monkeypatch.setenv("CORPUS_DIR", str(tmp_path / "corpus"))
    found = screen.compare(name, tmp_path / "out", seconds=3, rounds=1, shaka=False)
    assert found.cpu > 0
    assert found.bytes == pytest.approx(1, abs=0.2)
    assert abs(found.vmaf) < 2  # each against its own frames: one frame off is far below


@pytest.mark.parametrize("shape", [shapes.separate, shapes.split, shapes.cascade])
def test_a_peers_shape_makes_our_rungs(shape: shapes.Shape, tmp_path: Path) -> None:
    source = lecture(tmp_path / "clip.mp4", seconds=1, size="640x480")
    job = shapes.Job(source, tmp_path / "out", 640, 480, encode.RATE, 1, Encode(preset="ultrafast"), 1)
    bench = encode.Bench(job)
    assert bench.theirs(shape).cpu_seconds > 0
    assert {path.name for path in job.out.iterdir()} >= {"sound.mp4"}
    assert len([*job.out.glob("*p*.mp4")]) == len(job.rungs) == 2
    assert all(rate > 0 for rate in bench.rates().values())


def test_overhead_and_idle_are_measured_on_a_running_appliance(world: World, tmp_path: Path) -> None:
    (added,) = overhead.figures(world, tmp_path, 1, "160x90")
    assert added.ratio is not None
    assert added.raw["programs s"][0] > 0
    quiet = replace(world, queue_url=world.aws.make_queue("quiet"))
    found = [*idle.figures(quiet, tmp_path / "idle", slots=1, seconds=1, settle=0)]
    assert [figure.name.split(",")[0] for figure in found] == ["idle"] * 4
    assert found[1].ratio is not None
    assert found[1].ratio > 1
