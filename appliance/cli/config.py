"""`config show`, `config validate`: what the appliance reads from its file."""

from __future__ import annotations

import argparse
from dataclasses import fields, is_dataclass
from typing import Any

import yaml

from appliance import config as configuration
from appliance.cli import exits, terminal
from appliance.domain.secrets import HIDDEN, redacted


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("show", "validate"), help="print every setting, or only look for mistakes")


def main(options: argparse.Namespace) -> int:
    """`validate` also asks for what `run` needs; every mistake is named at once, and the status is 78."""
    config = configuration.load(options.config)
    if options.action == "show":
        shown = _settings(config)
        terminal.emit(shown) if options.json else terminal.say(yaml.safe_dump(shown, sort_keys=False).rstrip())
        return exits.DONE
    configuration.validate_for_run(config)
    if options.json:
        terminal.emit({"path": config.path, "problems": []})
    else:
        terminal.say(f"{config.path}: no mistakes.")
    return exits.DONE


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
