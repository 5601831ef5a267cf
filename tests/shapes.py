"""What `--json` prints, held against appliance/cli/shapes.py; and config/json.md, which is made from it."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict
from uuid import UUID

from appliance.__main__ import VERBS
from appliance.cli.shapes import PRINTED, Failure

PAGE = Path(__file__).parents[1] / "config/json.md"
PLAIN = {str: "text", int: "integer", float: "number", bool: "yes or no", NoneType: "null"}
SCALARS: dict[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (int, float), bool: (bool,)}
#: What `--json` does not reshape: a JSON Schema.
OTHERWISE = ("config schema",)
BEFORE_A_FIELD = re.compile(r"((?:    #: .*\n)+)    (\w+):")


def hold(arguments: Sequence[object], out: str) -> None:
    """Every object that this command line printed has the shape of its verb, or says what went wrong."""
    words = [str(word) for word in arguments if word in {*VERBS, "show", "validate", "schema", "--wait"}]
    verb = next((verb for verb in (" ".join(words[:2]), words[0]) if verb in (*PRINTED, *OTHERWISE)), "")
    if verb in OTHERWISE:
        return
    for line in out.splitlines():
        value = json.loads(line)
        assert [*misfits(value, Failure if "error" in value else PRINTED[verb])] == [], f"{words}: {line}"


def misfits(value: Any, kind: Any, where: str = "") -> Iterator[str]:
    """Where the value is not of this kind: a missing field, one that nobody knows, another type."""
    kind, origin, parts = _peeled(kind), get_origin(_peeled(kind)), get_args(_peeled(kind))
    if kind is Any:
        return
    if origin in (Union, UnionType):
        tried = [[*misfits(value, part, where)] for part in parts if part is not NoneType or value is None]
        yield from [] if [] in tried else tried[0]
    elif fields := _fields(kind):
        yield from _misfit_fields(value, kind, fields, where)
    elif origin in (list, tuple) and isinstance(value, list):
        kinds = parts if origin is tuple and ... not in parts else [parts[0]] * len(value)
        yield from [] if len(kinds) == len(value) else [f"{where}: has {len(value)} items"]
        for number, (item, part) in enumerate(zip(value, kinds, strict=False)):
            yield from misfits(item, part, f"{where}[{number}]")
    elif origin is dict and isinstance(value, dict):
        for name, item in value.items():
            yield from misfits(item, parts[1], f"{where}.{name}")
    elif not _is(value, kind):
        yield f"{where}: {value!r} is not {_written(kind)}"


def _misfit_fields(value: Any, kind: Any, fields: dict[str, Any], where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {value!r} is not {kind.__name__}"
        return
    needed = {name for name, part in fields.items() if get_origin(part) is not NotRequired}
    yield from (f"{where}.{name}: is missing" for name in sorted(needed - {*value}))
    yield from (f"{where}.{name}: {kind.__name__} has no such field" for name in sorted({*value} - {*fields}))
    for name in fields.keys() & value.keys():
        yield from misfits(value[name], fields[name], f"{where}.{name}")


def _is(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is of a kind without parts."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is NoneType:
        return value is None
    if kind in SCALARS:
        return isinstance(value, SCALARS[kind]) and isinstance(value, bool) == (kind is bool)
    read = {datetime: datetime.fromisoformat, UUID: UUID}.get(kind, kind)
    try:
        return isinstance(value, str) and read(value) is not None
    except ValueError:
        return False


def _peeled(kind: Any) -> Any:
    """`Annotated[dict, Receipt]` is a Receipt as JSON; NotRequired says nothing of the value."""
    if get_origin(kind) is NotRequired:
        return _peeled(get_args(kind)[0])
    if get_origin(kind) is Annotated:
        return kind.__metadata__[0]
    return kind


def _fields(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True) if is_typeddict(kind) or is_dataclass(kind) else {}


def page() -> str:
    """config/json.md, as it should be: the verbs, then every shape once, in the order in which it is first named."""
    rows = [f"| `{verb}` | {_written(kind)} |" for verb, kind in PRINTED.items()]
    shapes = dict.fromkeys(shape for kind in (*PRINTED.values(), Failure) for shape in _within(kind))
    intro = (inspect.getdoc(inspect.getmodule(Failure)) or "").replace("config/json.md is this file for people. ", "")
    told = [*map(_told, shapes)]
    return "\n\n".join(["# `--json`", intro, "\n".join(["| verb | prints |", "|---|---|", *rows]), *told]) + "\n"


def _told(shape: Any) -> str:
    notes = {name: " ".join(re.findall(r"#: (.*)", note)) for note, name in BEFORE_A_FIELD.findall(_source(shape))}
    about = "" if shape.__doc__ == dict.__doc__ else " ".join((shape.__doc__ or "").split())
    fields = (f"`{name}` {_written(kind)}{_noted(notes.get(name))}" for name, kind in _fields(shape).items())
    parts = [about.replace("None", "null"), " · ".join(fields).replace("None", "null")]
    wrapped = ["\n".join(textwrap.wrap(part, 120, break_on_hyphens=False)) for part in parts if part]
    return "\n\n".join([f"## {shape.__name__}", *wrapped])


def _noted(note: str | None) -> str:
    return f" ({note.rstrip('.')})" if note else ""


def _source(shape: Any) -> str:
    try:
        return inspect.getsource(shape)
    except (OSError, TypeError):
        return ""


def _within(kind: Any) -> Iterator[Any]:
    """The shape, and the shapes of its fields."""
    kind = _peeled(kind)
    if fields := _fields(kind):
        yield kind
    for part in (*fields.values(), *(get_args(kind) if get_origin(kind) is not Literal else ())):
        yield from _within(part)


def _written(kind: Any) -> str:
    optional, kind = get_origin(kind) is NotRequired, _peeled(kind)
    origin, parts = get_origin(kind), get_args(kind)
    if optional:
        text = f"{_written(kind)}, or absent"
    elif origin in (Union, UnionType):
        text = " or ".join(map(_written, parts))
    elif origin is Literal:
        text = " or ".join(parts)
    elif origin is tuple and ... not in parts:
        text = f"[{', '.join(map(_written, parts))}]"
    elif origin in (list, tuple):
        text = f"list of {_written(parts[0])}"
    elif origin is dict:
        text = "object" if parts[1] is Any else f"object of {_written(parts[1])}"
    elif _fields(kind):
        text = f"[{kind.__name__}](#{kind.__name__.lower()})"
    elif inspect.isclass(kind) and issubclass(kind, Enum):
        text = " or ".join(member.value for member in kind)
    else:
        text = {**PLAIN, datetime: "time", UUID: "UUID", Any: "anything"}[kind]
    return text


if __name__ == "__main__":
    PAGE.write_text(page())
