"""`config show`, `config validate`, `config schema`: what the appliance reads from its file."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields, is_dataclass
from typing import Any

import yaml

from appliance import config as configuration
from appliance.cli import exits, terminal
from appliance.config.schema import schema
from appliance.domain.secrets import HIDDEN, redacted


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("show", "validate", "schema"),
        metavar="show|validate|schema",
        help="every setting and where its value comes from; every mistake at once; the JSON Schema for editors",
    )


def main(options: argparse.Namespace) -> int:
    """`validate` also asks for what `run` needs; every mistake is named at once, and the status is 78."""
    if options.action == "schema":
        print(json.dumps(schema(configuration.Config), indent=1))
        return exits.DONE
    loaded = configuration.read(options.config)
    if options.action == "show":
        shown = _settings(loaded.config)
        if options.json:
            terminal.emit({"path": loaded.config.path, "settings": shown, "origins": loaded.origins})
        else:
            _tell(shown, loaded.origins)
        return exits.DONE
    config = loaded.config
    configuration.validate_for_run(config)
    if options.json:
        terminal.emit({"path": config.path, "problems": []})
    else:
        terminal.say(f"{config.path}: no mistakes.")
    return exits.DONE


def _tell(shown: dict[str, Any], origins: dict[str, str]) -> None:
    """A file that reads back as the same settings, each with where its value comes from."""
    for section, settings in shown.items():
        terminal.say(f"{section}:")
        for name, value in settings.items():
            first, *rest = yaml.safe_dump({name: value}, sort_keys=False).rstrip().splitlines()
            terminal.say(f"  {first}  # {origins.get(f'{section}.{name}', 'default')}")
            for line in rest:
                terminal.say(f"  {line}")


def _settings(value: Any) -> Any:
    """Dataclasses as dictionaries, as the file writes them; what may hold a password is hidden."""
    if isinstance(value, tuple):
        return [_settings(item) for item in value]
    if not is_dataclass(value):
        return value
    settings = (setting for setting in fields(value) if setting.metadata.get("setting", True))
    return {setting.name: _shown(getattr(value, setting.name), secret=not setting.repr) for setting in settings}


def _shown(value: Any, *, secret: bool) -> Any:
    if secret and value:
        return HIDDEN
    return redacted(value) if isinstance(value, str) else _settings(value)
