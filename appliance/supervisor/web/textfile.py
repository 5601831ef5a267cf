"""/metrics as a file, for a node_exporter that is there already (its --collector.textfile.directory)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import structlog

#: As often as it is usually scraped.
WRITE_SECONDS = 15.0
#: node_exporter runs as somebody else.
MODE = 0o644


class TextFile:
    """The thread that writes. The file is replaced whole, so nobody reads half of it, and goes away at the end."""

    def __init__(self, path: Path, metrics: Callable[[], bytes], seconds: float = WRITE_SECONDS) -> None:
        self._path, self._metrics, self._seconds = path, metrics, seconds
        self._log = structlog.get_logger()
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="textfile", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        self._stop.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            self._write()
            if self._stop.wait(self._seconds):
                break
        self._path.unlink(missing_ok=True)  # figures of a service that is gone would stand there for ever

    def _write(self) -> None:
        # a name that the collector does not take for one of its files
        half = self._path.with_name(f".{self._path.name}.half")
        try:
            half.write_bytes(self._metrics())
            half.chmod(MODE)
            half.replace(self._path)
        except OSError as error:
            if not self._failing:
                hint = f"Give the service's user the right to write into {self._path.parent}. Encoding goes on."
                self._log.error("TEXTFILE_FAILED", path=str(self._path), error=str(error), hint=hint)
            self._failing = True
        else:
            self._failing = False
