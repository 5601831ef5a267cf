from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from appliance.adapters.cloudwatch import CloudWatch
from tests.hosts import World
from tests.shell import appliance

SUPERVISOR = (
    b'{"unready": ["no encoder is running"], "notices": {}, "slots": [{"slot": 0, "state": "busy", "pid": 7,'
    b' "since_seconds": 61.0, "restarts": 0, "video_id": 12, "percent": 40.2, "step": "encode", "speed": 2.5,'
    b' "remaining_seconds": 30.0}]}'
)


@contextmanager
def supervisor(settings: Path) -> Iterator[None]:
    """Answers as a supervisor's status page does, on the file's web.port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/status.json" else 404)
            self.end_headers()
            self.wfile.write(SUPERVISOR)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", yaml.safe_load(settings.read_text())["web"]["port"]), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()


def test_status_counts_the_backlog_and_asks_every_dependency(world: World, settings: Path) -> None:
    world.query("INSERT INTO video (status, file_key, tenant_id) VALUES ('UPLOADED', 'a', 1), ('UPLOADED', 'b', 1)")
    world.ring(1)
    ran = appliance("status", "--config", settings, "--json")
    assert ran.status == 0
    assert ran.last["backlog"]["by_status"]["UPLOADED"] == 2
    assert {name: found["up"] for name, found in ran.last["dependencies"].items()} == dict.fromkeys(
        ("postgres", "redis", "sqs", "s3"), True
    )
    assert ran.last["dependencies"]["sqs"]["answer"]["visible"] == 1
    assert ran.last["service"] is None
    told = appliance("status", "--config", settings).out
    assert "UPLOADED" in told
    assert "No supervisor answers on this host" in told


def test_status_shows_the_encoders_of_this_host(world: World, settings: Path) -> None:
    with supervisor(settings):
        told = appliance("status", "--config", settings).out
    row = next(line for line in told.splitlines() if "busy" in line)
    assert [word in row for word in ("12", "40 %", "encode", "2.5×", "30 s")] == [True] * 5
    assert "! no encoder is running" in told


@pytest.mark.parametrize(
    ("down", "section", "name"),
    [("postgres", "database", "dsn"), ("redis", "redis", "url"), ("sqs", "queue", "url"), ("s3", "storage", "bucket")],
)
def test_status_works_while_something_is_down_and_says_what(
    world: World, settings: Path, down: str, section: str, name: str
) -> None:
    nowhere = {
        "postgres": "postgresql://nobody@127.0.0.1:9/none",
        "redis": "redis://127.0.0.1:9/0",
        "sqs": f"{world.queue_url}-none",
        "s3": "nobodys-bucket",
    }
    changed = yaml.safe_load(settings.read_text())
    changed[section][name] = nowhere[down]
    settings.write_text(yaml.safe_dump(changed))
    ran = appliance("status", "--config", settings, "--json")
    assert ran.status == 69
    found = ran.last["dependencies"]
    assert [dependency for dependency in found if not found[dependency]["up"]] == [down]
    assert found[down]["problem"]
    assert found[down]["hint"]
    told = appliance("status", "--config", settings)
    assert told.status == 69
    assert found[down]["hint"] in told.out


def cloudwatch(world: World, settings: Path) -> CloudWatch:
    """The file's own namespace: moto's CloudWatch is everybody's."""
    changed = yaml.safe_load(settings.read_text())
    changed["cloudwatch"] = {"namespace": f"Test/{uuid.uuid4().hex}"}
    changed["pool"] = {"encoders": 4}
    settings.write_text(yaml.safe_dump(changed))
    return CloudWatch(world.aws.client("cloudwatch"), changed["cloudwatch"]["namespace"])


def test_status_shows_what_cloudwatch_holds_beside_what_is_so_now(world: World, settings: Path) -> None:
    cloudwatch(world, settings).put({"BacklogCount": 9.0, "video_oldest_seconds": 75.0})
    world.query("INSERT INTO video (status, file_key, tenant_id) SELECT 'UPLOADED', 'a', 1 FROM generate_series(1, 5)")
    world.ring(1)
    ran = appliance("status", "--config", settings, "--cloudwatch", "--json")
    assert ran.status == 0
    found = ran.last["cloudwatch"]
    assert (found["BacklogCount"]["published"]["value"], found["BacklogCount"]["now"]) == (9, 5)
    assert (found["video_desired_raw"]["published"], found["video_desired_raw"]["now"]) == (None, 2)
    assert found["video_visible"]["now"] == 1
    told = appliance("status", "--config", settings, "--cloudwatch").out
    row = next(line.split() for line in told.splitlines() if "BacklogCount" in line)
    assert ("9" in row, "5" in row) == (True, True)
    assert "1 min 15 s" in told
    assert next(line for line in told.splitlines() if "video_busy_slots" in line).split().count("nothing") == 1


def test_status_without_aws_says_so_of_cloudwatch_and_tells_the_rest(world: World, settings: Path) -> None:
    cloudwatch(world, settings)
    changed = yaml.safe_load(settings.read_text())
    changed["aws"]["endpoint_url"], changed["queue"]["url"] = "http://127.0.0.1:9", "http://127.0.0.1:9/1/bell"
    settings.write_text(yaml.safe_dump(changed))
    ran = appliance("status", "--config", settings, "--cloudwatch", "--json")
    assert ran.status == 69
    assert "get_metric_data" in ran.last["dependencies"]["cloudwatch"]["problem"]
    assert ran.last["cloudwatch"]["BacklogCount"] == {"published": None, "now": 0}
    assert ran.last["cloudwatch"]["video_visible"] == {"published": None, "now": None}
    told = appliance("status", "--config", settings, "--cloudwatch").out
    assert "Check the network and the instance role." in told
    assert "unknown" in next(line for line in told.splitlines() if "video_inflight" in line)
