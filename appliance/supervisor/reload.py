"""What a re-read file changes, and from when: at once, with the next encoder processes, or at the next start."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from appliance.config import Config

#: Taken over by the running supervisor.
AT_ONCE = frozenset({"pool", "log"})
#: Read by nobody but the supervisor, which has made its connections and threads from them.
SUPERVISOR_ONLY = frozenset({"web", "status_page", "reconcile", "cloudwatch", "fleet"})
#: Used by both: encoders get the new value when they are replaced, the supervisor keeps the old one.
SHARED = frozenset({"database", "queue", "aws", "redis", "lease", "workspace", "sandbox"})


@dataclass(frozen=True)
class Changes:
    """Names of settings (`section.field`), never their values: some are secrets."""

    changed: tuple[str, ...]

    def _of(self, sections: frozenset[str]) -> tuple[str, ...]:
        return tuple(name for name in self.changed if name.partition(".")[0] in sections)

    @property
    def at_once(self) -> tuple[str, ...]:
        return self._of(AT_ONCE)

    @property
    def with_next_encoders(self) -> tuple[str, ...]:
        """All but what only the supervisor reads. The drain budget and the log's level concern both."""
        ours = {*self._of(SUPERVISOR_ONLY), *self._of(frozenset({"pool"}))} - {"pool.drain_seconds"}
        return tuple(name for name in self.changed if name not in ours)

    @property
    def after_restart(self) -> tuple[str, ...]:
        return self._of(SUPERVISOR_ONLY | SHARED)


def changes(old: Config, new: Config) -> Changes:
    changed = []
    for section in fields(Config):
        before, now = getattr(old, section.name), getattr(new, section.name)
        if section.name == "path" or before == now:
            continue
        names = [field.name for field in fields(before) if getattr(before, field.name) != getattr(now, field.name)]
        changed += [f"{section.name}.{name}" for name in names]
    return Changes(tuple(changed))


class Answer:
    """How the last reload went, in the runtime directory: what `ExecReload=` waits for. No `problems`: well."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "reload.json"

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)

    def give(self, problems: list[str], **more: Any) -> None:
        """Whole or not at all. Raises OSError when the directory cannot be written."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".new")
        unfinished.write_text(json.dumps({"problems": problems, **more}))
        unfinished.replace(self._path)

    def read(self) -> dict[str, Any] | None:
        """None until it is given."""
        try:
            answer: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        return answer
