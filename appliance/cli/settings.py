"""The configuration as verbs read it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from appliance import config as configuration
from appliance import log
from appliance.config import Config


def read(options: argparse.Namespace) -> Config:
    """The file, fit for talking to every service. Raises ConfigError."""
    config = configuration.load(options.config)
    configuration.validate_for_run(config)
    # A verb says itself what it found; of what adapters notice on the way only what is serious is worth a line.
    log.configure("error")
    return config


def read_or_default(options: argparse.Namespace) -> Config:
    """The same for verbs that need no service: a file that nobody named may be missing. Raises ConfigError."""
    log.configure("error")
    named = options.config or os.environ.get("VIDEO_APPLIANCE_CONFIG")
    if not named and not Path(configuration.DEFAULT_PATH).exists():
        return Config()
    return configuration.load(options.config)
