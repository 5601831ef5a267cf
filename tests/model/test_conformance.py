"""The model's statements do what the real ones do: random walks on real PostgreSQL, compared after every step."""

from __future__ import annotations

import random
import sys

from tests.adapters.postgres.scene import Scene
from tests.model.replay import STATEMENTS, walked

WALKS = 60


def test_walks_through_the_model_are_walks_through_the_rows(dsn) -> None:
    seed = random.SystemRandom().randrange(2**32)
    scene = Scene(dsn)
    try:
        took = walked(scene, seed, WALKS)
    finally:
        scene.close()
    sys.stdout.write(f"seed {seed}: {WALKS} walks of {took.total()} steps\n")
    assert took.total() > 10 * WALKS
    assert STATEMENTS - set(took) == set()
