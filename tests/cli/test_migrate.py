from __future__ import annotations

from pathlib import Path

from tests.hosts import World
from tests.shell import appliance


def test_migrate_makes_the_schema_once_and_says_what_it_did(world: World, settings: Path, empty_dsn: str) -> None:
    settings.write_text(settings.read_text().replace(world.dsn, empty_dsn))
    first = appliance("migrate", "--config", settings, "--json")
    assert first.status == 0
    assert first.last["applied"]
    again = appliance("migrate", "--config", settings)
    assert again.status == 0
    assert again.out.splitlines()[-1] == "The schema beside the table video is up to date."
    assert appliance("list", "--config", settings).status == 0
