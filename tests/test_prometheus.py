"""What config/ has for Prometheus and Grafana, against the real programs and the running appliance."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from appliance.local.aws import Aws
from appliance.local.port import free_ports
from appliance.supervisor.board import Board, SlotView
from appliance.supervisor.capacity import Scratch
from appliance.supervisor.dependencies import Dependencies
from appliance.supervisor.metrics import Metrics
from appliance.supervisor.web.textfile import TextFile
from tests import alerts
from tests.hosts import Host, World, eventually, host
from tests.recordings import lecture
from tests.supervisor.stage import until

CONFIG = Path(__file__).parents[1] / "config"
RULES = yaml.safe_load((CONFIG / "prometheus/rules.yml").read_text())
NAME = re.compile(r"\bvideo_appliance_[a-z_]+\b")
RECORDED = re.compile(r"\bvideo_appliance:[a-z0-9_:]+\b")
SELECTOR = re.compile(r"(?:\bup|\bvideo_appliance[_:][a-z0-9_:]+)(?:\{[^}]*\})?")
SCRAPES = 200


def program(name: str) -> str:
    path = Path(os.environ.get("PROMETHEUS_PROGRAMS", "")) / name
    if not os.environ.get("PROMETHEUS_PROGRAMS") or not path.exists():
        pytest.skip(f"{name} is not there (./install.sh test unpacks it on Debian and Ubuntu)")
    return str(path)


def everything() -> str:
    """A scrape in which nothing is left out."""
    metrics = Metrics()
    board = Board(
        *(0.0, 0.0),
        slots=(SlotView(0, "busy", 7, 1.0, 0, 7, 50.0, "encode", 2.0, 30.0),),
        backlog={"UPLOADED": 4, "PROCESSING": 0},
        oldest_due_seconds=9.0,
        reconciled_at=1e9,
        sandbox={"landlock": True},
        protected=True,
    )
    return metrics.scrape(board, Dependencies(lambda: 0.0, metrics.count), Scratch(1, 2)).decode()


def expressions() -> list[str]:
    """Every query of the dashboard and of the recording rules, and what the alerts compare (they answer nothing)."""
    board = json.loads((CONFIG / "grafana/video-appliance.json").read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    compared = [found for rule in rules if "alert" in rule for found in SELECTOR.findall(rule["expr"])]
    return [*shown, *(rule["expr"] for rule in rules if "record" in rule), *compared]


def page() -> str:
    """config/prometheus/METRICS.md, as it should be."""
    rows = ["# Metrics", "", "| metric | type | labels | what it says |", "|---|---|---|---|"]
    for family in text_string_to_metric_families(everything()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        rows.append(f"| `{name}` | {family.type} | {', '.join(sorted(labels))} | {family.documentation} |")
    return "\n".join(rows) + "\n"


def test_every_metric_is_documented_and_no_other() -> None:
    """`python -m tests.test_prometheus` writes the page anew."""
    assert (CONFIG / "prometheus/METRICS.md").read_text() == page()


def test_rules_and_dashboard_name_only_metrics_that_exist() -> None:
    exposed = {sample.name for family in text_string_to_metric_families(everything()) for sample in family.samples}
    recorded = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
    for expression in expressions():
        assert set(NAME.findall(expression)) <= exposed, expression
        assert set(RECORDED.findall(expression)) <= recorded, expression


def test_every_alert_says_what_to_do_and_is_tried_both_ways() -> None:
    names = [rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
    assert sorted(case.alert for case in alerts.CASES) == sorted(names)
    for group in RULES["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                assert rule["labels"]["severity"] in ("critical", "warning", "info")
                assert set(rule["annotations"]) == {"summary", "description"}


def test_promtool_finds_nothing_to_complain_of_and_each_alert_fires_when_it_should(tmp_path: Path) -> None:
    promtool = program("promtool")
    (tmp_path / "rules.yml").write_text((CONFIG / "prometheus/rules.yml").read_text())
    (tmp_path / "test.yml").write_text(yaml.safe_dump(alerts.promtool(RULES), sort_keys=False))
    (tmp_path / "prometheus.yml").write_text((CONFIG / "prometheus/scrape.yml").read_text())
    for command in (
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "test.yml"],
    ):
        done = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        [promtool, "check", "metrics"], input=everything(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_debians_prometheus_scrapes_a_busy_host_and_every_query_has_data(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prometheus = program("prometheus")
    source = lecture(tmp_path / "lecture.mp4", seconds=2, size="320x180", rate="10")
    with host(world, tmp_path / "host") as one, scraping(prometheus, one, tmp_path) as api:
        videos = [world.upload(source) for _ in range(2)]
        for video_id in videos:
            world.ring(video_id)
        eventually(lambda: _value(api, 'sum(video_appliance_jobs_total{outcome="ok"})') == len(videos))
        for expression in expressions():
            assert eventually(lambda query=expression: _query(api, query), seconds=30), expression


def test_two_hundred_scrapes_while_encodes_run_and_encoders_are_killed_see_no_error_and_no_counter_go_back(
    world: World, tmp_path: Path
) -> None:
    source = lecture(tmp_path / "lecture.mp4", seconds=8, size="640x360")
    with host(world, tmp_path / "host", pool={"encoders": 4}) as one:
        videos = [world.upload(source) for _ in range(6)]
        for video_id in videos:
            world.ring(video_id)
        highest: dict[str, float] = {}
        killed = 0
        eventually(lambda: one.events("WEB_READY"))
        eventually(lambda: _busy(one))
        for turn in range(SCRAPES):
            _never_back(highest, _get(f"http://127.0.0.1:{one.port}/metrics").decode())
            if turn % 50 == 25 and (busy := _busy(one)):
                os.kill(busy[0], 9)
                killed += 1
        eventually(lambda: all(world.row(video_id)["status"] == "READY" for video_id in videos), seconds=120)
    assert killed
    assert sum(value for name, value in highest.items() if name.startswith("video_appliance_slot_restarts_total"))


@pytest.fixture
def world(dsn: str, redis_url: str, aws: Aws, bucket: str, queue_url: str) -> World:
    return World(dsn, redis_url, aws, bucket, queue_url)


@contextmanager
def scraping(prometheus: str, one: Host, directory: Path) -> Iterator[str]:
    """The address of a Prometheus that scrapes this host twice a second."""
    settings = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "scrape_configs": [{"job_name": "video-appliance", "static_configs": [{"targets": [f"127.0.0.1:{one.port}"]}]}],
        "rule_files": [str(CONFIG / "prometheus/rules.yml")],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(settings))
    eventually(lambda: one.events("WEB_READY"))  # it has its port, so the next free one is another
    address = f"127.0.0.1:{next(free_ports())}"
    command = [prometheus, f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/tsdb"]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        yield f"http://{address}/api/v1/query"
    finally:
        process.terminate()
        process.wait(30)


def _never_back(highest: dict[str, float], text: str) -> None:
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.type in ("counter", "histogram") else ():
            name = f"{sample.name}{sorted(sample.labels.items())}"
            assert sample.value >= highest.get(name, 0.0), name
            highest[name] = sample.value


def _busy(one: Host) -> list[int]:
    """Processes of encoders that are at work."""
    status = json.loads(_get(f"http://127.0.0.1:{one.port}/status.json"))
    return [slot["pid"] for slot in status["slots"] if slot["pid"] and slot["state"] == "busy"]


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        body: bytes = answer.read()
    return body


def _query(api: str, expression: str) -> list[dict[str, Any]]:
    try:
        answer = json.loads(_get(f"{api}?{urllib.parse.urlencode({'query': expression})}"))
    except OSError:
        return []
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def _value(api: str, expression: str) -> float:
    found = _query(api, expression)
    return float(found[0]["value"][1]) if found else 0.0


@contextmanager
def node_exporter(*options: str) -> Iterator[int]:
    """The port of a real one."""
    port = next(free_ports())
    command = [program("prometheus-node-exporter"), f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    process = subprocess.Popen([*command, "--collector.disable-defaults", *options])
    try:
        eventually(lambda: _listens(port))
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def test_a_node_exporter_serves_our_series_from_a_file(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.count("jobs", "ok")
    path = tmp_path / "video-appliance.prom"
    file = TextFile(path, lambda: metrics.scrape(Board(0.0, 0.0), Dependencies(lambda: 0.0, metrics.count)), 0.05)
    with node_exporter("--collector.textfile", f"--collector.textfile.directory={tmp_path}") as port:
        file.start()
        until(path.exists)
        text = _get(f"http://127.0.0.1:{port}/metrics").decode()
        file.stop(10)
    assert 'video_appliance_jobs_total{outcome="ok"} 1' in text
    assert "node_textfile_scrape_error 0" in text
    assert [entry.name for entry in tmp_path.iterdir()] == []


def test_f41_a_node_exporter_on_our_port_is_named_and_encoding_goes_on(world: World, tmp_path: Path) -> None:
    with node_exporter("--collector.loadavg") as port, host(world, tmp_path / "host", web={"port": port}) as one:
        said = eventually(lambda: one.events("PORT_TAKEN"))[0]
        video_id = world.upload(lecture(tmp_path / "lecture.mp4", seconds=2, size="64x36", rate="10"))
        world.ring(video_id)
        eventually(lambda: world.row(video_id)["status"] == "READY")
    assert re.search(rf"Port {port} is taken by prometheus-node \(pid \d+\)\.", said["error"])


if __name__ == "__main__":
    (CONFIG / "prometheus/METRICS.md").write_text(page())
