"""A YAML file → frozen dataclasses, with the line of every mistake. Knows nothing of our settings.

A field's annotation decides what is read, its name decides the units: `…_seconds` takes `90`, `60s` or `2m`, `…_bytes`
takes `512MiB` or `2GiB`, `maxrate` takes bit/s, `550k` or `4M`. A key without a value keeps the default. Tags make no
objects, as with `yaml.safe_load`.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from appliance.domain.errors import ConfigError

#: A hundred times what anybody writes.
MAX_FILE_BYTES = 256 * 1024

UNITS: dict[str, dict[str, float]] = {
    "_seconds": {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400},
    "_bytes": {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "MB": 10**6, "GB": 10**9},
    "maxrate": {"": 1, "k": 10**3, "M": 10**6},
}
#: What to do about a file that is not there for us.
UNREADABLE: dict[type[OSError], str] = {
    PermissionError: "; it is for root and the service: use sudo",
    FileNotFoundError: "; `sudo ./install.sh` makes one, --config PATH names another",
}
#: Numbers that may be negative.
DECIBELS = ("_lufs", "_db")
NO_UNITS: dict[str, float] = {"": 1}
NUMBER = re.compile(r"(-?[0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")

YAML_NULL = "tag:yaml.org,2002:null"
YAML_BOOL = "tag:yaml.org,2002:bool"

Where = tuple[str, ...]


class Mistake(ValueError):
    """A sentence on what is wrong with one value; the reader knows where it stands."""


class YamlFile:
    """Reads one file. `problems` fills as it is read; `problem` adds those that only the caller can see."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._problems: list[tuple[int, str]] = []
        self._lines: dict[Where, int] = {}
        self._wrong: set[Where] = set()

    @property
    def problems(self) -> list[str]:
        """`path:line: section.setting: what is wrong`, in the order of the file."""
        ordered = sorted(self._problems, key=lambda problem: problem[0])
        return [f"{self._path}:{line}: {text}" if line else f"{self._path}: {text}" for line, text in ordered]

    @property
    def lines(self) -> dict[Where, int]:
        """Where each setting stands that was read, by its path."""
        return dict(self._lines)

    def problem(self, where: Where, sentence: str) -> None:
        """Note a mistake in the setting `where`, unless it, or what it lies in, is known to be wrong already."""
        places = [where[:depth] for depth in range(len(where), 0, -1)]
        if not self._wrong.isdisjoint(places):
            return
        self._wrong.add(where)
        line = next((self._lines[place] for place in places if place in self._lines), 0)
        self._problems.append((line, f"{'.'.join(where)}: {sentence}" if where else sentence))

    def read(self, kind: type[Any]) -> Any:
        """The file as a `kind`; what is wrong in it has its default. Raises ConfigError if the file is no YAML."""
        root = compose(self._path)
        return kind() if root is None else self._section(kind, root, ())

    def _section(self, kind: type[Any], node: yaml.Node, where: Where) -> Any:
        """A dataclass from a mapping, or None when it cannot be made."""
        if not isinstance(node, yaml.MappingNode):
            self.problem(where, "must hold settings, each `name: value`, indented, on a line of its own")
            return None
        hints = typing.get_type_hints(kind)
        annotations = {field.name: hints[field.name] for field in dataclasses.fields(kind) if _is_setting(field)}
        values = {}
        for name, value in self._entries(node, where, list(annotations)):
            found = self._value(annotations[name], value, (*where, name))
            if found is not None:
                values[name] = found
        needed = {field.name for field in dataclasses.fields(kind) if _is_needed(field)} - set(values)
        for name in sorted(needed):
            self.problem((*where, name), "is missing")
        return None if needed else kind(**values)

    def _entries(self, node: yaml.MappingNode, where: Where, known: list[str]) -> list[tuple[str, yaml.Node]]:
        """The known settings of a mapping that have a value, each once."""
        entries: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "…"
            line = key.start_mark.line + 1
            if name not in known:
                self._lines.setdefault((*where, name), line)
                self.problem((*where, name), f"there is no such setting{did_you_mean(name, known)}")
            elif (*where, name) in self._lines:
                self.problem((*where, name), f"is set twice, on line {self._lines[*where, name]} and on line {line}")
            else:
                self._lines[*where, name] = line
                entries[name] = value
        return [(name, value) for name, value in entries.items() if value.tag != YAML_NULL]

    def _value(self, annotation: Any, node: yaml.Node, where: Where) -> Any:
        """What the annotation asks for, or None after noting why not."""
        if dataclasses.is_dataclass(annotation):
            return self._section(typing.cast("type[Any]", annotation), node, where)
        if typing.get_origin(annotation) is tuple:
            return self._list(typing.get_args(annotation)[0], node, where)
        try:
            return _scalar(annotation, node, where[-1])
        except Mistake as mistake:
            self.problem(where, str(mistake))
            return None

    def _list(self, annotation: Any, node: yaml.Node, where: Where) -> tuple[Any, ...] | None:
        if not isinstance(node, yaml.SequenceNode):
            self.problem(where, "must be a list, each item on a line of its own that begins with `- `")
            return None
        items = []
        for number, item in enumerate(node.value, start=1):
            place = (*where, str(number))
            self._lines[place] = item.start_mark.line + 1
            items.append(self._value(annotation, item, place))
        return None if None in items else tuple(items)


