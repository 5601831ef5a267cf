"""The configuration as a JSON schema, for editors that complete and check YAML while it is written."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from appliance.yaml_file import UNITS

#: https://json-schema.org/draft-07/schema, which every editor's YAML support reads.
DIALECT = "http://json-schema.org/draft-07/schema#"


def schema(kind: type[Any]) -> dict[str, Any]:
    """Of a dataclass of settings, with the defaults. Rules that span settings are `config validate`'s."""
    return {"$schema": DIALECT, "title": "video-appliance.yaml", **_section(kind)}


def _section(kind: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    settings = [setting for setting in dataclasses.fields(kind) if setting.metadata.get("setting", True)]
    needed = [setting.name for setting in settings if _needed(setting)]
    return {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {setting.name: _setting(setting, hints[setting.name]) for setting in settings},
        **({"required": needed} if needed else {}),
    }


def _setting(setting: dataclasses.Field[Any], annotation: Any) -> dict[str, Any]:
    found = _of(annotation, setting.name)
    plain = setting.default if setting.repr and isinstance(setting.default, str | int | float) else None
    return found if plain is None else {**found, "default": plain}


def _of(annotation: Any, name: str) -> dict[str, Any]:
    if dataclasses.is_dataclass(annotation):
        return _section(typing.cast("type[Any]", annotation))
    if typing.get_origin(annotation) is tuple:
        return {"type": ["array", "null"], "items": _of(typing.get_args(annotation)[0], name)}
    if annotation is bool:
        return {"type": ["boolean", "null"]}
    if annotation is str:
        return {"type": ["string", "null"]}
    if annotation == int | str:
        return {"type": ["integer", "string", "null"]}
    units = next((units for ending, units in UNITS.items() if name.endswith(ending)), None)
    kind = "integer" if annotation is int and units is None else "number"
    if units is None:
        return {"type": [kind, "null"]}
    pattern = rf"^[0-9]+(\\.[0-9]+)?\\s*({'|'.join(filter(None, units))})?$".replace("\\\\", "\\")
    return {"type": [kind, "string", "null"], "pattern": pattern}


def _needed(setting: dataclasses.Field[Any]) -> bool:
    return setting.default is dataclasses.MISSING and setting.default_factory is dataclasses.MISSING
