"""The model's statements do what the real ones do: random walks on real PostgreSQL, compared after every step."""

from __future__ import annotations

from tests.adapters.postgres.scene import Scene
from tests.model.replay import STATEMENTS, walked

WALKS = 60
#: The suite walks the same ways every time; `bench model --seed` walks others.
SEED = 1670536267


def test_walks_through_the_model_are_walks_through_the_rows(dsn) -> None:
    scene = Scene(dsn)
    try:
        took = walked(scene, SEED, WALKS)
    finally:
        scene.close()
    assert took.total() > 10 * WALKS
    assert STATEMENTS - set(took) == set()