def compose(path: Path) -> yaml.Node | None:
    """The file's node tree, None for an empty file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise ConfigError([f"{path}: is larger than {MAX_FILE_BYTES // 1024} KiB; is this the right file?"])
        return yaml.compose(raw.decode(), Loader=yaml.SafeLoader)
    except OSError as error:
        cure = next((text for kind, text in UNREADABLE.items() if isinstance(error, kind)), "")
        raise ConfigError([f"{path}: cannot be read: {error.strerror}{cure}"]) from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: is not UTF-8 text"]) from None
    except RecursionError:
        raise ConfigError([f"{path}: is nested too deeply; is this the right file?"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"{path}{_syntax(error)}"]) from None


def _syntax(error: yaml.YAMLError) -> str:
    """Where and what, without the text around it: that may be a password."""
    mark = getattr(error, "problem_mark", None)
    problem = re.sub(r"'[^']{2,}'", "…", str(getattr(error, "problem", None) or "cannot be understood"))
    place = f":{mark.line + 1}" if mark is not None else ""
    return f"{place}: is not YAML: {problem}; look at the indentation and the quotes here and one line above"


def _scalar(annotation: Any, node: yaml.Node, name: str) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        raise Mistake("must be one value, not a list")
    text = str(node.value).strip()
    if annotation is str:
        return text
    if annotation is bool:
        return _truth(node)
    if annotation == int | str:
        return int(text) if text.isdigit() else text
    if node.tag == YAML_BOOL:
        raise Mistake(f"must be a number, not `{_shown(text)}`")
    return _number(text, name, whole=annotation is int)


def _truth(node: yaml.ScalarNode) -> bool:
    if node.tag != YAML_BOOL:
        raise Mistake(f"must be `true` or `false`, not `{_shown(node.value)}`")
    return str(node.value).lower() in ("true", "yes", "on")


def _number(text: str, name: str, *, whole: bool) -> float:
    units = next((units for ending, units in UNITS.items() if name.endswith(ending)), NO_UNITS)
    match = NUMBER.fullmatch(text)
    if match is None or match[2] not in units:
        example = f" with one of the units {', '.join(filter(None, units))}" if len(units) > 1 else ""
        raise Mistake(
            f"must be a number{example}, not `{_shown(text)}`{did_you_mean(match[2] if match else '', units)}"
        )
    if match[1].startswith("-") and not name.endswith(DECIBELS):
        raise Mistake("must not be negative")
    number = float(match[1]) * units[match[2]]
    if whole and number != int(number):
        raise Mistake(f"must be a whole number, not `{_shown(text)}`")
    return int(number) if whole else number


def _shown(text: str) -> str:
    """A value as a message may repeat it: short, and no address, because addresses hold passwords."""
    return "…" if "://" in text or "@" in text else text[:40]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?` when something known is close, ignoring case."""
    lowered = {name.lower(): name for name in known if name}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.5) if word else []
    return f"; did you mean `{lowered[close[0]]}`?" if close else ""


def _is_setting(field: dataclasses.Field[Any]) -> bool:
    return bool(field.metadata.get("setting", True))


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
