"""PAIRS: targets and predictions of the same utterances, as they come from disk.

A folder with ``pairs.jsonl`` (one object a line: ``id, pred, target | audio, free_running, length, text, speaker,
language``), or one of the shorthands: ``target.npy`` + ``pred.npy``; ``ID.target.npy`` + ``ID.pred.npy``;
``targets/`` + ``predictions/``. ``pairs.json`` beside the index says what all pairs have in common (front end, model).

Conventions:
    Paths are relative to the folder. ``FILE#KEY`` names an array inside a ``.npz`` or ``.safetensors`` shard, or,
    with a number, an item of a padded ``(B, ., .)`` array. What :meth:`Pairs.load` returns is ``(T, M)`` float32,
    without padding, target and prediction of one length. Predictions are T', targets T frames long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from calib.data.arrays import USUAL_MEL_COUNTS, as_time_first, check_layout, layout_candidates, load_array, undecided
from calib.data.pairfiles import HEADER_NAME, INDEX_NAME, SCHEMA, Orphan, PairEntry, discover, expand, scan_shapes
from calib.data.pairwriter import Matching, PairsWriter, index_pairs
from calib.errors import CalibError, DataError, UsageError

__all__ = [
    "HEADER_NAME",
    "INDEX_NAME",
    "SCHEMA",
    "LengthMismatch",
    "Matching",
    "Orphan",
    "Pair",
    "PairEntry",
    "Pairs",
    "PairsWriter",
    "index_pairs",
    "open_pairs",
]

_HALF_MAX = 65504.0  # largest float16
CROPPED_FRAMES = 8  # |T' - T| up to this is rounding at the edges; more is a finding


class MelFrontEnd(Protocol):
    """What computes a target from audio (:class:`calib.mel.frontend.FrontEnd`, or anything like it)."""

    @property
    def sample_rate(self) -> int:
        """Hz."""
        ...

    def mel(self, samples: np.ndarray) -> np.ndarray:
        """``(L,)`` float32 to ``(T, M)`` float32."""
        ...


class LengthMismatch(DataError):  # noqa: N818 - the finding it reports has this name
    """Target and prediction differ by more frames than cropping may hide.

    Args:
        message: with the id and both lengths.
        pred_frames: T'.
        target_frames: T.
    """

    def __init__(self, message: str, *, pred_frames: int, target_frames: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.pred_frames = pred_frames
        self.target_frames = target_frames

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the lengths when the error crosses a process border."""
        return (_length_mismatch, (self.message, self.pred_frames, self.target_frames, self.hint))


def _length_mismatch(message: str, pred_frames: int, target_frames: int, hint: str | None) -> LengthMismatch:
    return LengthMismatch(message, pred_frames=pred_frames, target_frames=target_frames, hint=hint)


@dataclass(frozen=True)
class Pair:
    """One utterance's target and prediction, of one shape.

    Args:
        id: unique in the pairs.
        pred: ``(T, M)`` float32.
        target: ``(T, M)`` float32.
        notices: what was done to make the shapes equal, in words.
        nonfinite_pred: how many values of ``pred`` are NaN or infinite.
        nonfinite_target: the same for ``target``.
        overflow: a sentence for each side whose file is half precision (float16) and holds values beyond what that
            can: they became infinite, or stand at its end.
        text: what is said, or "".
        speaker: name, or None.
        language: code, or None.
    """

    id: str
    pred: np.ndarray
    target: np.ndarray
    notices: list[str] = field(default_factory=list)
    nonfinite_pred: int = 0
    nonfinite_target: int = 0
    overflow: tuple[str, ...] = ()
    text: str = ""
    speaker: str | None = None
    language: str | None = None


