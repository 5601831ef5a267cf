"""`run`: the service in the foreground, as systemd starts it."""

from __future__ import annotations

import argparse

from appliance import config as configuration
from appliance.wiring.memory import without

with without("rich"):  # structlog has it for coloured tracebacks: 3 MiB
    from appliance.wiring import supervisor


def arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def main(options: argparse.Namespace) -> int:
    """The supervisor's own exit status; 78 before it, when the configuration cannot be used."""
    config = configuration.load(options.config)
    configuration.validate_for_run(config)
    return supervisor.run(config)
