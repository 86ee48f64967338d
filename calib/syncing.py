"""Names that survive a power cut: what files and ledgers, which know nothing of each other, both need."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["sync_folder"]


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where its file system lets that be done."""
    with contextlib.suppress(OSError):  # not every file system lets a folder be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
