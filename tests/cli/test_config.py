from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from appliance import config as configuration
from tests.shell import appliance

CONFIG = Path(__file__).parents[2] / "config"


def test_show_prints_a_file_that_reads_back_as_the_same_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("lease: { renew_seconds: 10s }\nencode: { chunk_seconds: 30s }\n")
    shown = tmp_path / "shown.yaml"
    shown.write_text(appliance("config", "show", "--config", path).out.replace("redis.url: …", ""))
    settings = yaml.safe_load(shown.read_text())
    assert settings["lease"]["renew_seconds"] == 10
    settings["redis"].pop("url")  # it may hold a password, so it is not shown
    shown.write_text(yaml.safe_dump(settings))
    again, before = configuration.load(shown), configuration.load(path)
    assert again.encode == before.encode
    assert again.lease == before.lease


def test_show_hides_what_may_hold_a_password(settings: Path) -> None:
    ran = appliance("config", "show", "--config", settings, "--json")
    assert ran.status == 0
    assert ran.last["settings"]["database"]["dsn"] == ran.last["settings"]["redis"]["url"] == "…"
    assert "://" not in re.sub(r"http://(127.0.0.1|169.254.169.254)", "", ran.out)


def test_validate_accepts_what_run_would_accept(settings: Path) -> None:
    ran = appliance("config", "validate", "--config", settings)
    assert (ran.status, ran.out) == (0, f"{settings}: no mistakes.\n")
    assert appliance("config", "validate", "--config", settings, "--json").last["problems"] == []


def test_validate_names_what_run_would_miss() -> None:
    ran = appliance("config", "validate", "--config", "/dev/null")
    assert ran.status == 78
    assert all(name in ran.err for name in ("queue.url", "storage.bucket", "aws.region", "database.dsn_file"))


def test_show_says_where_each_value_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("lease:\n  renew_seconds: 10s\nqueue:\n  fast_ack: true\n")
    monkeypatch.setenv("VIDEO_FAST_ACK", "0")
    lines = appliance("config", "show", "--config", path).out.splitlines()
    assert f"  renew_seconds: 10.0  # {path}:2" in lines
    assert "  fast_ack: false  # environment VIDEO_FAST_ACK" in lines
    assert "  lease_seconds: 180.0  # default" in lines
    origins = appliance("config", "show", "--config", path, "--json").last["origins"]
    assert origins == {"lease.renew_seconds": f"{path}:2", "queue.fast_ack": "environment VIDEO_FAST_ACK"}


def test_the_schema_for_editors_is_the_one_that_is_printed() -> None:
    """`video-appliance config schema >config/video-appliance.schema.json` writes it anew."""
    kept = CONFIG / "video-appliance.schema.json"
    assert json.loads(kept.read_text()) == json.loads(appliance("config", "schema").out)


def test_the_reference_fits_the_schema_and_mistakes_do_not() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    rules = jsonschema.Draft7Validator(json.loads((CONFIG / "video-appliance.schema.json").read_text()))
    reference = yaml.safe_load((CONFIG / "video-appliance.yaml").read_text())
    assert [error.message for error in rules.iter_errors(reference)] == []
    for section, setting, value in (
        ("lease", "renew_second", 20),
        ("lease", "renew_seconds", "20 parsecs"),
        ("workspace", "min_free_bytes", "2 gigs"),
        ("queue", "fast_ack", "perhaps"),
    ):
        assert list(rules.iter_errors({section: {setting: value}})), (section, setting)
