"""What verbs print: tables of at most 100 columns for people, one JSON object a line for programs."""

from __future__ import annotations

import datetime as dt
import json
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from appliance.domain.errors import ApplianceError
from appliance.domain.secrets import redacted, without_secrets

COLUMNS = 100
#: Into a pipe nothing is folded: a path or a reason stays one line for grep.
PIPE_COLUMNS = 10_000
#: Characters of a table's cell on a terminal; where there is room, columns of at most SHORT are not folded, so that
#: longer ones are, to FOLDED at the least.
CELL, SHORT, FOLDED = 400, 19, 9
#: Words that mean the same in every table. NO_COLOR is obeyed by rich.
STYLES = {
    **dict.fromkeys(("READY", "DONE", "ok", "up", "ready"), "green"),
    **dict.fromkeys(("FAILED", "failed", "lost", "down", "not ready"), "bold red"),
    **dict.fromkeys(("PROCESSING", "RUNNING", "busy"), "cyan"),
    **dict.fromkeys(("UPLOADED", "TODO", "released"), "yellow"),
}


def emit(value: Mapping[str, Any]) -> None:
    """One JSON object on one line; times as ISO 8601, tokens as text."""
    plain = json.loads(json.dumps(value, default=_plain))
    print(json.dumps(without_secrets(plain), ensure_ascii=False), flush=True)


def say(sentence: str = "", *, style: str = "", hang: int | None = None) -> None:
    """A line of text, as it is. With `hang` a terminal gets it folded between words, what follows indented by so much.

    No word is ever cut: a path must stay one for whoever copies it.
    """
    screen = console()
    if hang is not None and screen.is_terminal:
        folding = textwrap.TextWrapper(screen.width, subsequent_indent=" " * hang)
        folding.break_long_words = folding.break_on_hyphens = False
        sentence = folding.fill(sentence)
    screen.print(line(sentence, style=style), soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, most: int = CELL) -> None:
    """Print a titled table. A column name that ends with `>` holds numbers, aligned to the right.

    On a terminal a cell shows `most` characters and times without their year; into a pipe goes everything.
    """
    console().print(drawn_table(title, columns, rows, most=most))


def drawn_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, most: int = CELL) -> Table:
    """The same, for a screen that is drawn again and again."""
    cells = [[_cell(value, most if console().is_terminal else None) for value in row] for row in rows]
    drawn = Table(title=Text(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    roomy = sum(2 + (width if width <= SHORT else FOLDED) for width in widths) <= console().width
    for column, width in zip(columns, widths, strict=True):
        number = column.endswith(">")
        justify: JustifyMethod = "right" if number else "left"
        whole = number or (roomy and width <= SHORT)
        drawn.add_column(column.rstrip(">"), justify=justify, overflow="fold", no_wrap=whole)
    for row in cells:
        drawn.add_row(*row)
    return drawn


def line(sentence: str, *, style: str = "") -> Text:
    """A sentence for such a screen."""
    return Text(_clean(sentence), style)


def facts(title: str, pairs: Mapping[str, Any]) -> None:
    """Names and values, one pair a line; what is unknown is left out."""
    drawn = Table(title=Text(title), title_justify="left", title_style="bold", box=None, show_header=False)
    drawn.add_column(style="dim")
    drawn.add_column(overflow="fold")
    for name, value in pairs.items():
        if value not in (None, ""):
            drawn.add_row(name, _cell(value))
    console().print(drawn)


def complain(error: ApplianceError) -> None:
    """An error that did not end the command: what happened, what to do next, on stderr."""
    sys.stderr.write(f"{error.sentence}\n" + (f"  → {error.hint}\n" if error.hint else ""))


def console(*, stderr: bool = False) -> Console:
    """Made anew for each use: it is cheap, and the terminal may have been resized."""
    probe = Console(stderr=stderr)
    width = min(probe.width, COLUMNS) if probe.is_terminal else PIPE_COLUMNS
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def seconds(value: float | None) -> str:
    """A duration as people say it: `0.8 s`, `42 s`, `3 min 05 s`, `2 h 05 min`."""
    if value is None:
        return ""
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def size(value: float | None) -> str:
    """Bytes in powers of 1024, as the configuration writes them."""
    if value is None:
        return ""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def on_terminal() -> bool:
    return sys.stderr.isatty()


def _cell(value: Any, most: int | None = None) -> Text:
    """`most`: on a terminal, where what is longer loses its middle."""
    if isinstance(value, dt.datetime):
        value = _when(value)[5:-1] if most else _when(value)
    clean = _clean("" if value is None else str(value))
    if most and len(clean) > most:
        clean = f"{clean[: most // 2].rstrip()} … {clean[-(most // 2) :].lstrip()}"
    return Text(clean, STYLES.get(clean, ""))


def _clean(text: str) -> str:
    """Titles and reasons come from strangers: no escape sequence in them reaches the terminal, and no secret."""
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in redacted(text))


def _when(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _plain(value: Any) -> str:
    """What JSON has no word for: times as ISO 8601, tokens as text."""
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)
