"""A directory as object storage: what S3 is to the appliance, for one file on a desk."""

from __future__ import annotations

import shutil
from pathlib import Path

from appliance.domain.stored import Absent, Stored, TooMuch


class Directory:
    """Keys are paths below `root`. Metadata of objects has no place here and is dropped."""

    def __init__(self, root: Path, *, most_bytes: int = 1 << 40) -> None:
        self.root = root
        self.most_bytes = most_bytes

    def put_file(self, key: str, path: Path, *, content_type: str, cache_control: str) -> None:
        del content_type, cache_control
        target = self._path(key)
        shutil.copyfile(path, target)

    def put_bytes(self, key: str, data: bytes, *, content_type: str, cache_control: str, gzip: bool = False) -> None:
        del content_type, cache_control, gzip
        self._path(key).write_bytes(data)

    def read(self, key: str, span: tuple[int, int] | None = None) -> Stored:
        """The file, or `span` (bytes, offset) of it. Raises Absent, or TooMuch over `most_bytes`."""
        path = self.root / key
        try:
            if not path.is_file():  # a pipe would never answer
                raise Absent("there is no such file")
            size, offset = span or (path.stat().st_size, 0)
            if size > self.most_bytes:
                raise TooMuch(f"it has more than {self.most_bytes} bytes")
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except (OSError, ValueError, OverflowError) as error:
            raise Absent(f"it cannot be opened: {error}") from error
        if len(data) < size:
            raise Absent(f"it ends before byte {size + offset}")
        return Stored(data)

    def sizes(self, prefix: str) -> dict[str, int]:
        """Every file whose key begins with the prefix, with its size in bytes."""
        files = (path for path in self.root.rglob("*") if path.is_file())
        found = {path.relative_to(self.root).as_posix(): path.stat().st_size for path in files}
        return {key: size for key, size in found.items() if key.startswith(prefix)}

    def _path(self, key: str) -> Path:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        return target
