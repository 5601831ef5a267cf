"""A directory as object storage: what S3 is to the appliance, for one file on a desk."""

from __future__ import annotations

import shutil
from pathlib import Path


class Directory:
    """Keys are paths below `root`. Metadata of objects has no place here and is dropped."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put_file(self, key: str, path: Path, *, content_type: str, cache_control: str) -> None:
        del content_type, cache_control
        target = self._path(key)
        shutil.copyfile(path, target)

    def put_bytes(self, key: str, data: bytes, *, content_type: str, cache_control: str, gzip: bool = False) -> None:
        del content_type, cache_control, gzip
        self._path(key).write_bytes(data)

    def get(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def sizes(self, prefix: str) -> dict[str, int]:
        """Every file whose key begins with the prefix, with its size in bytes."""
        files = (path for path in self.root.rglob("*") if path.is_file())
        found = {path.relative_to(self.root).as_posix(): path.stat().st_size for path in files}
        return {key: size for key, size in found.items() if key.startswith(prefix)}

    def _path(self, key: str) -> Path:
        target = self.root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        return target
