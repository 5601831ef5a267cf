from __future__ import annotations

from pathlib import Path

import yaml

from appliance import config as configuration
from tests.shell import appliance


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
    assert ran.last["database"]["dsn"] == ran.last["redis"]["url"] == "…"
    assert "://" not in ran.out.replace("http://127.0.0.1", "")


def test_validate_accepts_what_run_would_accept(settings: Path) -> None:
    ran = appliance("config", "validate", "--config", settings)
    assert (ran.status, ran.out) == (0, f"{settings}: no mistakes.\n")
    assert appliance("config", "validate", "--config", settings, "--json").last["problems"] == []


def test_validate_names_what_run_would_miss() -> None:
    ran = appliance("config", "validate", "--config", "/dev/null")
    assert ran.status == 78
    assert all(name in ran.err for name in ("queue.url", "storage.bucket", "aws.region", "database.dsn_file"))