@dataclass
class Pairs:
    """All pairs of a folder: entries sorted by id, loaded one at a time.

    Args:
        root: the folder.
        kind: "pairs.jsonl", "target + pred", "ID.target + ID.pred", "targets/ + predictions/" or
            "predictions + --target".
        entries: sorted by id.
        header: what ``pairs.json`` says; empty without one.
        layout_pred: "TM" or "MT" on disk.
        layout_target: the same; "TM" if all targets are computed.
        n_mels: M.
        orphans: predictions without target and the reverse.
        frontend: computes the targets that are given as audio only, or None.
        prediction_map: what is done to every prediction that is loaded, ``(T, M)`` to ``(T, M)``, or None.
    """

    root: Path
    kind: str
    entries: list[PairEntry]
    header: dict[str, Any]
    layout_pred: str
    layout_target: str
    n_mels: int
    orphans: list[Orphan]
    frontend: MelFrontEnd | None = None
    prediction_map: Callable[[np.ndarray], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[PairEntry]:
        return iter(self.entries)

    def describe(self) -> str:
        """One line: what was recognised, how many pairs, their layout."""
        count = f"{len(self.entries)} pair{'s' * (len(self.entries) != 1)}"
        layouts = self.layout_pred if self.layout_pred == self.layout_target else f"pred {self.layout_pred}, target {self.layout_target}"  # fmt: skip
        computed = sum(entry.target is None for entry in self.entries)
        words = [f"PAIRS {self.root.resolve().name} ({self.kind}): {count}", f"{self.n_mels} mel bins", f"layout {layouts}"]  # fmt: skip
        if computed:
            words.append(f"{computed} target{'s' * (computed != 1)} computed from audio")
        for side, other in (("pred", "target"), ("target", "pred")):
            alone = sum(orphan.side == side for orphan in self.orphans)
            if alone:
                words.append(f"{alone} {side}{'s' * (alone != 1)} without {other}")
        return ", ".join(words)

    def load(self, entry: PairEntry) -> Pair:
        """Read one pair: time first, padding removed, cropped to one length if the difference is at most 8 frames.

        Non-finite values are counted, not refused.

        Raises:
            LengthMismatch: the lengths differ by more than 8 frames.
            DataError: a file cannot be read; the numbers of mel bins differ; the stated length does not fit.
        """
        stored = load_array(entry.pred, entry.pred_key)
        pred = self._trim(entry, as_time_first(stored, self.layout_pred), "prediction")
        true, half_target = self._target(entry)
        target = self._trim(entry, true, "target")
        if pred.shape[1] != target.shape[1]:
            raise DataError(
                f"{entry.id}: the prediction has {pred.shape[1]} mel bins, the target {target.shape[1]}",
                hint="were both made with the same front end? the layouts read are "
                f"pred {self.layout_pred}, target {self.layout_target}",
            )
        if target.shape[1] != self.n_mels:
            raise DataError(f"{entry.id}: has {target.shape[1]} mel bins, the other pairs {self.n_mels}")
        notices = []
        frames, wanted = len(pred), len(target)
        if frames != wanted:
            if abs(frames - wanted) > CROPPED_FRAMES:
                raise LengthMismatch(
                    f"{entry.id}: the prediction has {frames} frames, the target {wanted}",
                    pred_frames=frames,
                    target_frames=wanted,
                    hint=f"up to {CROPPED_FRAMES} frames are cropped; more means another hop length, free running, or another utterance",
                )
            both = min(frames, wanted)
            notices.append(f"{entry.id}: prediction {frames} frames, target {wanted}: cropped to {both}")
            pred, target = pred[:both], target[:both]
        if self.prediction_map is not None:
            pred = self.prediction_map(pred)
        sides = (("prediction", pred, stored.dtype == np.float16), ("target", target, half_target))
        overflow = tuple(f"{entry.id}: {text}" for what, mel, half in sides if half and (text := _overflow(what, mel)))
        return Pair(
            entry.id,
            pred,
            target,
            notices,
            _nonfinite(pred),
            _nonfinite(target),
            overflow,
            entry.text,
            entry.speaker,
            entry.language,
        )

    def load_free_running(self, entry: PairEntry) -> np.ndarray | None:
        """The free-running prediction ``(T'', M)`` float32 of an entry (its length is its own), or None.

        Raises:
            DataError: it cannot be read, or has another number of mel bins.
        """
        if entry.free_running is None:
            return None
        mel = as_time_first(load_array(entry.free_running, entry.free_running_key), self.layout_pred)
        if mel.shape[1] != self.n_mels:
            raise DataError(
                f"{entry.id}: the free-running prediction has {mel.shape[1]} mel bins, the pairs {self.n_mels}"
            )
        return mel

    def _target(self, entry: PairEntry) -> tuple[np.ndarray, bool]:
        """The target ``(T, M)``, and whether its file is half precision."""
        if entry.target is not None:
            stored = load_array(entry.target, entry.target_key)
            return as_time_first(stored, self.layout_target), stored.dtype == np.float16
        if entry.audio is None or self.frontend is None:
            raise _needs_frontend(entry.id)
        from calib.data.audio import read_audio

        samples = read_audio(entry.audio, self.frontend.sample_rate).samples
        try:
            mel = as_time_first(self.frontend.mel(samples), "TM")
        except CalibError as error:
            raise DataError(f"{entry.id}: no mel from {entry.audio}: {error}") from error
        if mel.ndim != 2 or not mel.size:
            raise DataError(f"{entry.id}: no mel from {entry.audio}: its {len(samples)} samples give shape {mel.shape}")
        return mel, False

    def _trim(self, entry: PairEntry, mel: np.ndarray, what: str) -> np.ndarray:
        """Without padding. A prediction shorter than the stated length is not padded: its length is the finding."""
        if entry.length is None:
            return mel
        if what == "target" and entry.length > len(mel) + (CROPPED_FRAMES if entry.target is None else 0):
            raise DataError(f"{entry.id}: the stated length is {entry.length} frames, but the target has {len(mel)}")
        return mel[: entry.length]


def _nonfinite(mel: np.ndarray) -> int:
    return int(mel.size - np.count_nonzero(np.isfinite(mel)))


def _overflow(what: str, mel: np.ndarray) -> str:
    """What to say of values that half precision could not hold, or ""."""
    count = int(np.count_nonzero(np.abs(mel) >= _HALF_MAX))  # NaN compares as false
    if not count:
        return ""
    return f"{count} values of the {what} are infinite or at ±{_HALF_MAX:g}, the end of half precision: fp16 overflow; compute or store this mel in float32"


def _needs_frontend(name: str) -> UsageError:
    return UsageError(
        f"{name}: has audio but no target mel, so a front end must compute it",
        hint="give --frontend NAME (the catalogue: calib frontends list)",
    )


def open_pairs(
    path: str | Path,
    *,
    layout: str | None = None,
    frontend: MelFrontEnd | None = None,
    limit: int | None = None,
    targets: str | Path | None = None,
) -> Pairs:
    """Open PAIRS: find the entries and settle the layout from the shapes of all files. Mels are read by ``load``.

    Args:
        path: the folder, or its ``pairs.jsonl``.
        layout: "TM" or "MT" for predictions and targets; None: decided from the shapes, or by ``pairs.json``.
        frontend: computes targets where only audio is given.
        limit: the first so many ids only.
        targets: a folder of target mels, if ``path`` is a folder of predictions alone.

    Raises:
        DataError: nothing there, no pairs, a malformed row (with its line), duplicate ids, unreadable files only.
        UsageError: the layout cannot be told (``--layout``), a batch has no lengths, audio has no ``--frontend``.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} leaves nothing; it must be at least 1")
    if layout is not None:
        check_layout(layout)
    found = discover(Path(path), None if targets is None else Path(targets))
    entries = expand(found.entries, found.root, limit)
    if frontend is None:
        lacking = next((entry.id for entry in entries if entry.target is None), None)
        if lacking is not None:
            raise _needs_frontend(lacking)
    layout_pred, layout_target, n_mels = _layouts(entries, found.header, layout, frontend)
    return Pairs(found.root, found.kind, entries, found.header, layout_pred, layout_target, n_mels, found.orphans, frontend)  # fmt: skip


def _layouts(
    entries: Sequence[PairEntry], header: Mapping[str, Any], layout: str | None, frontend: MelFrontEnd | None
) -> tuple[str, str, int]:
    """Layouts of predictions and targets, and M.

    "Every file" is every prediction and every target: a layout must give both the same number of bins. So (97, 80)
    and (100, 80) decide each other: only 80 can be the bins of both. A declared front end (given, or in
    ``pairs.json``) makes its own number of bins usual, and decides between two usual ones.
    """
    preds, targets = scan_shapes(entries)
    declared = _declared(header, frontend)
    fixed = {"pred": layout or _stated(header, "pred"), "target": layout or _stated(header, "target")}
    usual = USUAL_MEL_COUNTS if declared is None else USUAL_MEL_COUNTS | {declared}
    options: dict[str, dict[str, int]] = {}
    seen: dict[str, str] = {}
    for side, shapes in (("pred", preds), ("target", targets)):
        stated = fixed[side]
        options[side], seen[side] = layout_candidates(shapes, usual)
        if stated is not None:
            options[side] = {stated: _most_common(shape[-1 if stated == "TM" else -2] for shape in shapes)} if shapes else {}  # fmt: skip
    if not targets:  # all computed from audio: time first
        options["target"] = {"TM": declared} if declared is not None else {}
        if not options["target"]:
            if len(options["pred"]) != 1:
                raise undecided(seen["pred"], both=len(options["pred"]) > 1, what=" in the predictions")
            ((only, size),) = options["pred"].items()
            return only, "TM", size
    for side, what in (("pred", " in the predictions"), ("target", " in the targets")):
        if not options[side]:
            raise undecided(seen[side], both=False, what=what)
    agreeing = [(one, two, size) for one, size in options["pred"].items() for two, other in options["target"].items() if size == other]  # fmt: skip
    if len(agreeing) > 1 and declared is not None:  # what the front end says is no guess
        agreeing = [option for option in agreeing if option[2] == declared] or agreeing
    if len(agreeing) == 1:
        return agreeing[0]
    if not agreeing and all(len(found) == 1 for found in options.values()):
        # Each side is clear and they disagree on M: a fact about the data, which every load reports.
        (one,), ((two, size),) = options["pred"], options["target"].items()
        return one, two, size
    side = "pred" if len(options["pred"]) > 1 else "target"
    raise undecided(seen[side], both=True, what=f" in the {'predictions' if side == 'pred' else 'targets'}")


def _declared(header: Mapping[str, Any], frontend: MelFrontEnd | None) -> int | None:
    """M as the front end says, or None."""
    fields = header.get("frontend")
    value = getattr(frontend, "n_mels", None) or (fields.get("n_mels") if isinstance(fields, Mapping) else None)
    return value if isinstance(value, int) and value > 0 else None


def _stated(header: Mapping[str, Any], side: str) -> str | None:
    value = header.get("layout")
    if isinstance(value, Mapping):
        value = value.get(side)
    if value is None:
        return None
    if value not in {"TM", "MT"}:
        raise DataError(f"{HEADER_NAME}: layout is {value!r}; it must be TM or MT")
    return str(value)


def _most_common(sizes: Iterator[int]) -> int:
    counts: dict[int, int] = {}
    for size in sizes:
        counts[size] = counts.get(size, 0) + 1
    return max(sorted(counts), key=lambda size: counts[size])
