"""A progress bar on a terminal; without one, a line for each new step."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from appliance.cli import terminal


class Bar:
    """Drawn on stderr, so that stdout stays what a program may read. `quiet`: nothing at all unless on a terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._step = ""
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            console=terminal.console(stderr=True),
            disable=not terminal.on_terminal(),
        )
        self._task = self._progress.add_task("", total=100, detail="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(
        self, percent: float, step: str, *, speed: float | None = None, remaining_seconds: float | None = None
    ) -> None:
        """`percent` 0–100 of the whole video; `speed` in media seconds per second."""
        left = f"{terminal.seconds(remaining_seconds)} left" if remaining_seconds is not None else ""
        fast = f"{speed:.1f}×" if speed is not None else ""
        self._progress.update(self._task, completed=percent, description=step, detail=f"{fast} {left}".strip())
        if step != self._step and not self._quiet and not terminal.on_terminal():
            terminal.console(stderr=True).print(f"{step} …")
        self._step = step
