"""One row's audio out of a Parquet file, wherever it is asked for, without reading a row group for each row."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from calib.data.remote import RemotePath, is_url
from calib.errors import DataError, UsageError

if TYPE_CHECKING:
    from calib.data.clip import Clip

__all__ = ["open_parquet", "row_bytes"]

_ROWS = 16  # decoded at once: a few MB of audio


def open_parquet(path: str) -> Any:
    """A ``pyarrow.parquet.ParquetFile`` of a local path or a URL.

    Raises:
        UsageError: pyarrow is not installed.
        DataError: missing, damaged, or no Parquet.
    """
    try:
        import pyarrow.parquet as pq
        from pyarrow.lib import ArrowException
    except ImportError:
        raise UsageError(f"{path}: reading Parquet needs pyarrow", hint='pip install "mel-calib[hub]"') from None
    try:
        return pq.ParquetFile(RemotePath(path).open() if is_url(path) else path, pre_buffer=False, memory_map=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({_line(error)})") from None


class _Cursor:
    """Reads one column of one row group forwards; rows are asked for in order, as a rule."""

    def __init__(self) -> None:
        self._file: tuple[str, Any] | None = None
        self._place: tuple[str, int, str] | None = None
        self._batches: Iterator[Any] = iter(())
        self._rows: list[Any] = []
        self._first = 0
        self._lock = threading.Lock()

    def get(self, path: str, group: int, row: int, column: str) -> Any:
        with self._lock:
            place = (path, group, column)
            if place != self._place or row < self._first:
                if self._file is None or self._file[0] != path:
                    self._file = (path, open_parquet(path))
                self._place = None  # should the next line fail
                self._batches = self._file[1].iter_batches(batch_size=_ROWS, row_groups=[group], columns=[column], use_threads=False)  # fmt: skip
                self._place, self._rows, self._first = place, [], 0
            while row >= self._first + len(self._rows):
                self._first += len(self._rows)
                batch = next(self._batches, None)
                if batch is None:
                    self._place = None
                    raise DataError(f"{path}: row group {group} has no row {row}")
                self._rows = batch.column(0).to_pylist()
            return self._rows[row - self._first]


_cursor = _Cursor()


def row_bytes(clip: Clip) -> bytes:
    """The file in the audio column of a row.

    Raises:
        DataError: the shard cannot be read, or the row holds no bytes.
        UsageError: pyarrow is not installed.
    """
    assert clip.row is not None
    group, row, column = clip.row
    try:
        value = _cursor.get(clip.path, group, row, column)
    except (DataError, UsageError):
        raise
    except Exception as error:  # noqa: BLE001 - a damaged page raises anything; the module is loaded lazily
        raise DataError(f"{clip}: cannot be read ({_line(error)})") from None
    if isinstance(value, dict):
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise DataError(f"{clip}: the row holds no audio bytes")
    return value


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
