from __future__ import annotations

import pytest

from tests.encoder.stage import World, make_world


@pytest.fixture
def world(dsn, redis_url, aws, queue_url, tmp_path) -> World:
    return make_world(dsn, redis_url, aws, queue_url, tmp_path)
