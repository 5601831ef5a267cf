"""A configuration that names the test's own database, Redis, bucket and queue, as the file of an operator would."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from appliance.local.aws import Aws
from appliance.local.port import free_ports
from tests.hosts import World


@pytest.fixture
def world(dsn: str, redis_url: str, aws: Aws, bucket: str, queue_url: str) -> World:
    return World(dsn, redis_url, aws, bucket, queue_url)


@pytest.fixture
def settings(world: World, tmp_path: Path) -> Path:
    """The file; nobody listens on its web.port."""
    path = tmp_path / "video-appliance.yaml"
    path.write_text(yaml.safe_dump({**world.settings(), "web": {"port": next(free_ports())}}))
    return path
