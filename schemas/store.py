"""The file store: immutable artefacts under one root, through fsspec (a local folder, or an object store by its URL)."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from schemas.connections import without_password
from schemas.errors import Corrupt, InvalidSetting, Unavailable


def sha256(data: bytes | memoryview) -> str:
    """Hex digest by which artefacts are named and checked."""
    return hashlib.sha256(data).hexdigest()


class Store:
    """Artefacts by relative path. A file is written whole or not at all, and never changed.

    Raises:
        InvalidSetting: the URL is of no kind that fsspec knows, or a file is where a folder is to be.
        Unavailable: the package for this kind of URL is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            remedy = "install what it names where Headrace is installed (for s3://: .venv/bin/uv pip install s3fs)"
            raise Unavailable(f"the store {without_password(url)}", str(error), remedy) from error
        except ValueError as error:
            bound = f"a path, or a URL that fsspec knows ({error})"
            raise InvalidSetting("the store", without_password(url), bound, "correct HEADRACE_STORE") from error
        self.local: Path | None = Path(self._root) if isinstance(self._fs, LocalFileSystem) else None
        if self.local and not next(path for path in (self.local, *self.local.parents) if path.exists()).is_dir():
            raise InvalidSetting("the store", url, "a folder, or a path at which one can be made", "name another")

    def write(self, path: str, data: bytes | memoryview) -> str:
        """Write atomically; returns the sha256. Writing the same content again is harmless.

        Raises:
            Unavailable: it cannot be written.
        """
        target = f"{self._root}/{path}"
        try:
            self._fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            if self.local is None:
                self._fs.pipe_file(target, bytes(data))
            else:
                _write_local(Path(target), data)
        except OSError as error:
            remedy = "make it a place that this process may write to and that has room, or name another store"
            raise Unavailable(f"{without_password(self.url)}/{path}", str(error), remedy) from error
        return sha256(data)

    def read(self, path: str, checksum: str = "") -> bytes:
        """The bytes of a file.

        Raises:
            Unavailable: there is no such file.
            Corrupt: its sha256 is not ``checksum`` (when one is given).
        """
        try:
            data = cast(bytes, self._fs.cat_file(f"{self._root}/{path}"))
        except FileNotFoundError as error:
            raise Unavailable(f"{self.url}/{path}", "no such file", "check HEADRACE_STORE") from error
        if checksum and sha256(data) != checksum:
            raise Corrupt(f"{self.url}/{path}", "sha256", "restore the file or use the version before it")
        return data

    def exists(self, path: str) -> bool:
        """Whether the file or folder is there."""
        return bool(self._fs.exists(f"{self._root}/{path}"))

    def remove(self, path: str) -> None:
        """Delete a file; nothing where there is none."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(f"{self._root}/{path}")

    def names(self, path: str) -> list[str]:
        """Names inside a folder, sorted; empty when it does not exist."""
        folder = f"{self._root}/{path}"
        if not self._fs.exists(folder):
            return []
        return sorted(entry.rstrip("/").rsplit("/", 1)[1] for entry in self._fs.ls(folder, detail=False))

    def folder(self, path: str) -> Path:
        """Where a folder lies on this machine; of a remote one, where `local_file` puts what it fetches."""
        return (self.local or self._cache) / path

    def local_file(self, path: str, checksum: str = "") -> Path:
        """A local file with this artefact's content, for what maps it into memory; a remote one is fetched into the cache.

        Raises:
            Unavailable: there is no such file.
            Corrupt: what was fetched has not this sha256 (when one is given); so is nothing that lies in the cache taken.
        """
        target = self.folder(path)
        if self.local is None and not (target.exists() and (not checksum or sha256(target.read_bytes()) == checksum)):
            data = self.read(path, checksum)
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_local(target, data)
        if not target.is_file():
            raise Unavailable(f"{self.url}/{path}", "no such file", "check HEADRACE_STORE")
        return target

    def keep_fetched(self, path: str, count: int) -> None:
        """Of the folders below ``path`` that were fetched into the cache keep those fetched last; nothing else is touched."""
        kept = self._cache / path
        if self.local is None and kept.exists():
            for old in sorted(kept.iterdir(), key=lambda folder: folder.stat().st_mtime)[:-count]:
                shutil.rmtree(old, ignore_errors=True)  # another process may be at it

    @property
    def _cache(self) -> Path:
        """Where what lies elsewhere is kept on this machine."""
        home = os.environ.get("HEADRACE_CACHE", Path.home() / ".cache" / "headrace")
        return Path(home) / sha256(self.url.encode())[:12]


def _write_local(target: Path, data: bytes | memoryview) -> None:
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(target)
