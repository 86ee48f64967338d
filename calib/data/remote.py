"""Files that are somewhere else: ``s3://``, ``gs://``, ``http(s)://``, ``hf://``, ``memory://``, all through fsspec.

Conventions:
    :class:`RemotePath` has as much of :class:`pathlib.Path` as the readers of indexes use, so that they need not know
    which of the two they got. fsspec and its back ends are imported when a URL is first opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from calib.errors import DataError, UsageError

__all__ = ["RemotePath", "is_url", "place_of"]

_URL = re.compile(r"^([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_WEB = ("http", "https")
_EXTRA = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}  # the others: hub


def is_url(text: str) -> bool:
    """Whether a text is a URL other than ``file://``."""
    found = _URL.match(text) if "://" in text else None
    return found is not None and found[1].lower() not in {"file", "local"}


def place_of(spec: str | Path) -> Path | RemotePath:
    """A local path, or a remote one if the text is a URL; ``file://`` is local."""
    text = os.fspath(spec)
    if is_url(text):
        return RemotePath(text)
    found = _URL.match(text)
    return Path(text[found.end() :] if found else text)


class RemotePath:
    """A file or folder behind a URL.

    Args:
        url: with its protocol.
    """

    __slots__ = ("url",)

    def __init__(self, url: str) -> None:
        protocol, _, rest = url.partition("://")
        self.url = f"{protocol}://{rest.rstrip('/')}" if rest.strip("/") else url

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemotePath({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __truediv__(self, name: object) -> RemotePath:
        text = str(name)
        if is_url(text):
            return RemotePath(text)
        while text.startswith("./"):
            text = text[2:]
        return RemotePath(f"{self.url}/{text.lstrip('/')}")

    @property
    def protocol(self) -> str:
        """``s3``, ``https``, ..."""
        return self.url.partition("://")[0].lower()

    @property
    def name(self) -> str:
        """The last part, without a web address's query."""
        path = self.url.partition("?")[0] if self.protocol in _WEB else self.url
        return path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return os.path.splitext(self.name)[0]  # noqa: PTH122 - a name, not a file

    @property
    def suffix(self) -> str:
        """From the last dot of the name."""
        return os.path.splitext(self.name)[1]  # noqa: PTH122 - a name, not a file

    @property
    def parent(self) -> RemotePath:
        """The folder that it lies in."""
        return RemotePath(self.url.partition("?")[0].rpartition("/")[0])

    def resolve(self) -> RemotePath:
        """Itself: a URL is absolute."""
        return self

    def is_file(self) -> bool:
        """Whether it is a file; costs a request."""
        return bool(self._call("isfile"))

    def is_dir(self) -> bool:
        """Whether it is a folder; costs a request. Web addresses are files."""
        return self.protocol not in _WEB and bool(self._call("isdir"))

    def exists(self) -> bool:
        """Whether it is there; costs a request."""
        return bool(self._call("exists"))

    def iterdir(self) -> Iterator[RemotePath]:
        """What a folder holds, sorted."""
        for name, _ in self.entries():
            yield self / name

    def entries(self) -> list[tuple[str, bool]]:
        """Names in a folder, and whether each is a folder, sorted; one request, remembered by fsspec."""
        found = self._call("ls", detail=True)
        names = {(str(entry["name"]).rstrip("/").rpartition("/")[2], entry["type"] == "directory") for entry in found}
        return sorted(entry for entry in names if entry[0])

    def size(self) -> int | None:
        """Bytes, or None where the server does not say."""
        found = self._call("size")
        return None if found is None else int(found)

    def open(self, mode: str = "rb") -> IO[bytes]:
        """A seekable binary file, read by and by."""
        file: IO[bytes] = self._call("open", mode)
        return file

    def read_bytes(self, offset: int = 0, size: int | None = None) -> bytes:
        """All of it, or a part, in one request."""
        data: bytes = self._call("cat_file", start=offset or None, end=None if size is None else offset + size)
        return data

    def _call(self, name: str, *arguments: Any, **named: Any) -> Any:
        try:
            import fsspec

            system, path = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise UsageError(
                f"{self.url}: {self.protocol}:// needs a package that is not installed ({error})",
                hint=f'pip install "mel-calib[{_EXTRA.get(self.protocol, "hub")}]"',
            ) from None
        except ValueError as error:  # an unknown protocol
            raise UsageError(f"{self.url}: {error}", hint="for example s3://, gs://, https://, hf://") from None
        except Exception as error:  # noqa: BLE001 - each back end has exceptions of its own
            raise DataError(f"{self.url}: cannot be reached: {_words(error)}") from None
        try:
            return getattr(system, name)(path, *arguments, **named)
        except FileNotFoundError:
            raise DataError(f"{self.url}: no such file or folder") from None
        except Exception as error:  # noqa: BLE001 - each back end has exceptions of its own
            raise DataError(f"{self.url}: cannot be read: {_words(error)}") from None


def _words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
