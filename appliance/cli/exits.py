"""What every verb has, and what its exit status means (sysexits.h where it has a word for it)."""

from __future__ import annotations

import argparse
from typing import Protocol

from appliance.domain.events import EXIT_CONFIG, EXIT_DONE

DONE = EXIT_DONE
#: It ran and the answer is no: FAILED, unknown, not allowed in this state.
NEGATIVE = 1
#: argparse's own status for a command line that it cannot read.
USAGE = 2
UNAVAILABLE = 69
CONFIGURATION = EXIT_CONFIG
#: As shells report a process that SIGINT ended.
INTERRUPTED = 130


class Verb(Protocol):
    """A module of `appliance.cli`."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's own options."""

    def main(self, options: argparse.Namespace) -> int:
        """Do it and return one of the statuses above; an ApplianceError is explained by the caller."""
