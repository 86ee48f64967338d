"""A SOURCE as the options of a command describe it, opened: one way for all of them, ``demo:corpus`` included."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from calib.console import terminal
from calib.data.sources import Select, Source, open_source
from calib.demo import embedded

__all__ = ["Opening"]


@dataclass(frozen=True)
class Opening:
    """How a source is opened; see `open_source`. Workers get it instead of the source.

    Args:
        spec: SOURCE as the user wrote it.
        columns: ``--columns``.
        audio_root: ``--audio-root``.
        split: ``--split``.
        limit: ``--limit``.
        select: see `selection`.
    """

    spec: str
    columns: str | None = None
    audio_root: Path | None = None
    split: str | None = None
    limit: int | None = None
    select: Select = field(default_factory=Select)

    @property
    def place(self) -> str:
        """Path or URL of the source."""
        return embedded(self.spec)

    def __call__(self) -> Source:
        """Open it.

        Raises:
            DataError: see `open_source`.
        """
        return open_source(
            self.place,
            columns=self.columns,
            audio_root=self.audio_root,
            split=self.split,
            limit=self.limit,
            select=self.select,
        )

    def announced(self) -> Source:
        """Open it, and say what it is."""
        source = self()
        terminal.notice(source.describe())
        return source
