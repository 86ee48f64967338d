"""What ``calib convert`` writes: one utterance at a time, each file whole or not there, the indexes at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calib.commands.convert_input import Unit
from calib.data.files import atomic_writer, digest
from calib.data.pairs import PairsWriter
from calib.data.sources import safe_name
from calib.errors import DataError, UsageError
from calib.mel.convert.converter import EDGE_FRAMES
from calib.mel.convert.layouts import LAYOUTS, frames_allowed, wave_for
from calib.mel.frontend import FrontEnd

__all__ = ["Output", "counted"]


class Output:
    """Files of one conversion.

    Args:
        folder: where.
        layout: of `LAYOUTS`, or ``pairs``.
        target: front end of the mels.
        header: for ``pairs.json``.
        force: write over files that are there: they are of an interrupted part of this run, or may go.
    """

    def __init__(self, folder: Path, layout: str, target: FrontEnd, header: Mapping[str, Any], *, force: bool) -> None:
        self.folder, self.layout, self.target, self._force = folder, layout, target, force
        self._pairs = PairsWriter(folder, header, force=force) if layout == "pairs" else None
        self._listed: list[str] = []
        self._owner: dict[str, str] = {}

    def write(
        self,
        unit: Unit,
        mel: np.ndarray,
        target: np.ndarray | None,
        free: np.ndarray | None,
        samples: np.ndarray | None,
    ) -> dict[str, Any]:
        """Write one utterance; the record is what `adopt` needs.

        Raises:
            DataError: the disk is full, or two utterances have one file name.
        """
        notices: list[str] = []
        if self._pairs is not None:
            assert target is not None
            if abs(len(mel) - len(target)) > EDGE_FRAMES:
                notices.append(f"{unit.id}: the prediction has {len(mel)} frames, the target {len(target)}")
            record = self._pairs.write(
                unit.id, mel, target, audio=unit.audio if isinstance(unit.audio, Path) else None, free_running=free, text=unit.text, speaker=unit.speaker, language=unit.language
            )  # fmt: skip
            return {"pair": record, "files": {}, "line": None, "frames": len(mel), "cropped": 0, "notices": notices}
        shape = LAYOUTS[self.layout]
        name = safe_name(unit.wav_name if shape.by_wav else unit.id)
        self._claim(name, unit.id)
        allowed = frames_allowed(self.layout, self.target, None if samples is None else len(samples))
        cropped = 0 if allowed is None else max(0, len(mel) - allowed)
        if cropped:
            mel = mel[:allowed]
            notices.append(f"{unit.id}: the last {cropped} frame{'s' * (cropped > 1)} cut: {self.layout} allows {allowed} for {0 if samples is None else len(samples)} samples")  # fmt: skip
        path = shape.pattern.format(name)
        files = {path: self._save(path, mel if shape.time_first else mel.T)}
        if shape.wave is not None and samples is not None:
            path = shape.wave.format(name)
            files[path] = self._save(path, wave_for(samples, len(mel), self.target.hop_length))
        line = None
        if self.layout == "hifigan":
            line = f"{name}|{unit.text}"
        elif self.layout == "coqui":
            line = f"{unit.audio if unit.audio is not None else name + '.wav'}|{path}"
        if line is not None:
            self._listed.append(line)
        return {"pair": None, "files": files, "line": line, "name": name, "frames": len(mel), "cropped": cropped, "notices": notices}  # fmt: skip

    def adopt(self, record: Mapping[str, Any]) -> bool:
        """Take over what an interrupted run wrote; False if a file of it is missing or altered."""
        if record["skipped"] is not None:
            return True
        if self._pairs is not None:
            return self._pairs.adopt([record["pair"]])
        for relative, wanted in record["files"].items():
            path = self.folder / relative
            if not path.is_file() or digest(path.read_bytes()) != wanted:
                return False
        self._claim(record["name"], record["name"])
        if record["line"] is not None:
            self._listed.append(record["line"])
        return True

    def _claim(self, name: str, owner: str) -> None:
        if name in self._owner:
            raise DataError(
                f"{owner} and {self._owner[name]} would both be written as {name}",
                hint=f"--layout {self.layout} names files after the recording; recordings of one name in several folders need another layout",
            )
        self._owner[name] = owner

    def _save(self, relative: str, array: np.ndarray) -> str:
        """Write an array, whole or not at all; its digest.

        Raises:
            UsageError: another program's file is there.
            DataError: it cannot be written.
        """
        path = self.folder / relative
        if not self._force and path.exists():
            raise UsageError(f"{path} exists and is not overwritten", hint="choose another -o, or give --force")
        temporary = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array, dtype="<f4"), version=(1, 0), allow_pickle=False)  # fmt: skip
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise DataError(f"cannot write {path}: {error.strerror or error}") from error
        return digest(path.read_bytes())

    def close(self, skipped: Mapping[str, Sequence[str]]) -> None:
        """The indexes: they say what counts."""
        if self._pairs is not None:
            self._pairs.header["skipped"] = {reason: list(names) for reason, names in skipped.items()}
            self._pairs.close()
            return
        listing = LAYOUTS[self.layout].listing
        if listing is not None:
            with atomic_writer(self.folder / listing, force=True) as file:
                file.write("".join(f"{line}\n" for line in self._listed).encode("utf-8", "surrogateescape"))


def counted(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums over utterances, and the identity of what was read."""
    keys = ("cells", "at_guard", "at_clip", "beyond")
    return {
        "utterances": len(records),
        "frames": sum(record["frames"] for record in records),
        "cropped": sum(record["cropped"] for record in records),
        **{key: sum(record["counts"][key] for record in records) for key in keys},
        "source_digest": digest("\n".join(sorted(record["input"] for record in records)).encode()),
    }
