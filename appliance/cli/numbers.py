"""Numbers on a command line, and what is said of those that are none."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

#: PostgreSQL's bigint and integer.
BIGINT, INTEGER = 2**63 - 1, 2**31 - 1


def whole(what: str, lowest: int, highest: int) -> Callable[[str], int]:
    """A `type` of argparse: a whole number within these bounds, called `what` when it is none."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII) or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return int(text)

    return read


video = whole("the id of a video: a number, as `video-appliance list` shows it", 1, BIGINT)
tenant = whole("the id of a tenant: a number", 0, BIGINT)
amount = whole("a number above 0", 1, INTEGER)
priority = whole("a priority: a whole number", -INTEGER, INTEGER)
