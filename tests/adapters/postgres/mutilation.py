"""One statement at a time is replaced by itself without a guard, and the battery is asked whether it notices."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

from appliance.local.postgres import Postgres
from tests.adapters.postgres import battery, battery_chunks
from tests.adapters.postgres.scene import Scene
from tests.adapters.postgres.stage import Admin
from tests.adapters.postgres.terms import Guard

Behaviour = Callable[[Scene], None]


@contextlib.contextmanager
def stage_of(server: Postgres, template: str) -> Iterator[Scene]:
    """A scene on a database of its own."""
    name = f"scene_{uuid.uuid4().hex}"
    admin = Admin(server.dsn)
    admin(f"CREATE DATABASE {name} TEMPLATE {template}")
    scene = Scene(server.database_dsn(name))
    try:
        yield scene
    finally:
        scene.close()
        admin(f"DROP DATABASE {name} WITH (FORCE)")
        admin.connection.close()


@dataclass(frozen=True)
class Verdict:
    """`by`: the scene that noticed, empty when none did."""

    guard: Guard
    by: str

    @property
    def caught(self) -> bool:
        return bool(self.by)


class Hunt:
    """The battery passes on the true statements first, which also tells which scene runs which statement."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.scenes_of: dict[str, list[Behaviour]] = defaultdict(list)
        seconds: dict[Behaviour, float] = {}
        for behaviour in behaviours():
            begun = time.monotonic()
            for name in self._statements_of(behaviour):
                self.scenes_of[name].append(behaviour)
            seconds[behaviour] = time.monotonic() - begun
        for found in self.scenes_of.values():
            found.sort(key=seconds.__getitem__)  # the cheapest may be enough

    @classmethod
    @contextlib.contextmanager
    def on(cls, server: Postgres, template: str) -> Iterator[Hunt]:
        with stage_of(server, template) as scene:
            yield cls(scene)

    def try_without(self, guard: Guard) -> Verdict:
        """Whether a scene fails. Raises when the mutant is no SQL: an error of grammar is no catch."""
        loaded = self.scene.database._statements
        true = loaded[guard.statement]
        mutant = guard.mutant.composed("video")
        self.scene.admin(f"EXPLAIN {mutant.as_string(self.scene.admin.connection)}".replace("%%", "%") % Nulls())
        loaded[guard.statement] = (guard.mutant, mutant)
        try:
            return Verdict(guard, self._noticed_by(self.scenes_of[guard.statement]))
        finally:
            loaded[guard.statement] = true

    def _noticed_by(self, scenes: list[Behaviour]) -> str:
        """The scene that noticed comes first next time: a statement's guards stand close together."""
        for behaviour in scenes:
            if self._fails(behaviour):
                scenes.remove(behaviour)
                scenes.insert(0, behaviour)
                return behaviour.__name__
        return ""

    def _fails(self, behaviour: Behaviour) -> bool:
        try:
            self._play(behaviour)
        except Exception:  # noqa: BLE001 — an assertion, a lost lease, whatever is said to what came back
            return True
        return False

    def _play(self, behaviour: Behaviour) -> None:
        self.scene.reset()
        behaviour(self.scene)
        self.scene.assert_bystanders()

    def _statements_of(self, behaviour: Behaviour) -> set[str]:
        ran: set[str] = set()
        database = self.scene.database
        run = database.run
        database.run = lambda name, **values: (ran.add(name), run(name, **values))[1]
        try:
            self._play(behaviour)
        finally:
            del database.run
        return ran


class Nulls(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "NULL"


def behaviours() -> list[Behaviour]:
    """The scenes of both halves, in the order of the files."""
    return [scene for module in (battery, battery_chunks) for scene in _scenes(module)]


def _scenes(module: ModuleType) -> Iterator[Behaviour]:
    for found in vars(module).values():
        if getattr(found, "__module__", None) != module.__name__ or not callable(found) or isinstance(found, type):
            continue
        if list(found.__annotations__) == ["scene", "return"] and found.__annotations__["return"] == "None":
            yield found
