"""`encode FILE --out DIR`: the appliance's own engine on one file, with no service at all."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from appliance.cli import exits, receipts, settings, terminal
from appliance.cli.bar import Bar
from appliance.wiring.local import EncodeResult, encode_file


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a recording, whatever its format")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="takes master.m3u8 and what it names")


def main(options: argparse.Namespace) -> int:
    """0 for READY, 1 for FAILED; with --json the last line is the result as one object."""
    config = settings.read_or_default(options)
    with Bar(quiet=options.json) as bar:
        result = encode_file(
            config,
            options.file,
            options.out,
            lambda percent, step, detail: bar.show(percent, step, **detail),
        )
    if options.json:
        terminal.emit(asdict(result))
    else:
        _tell(result)
    return exits.DONE if result.outcome == "READY" else exits.NEGATIVE


def _tell(result: EncodeResult) -> None:
    if result.outcome != "READY":
        terminal.say(f"FAILED {result.error_code}: {result.error_reason}", style="bold red")
        return
    receipts.show(result.receipt)
    terminal.say(f"READY {result.master}", style="green")
