"""`Converter`: a plan that has learned what it needs, ready to convert one mel after the other; it can be saved.

A saved converter is an ``.npz`` of plain arrays (read without pickle): inference needs it, numpy and `calib.mel`, and
none of the recordings that it was fitted on.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from calib.data.audio import resample
from calib.data.files import atomic_writer
from calib.errors import DataError, RefusedError, UsageError
from calib.mel.arrays import one_blas_thread
from calib.mel.convert import regression
from calib.mel.convert.features import LEVELS, Features, Looked
from calib.mel.convert.grids import bin_edges, positions, target_frames
from calib.mel.convert.planning import Plan, plan
from calib.mel.convert.regression import DB, Ridge
from calib.mel.frontend import FrontEnd
from calib.mel.relation import guard, guarded, saturated, with_audio_of

__all__ = ["SCHEMA", "Converted", "Converter", "Example", "Fit", "example"]

SCHEMA = "calib/conversion-map/1"
# Frames that a fit keeps in memory: 7 to 8 minutes at the usual hop. More does not lower the error.
MOST_FRAMES = 40_000
_FEWEST_FRAMES = 300
# ln units of magnitude below the target's guard that are still learned from. A power front end has its guard within
# speech: to stop there would bend the map (development corpora, same bank with power 2: 0.105 instead of 0.058 ln units).
_BELOW = 3.0
# T of a mel and of its audio may differ by this much: rounding at the edges (the same as for PAIRS).
EDGE_FRAMES = 8


@dataclass(frozen=True)
class Example:
    """Both mels of one recording.

    Args:
        id: its name.
        mel: the source front end's mel, ``(T, M)``.
        linear: the target's filterbank outputs before guard and logarithm, ``(T', M')``.
        speaker: name, or None.
    """

    id: str
    mel: np.ndarray
    linear: np.ndarray
    speaker: str | None = None


@dataclass(frozen=True)
class Fit:
    """What a fit found; errors in dB, mean absolute over cells above the target's guard, on groups left out.

    Args:
        level: columns of the regression (`calib.mel.convert.features.LEVELS`).
        strength: its ridge penalty, a share of the columns' mean variance.
        error_db: of this map.
        low_db: 5 % of the held-out utterances have less.
        high_db: 95 % have less.
        naive_db: of undoing logarithm and power alone, bin for bin; None where that is not possible.
        inversion_db: of the inversion with a learned offset by bin.
        outside_db: of this map, in the target's bins outside the source's band; None where there are none.
        at_guard: share of the source's cells that stand on its guard.
        utterances: how many were read.
        frames: of the target, in them.
        speakers: how many, or 0 where that is unknown.
        left_out: ``speakers``, ``utterances`` or ``parts of one utterance``.
        on: what it was measured on, for people.
    """

    level: str
    strength: float
    error_db: float
    low_db: float
    high_db: float
    naive_db: float | None
    inversion_db: float | None
    outside_db: float | None
    at_guard: float
    utterances: int
    frames: int
    speakers: int
    left_out: str
    on: str

    def lines(self) -> list[str]:
        """For people."""
        spread = f"{self.low_db:.2f} to {self.high_db:.2f} dB for nine in ten utterances, {self.left_out} left out of the fit"
        said = [f"expected error {self.error_db:.2f} dB ({spread}; {self.on})"]
        beside = [f"{value:.2f} dB {words}" for value, words in ((self.inversion_db, "the inversion alone"), (self.naive_db, "undoing only logarithm and power")) if value is not None and not (words == "the inversion alone" and self.level == "inversion")]  # fmt: skip
        if beside:
            said.append(f"instead: {', '.join(beside)}")
        if self.left_out != "speakers" and self.level != "inversion":
            said.append("one speaker was heard, or who spoke is unknown: for other voices expect more")
        if self.outside_db is not None:
            said.append(f"in the bins that the source does not hold: {self.outside_db:.2f} dB")
        if self.at_guard >= 5e-4:
            said.append(f"{self.at_guard:.1%} of the source's cells stand on its guard; what was below is lost")
        return said


@dataclass(frozen=True)
class Converted:
    """One converted mel.

    Args:
        mel: ``(T', M')`` float32.
        at_guard: source cells on its guard or lower clip: at most that loud.
        at_clip: source cells on its upper clip: at least that loud.
        cells: of the source.
        beyond: target frames that lie beyond the source's first or last one by more than half a frame: held.
    """

    mel: np.ndarray
    at_guard: int
    at_clip: int
    cells: int
    beyond: int = 0


def example(source: FrontEnd, target: FrontEnd, name: str, recording: Any, speaker: str | None = None) -> Example:
    """Both mels of one recording.

    Args:
        source: front end of the given mels.
        target: front end wanted; its trim and level are taken from the source.
        name: the id.
        recording: ``recording(rate)`` gives the samples ``(L,)`` at ``rate`` Hz.
        speaker: name, or None.
    """
    heard = source.prepare(recording(source.sample_rate))
    if source.trim_top_db is None:
        same_audio = with_audio_of(target, source)
        linear = same_audio.linear(recording(target.sample_rate))
    else:  # where it is cut is known at the source's rate only
        linear = _plain(target).linear(resample(_plain_preparation(source, recording), source.sample_rate, target.sample_rate))  # fmt: skip
    return Example(name, source.mel_of_prepared(heard), linear, speaker)


def _plain(frontend: FrontEnd) -> FrontEnd:
    return with_audio_of(frontend, FrontEnd())


def _plain_preparation(source: FrontEnd, recording: Any) -> np.ndarray:
    """Trimmed and levelled, without the source's pre-emphasis."""
    return replace(source, preemphasis=0.0).prepare(recording(source.sample_rate))


class Converter:
    """One way from mels to mels.

    Args:
        plan: what to do.
        ridge: the fitted map, for the ways ``fitted`` and ``inverted``.
        fit: what was measured when it was fitted.

    Raises:
        RefusedError: the plan refuses.
        UsageError: the plan needs a fit: use `Converter.fit`.
    """

    def __init__(self, plan: Plan, ridge: Ridge | None = None, fit: Fit | None = None) -> None:
        if plan.how == "refused":
            raise RefusedError(f"this mel cannot be converted: {plan.why}", hint="--allow-loss goes on and invents what is missing")  # fmt: skip
        if plan.how in {"fitted", "inverted"} and ridge is None:
            raise UsageError(f"a conversion that is {plan.how} must learn first")
        self.plan = plan
        self.ridge = ridge
        self.measured = fit
        self._features = None if ridge is None else Features(plan.source, plan.target)

    # --- learning -------------------------------------------------------------------------------------------------

    @classmethod
    def fit(cls, plan: Plan, examples: Iterable[Example], *, on: str = "the recordings given", levels: Sequence[str] = LEVELS) -> Converter:  # fmt: skip
        """Learn the map from recordings; a plan that needs none is returned as it is.

        Args:
            plan: what to do.
            examples: both mels of each recording, in a fixed order; reading stops when there are enough frames.
            on: what they are, for people.
            levels: candidates of the regression; ``inverted`` tries the inversion alone.

        Raises:
            RefusedError: the plan refuses, or there are fewer than 300 frames to learn from.
        """
        if plan.how not in {"fitted", "inverted"}:
            return cls(plan)
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, user_api="blas"):  # the same bytes wherever it is fitted
            return cls._fitted(plan, examples, on, levels)

    @classmethod
    def _fitted(cls, plan: Plan, examples: Iterable[Example], on: str, levels: Sequence[str]) -> Converter:
        features = Features(plan.source, plan.target)
        levels = tuple(levels) if features.invertible else tuple(lv for lv in levels if lv != "inversion")
        if plan.how == "inverted":
            levels = ("inversion",)
        kept, guards = _read(features, examples)
        frames = sum(len(wanted) for _, wanted, _, _ in kept)
        if frames < _FEWEST_FRAMES:
            raise RefusedError(f"{frames} frames are too few to learn a conversion from; it needs {_FEWEST_FRAMES}", hint="give more recordings with --audio")  # fmt: skip
        kept, left_out = _enough_groups(kept)
        utterances = [(seen, wanted) for seen, wanted, _, _ in kept]
        speakers = [speaker for _, _, speaker, _ in kept]
        home, kind = regression.folds(speakers, [len(wanted) for _, wanted in utterances])
        left_out = left_out or kind
        parts = regression.accumulate(features, levels[-1], utterances, home, max(home) + 1)
        score = regression.cross_validate(features, parts, levels)
        ridge = regression.ridge_of(features, regression.total(parts), score.level, score.strength)
        measured = _measure(plan, features, score, parts, utterances, home)
        return cls(plan, ridge, Fit(
            score.level, score.strength, **measured, at_guard=guards, utterances=len({name for _, _, _, name in kept}), frames=frames,
            speakers=len({speaker for speaker in speakers if speaker is not None}), left_out=left_out, on=on,
        ))  # fmt: skip

    # --- converting -----------------------------------------------------------------------------------------------

    def apply(self, mel: np.ndarray, samples: int | None = None) -> np.ndarray:
        """``(T, M)`` of the source to ``(T', M')`` float32 of the target; see `convert`."""
        return self.convert(mel, samples).mel

    def convert(self, mel: np.ndarray, samples: int | None = None) -> Converted:
        """Convert one mel.

        Args:
            mel: ``(T, M)``, in the units of the source.
            samples: length of its audio at the target's sample rate, where it is known: it decides T'.

        Raises:
            DataError: empty, not finite, another number of bins, or frames that do not fit the audio.
            UsageError: the plan is to recompute from recordings: call the target front end.
        """
        source, target = self.plan.source, self.plan.target
        if self.plan.how == "recompute":
            raise UsageError("a plan to recompute converts no mel: give the recording to the target front end")
        mel = _checked(mel, source)
        if self.plan.how == "exact" and source.id == target.id:
            return Converted(mel.astype(np.float32), *self._counts(mel), mel.size)
        frames = self._frames(len(mel), samples)
        where = positions(source, target, frames)
        last = len(mel) - 1 - (source.overwrite_last if source.overwrite_last < len(mel) else 0)
        beyond = int(((where < -0.5) | (where > last + 0.5)).sum())
        if self.plan.relation is not None:
            rows = np.clip(np.rint(where).astype(np.int64), 0, last)
            linear = source.to_linear(mel)[rows] * np.exp(self.plan.relation.log_offset)
        else:
            assert self._features is not None and self.ridge is not None  # noqa: PT018
            with one_blas_thread():
                logs = self.ridge(self._features, self._features.look(mel, where))
            linear = np.exp(np.clip(logs.astype(np.float64), -40.0, 40.0) * target.power)
        return Converted(target.finish(linear), *self._counts(mel), mel.size, beyond)

    def _frames(self, frames: int, samples: int | None) -> int:
        """T', checked against the audio.

        Raises:
            DataError: the mel is longer or shorter than its audio by more than eight frames, or leaves no frame.
        """
        source, target = self.plan.source, self.plan.target
        if samples is not None:
            implied = source.n_frames(round(samples * source.sample_rate / target.sample_rate))
            if abs(implied - frames) > EDGE_FRAMES:
                raise DataError(
                    f"the mel has {frames} frames, its audio gives {implied} with the source front end",
                    hint=f"up to {EDGE_FRAMES} frames are the edges; more means another hop length, another utterance, or free running",
                )
        wanted = target_frames(source, target, frames, samples)
        if wanted < 1:
            raise DataError(f"a mel of {frames} frames is too short for one frame of the target")
        return wanted

    def _counts(self, mel: np.ndarray) -> tuple[int, int]:
        source = self.plan.source
        low = 0
        if source.utterance_norm not in {"minmax", "instance"}:
            low = int(guarded(source, mel, source.to_linear(mel)).sum())
        return low, int(saturated(source, mel).sum())

    # --- files ----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the map: ``.npz`` of plain arrays, atomically; equal maps give equal bytes."""
        ridge = self.ridge
        about = {
            "schema": SCHEMA,
            "from": self.plan.source.fields(),
            "to": self.plan.target.fields(),
            "how": self.plan.how,
            "level": None if ridge is None else ridge.level,
            "strength": None if ridge is None else ridge.strength,
            "fit": None if self.measured is None else asdict(self.measured),
        }
        arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about, allow_nan=False).encode(), dtype=np.uint8)}
        if ridge is not None:
            arrays |= {"mean": ridge.mean, "weights": ridge.weights, "offset": ridge.offset}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        with atomic_writer(Path(path), force=force) as file:
            file.write(buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> Converter:
        """Read a saved map.

        Raises:
            DataError: missing, damaged, or no conversion map of this version.
        """
        path = Path(path)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
                about = json.loads(bytes(found["about"]).decode())
                arrays = {key: np.asarray(found[key]) for key in ("mean", "weights", "offset") if key in found}
        except FileNotFoundError:
            raise DataError(f"{path}: no such file") from None
        except Exception as error:  # noqa: BLE001 - whatever a damaged file makes numpy, zipfile or json raise
            raise DataError(f"{path}: no conversion map: {error}") from None
        if not isinstance(about, dict) or about.get("schema") != SCHEMA:
            raise DataError(f"{path}: schema is {about.get('schema') if isinstance(about, dict) else None!r}, this version reads {SCHEMA!r}")  # fmt: skip
        source, target = FrontEnd.from_fields(about["from"]), FrontEnd.from_fields(about["to"])
        how = str(about["how"])
        chosen = plan(source, target, audio=how != "inverted", pairs=how != "recompute", allow_loss=True)
        ridge = None
        if about["level"] is not None:
            features = Features(source, target)
            width = features.width(about["level"])
            shapes = {key: array.shape for key, array in arrays.items()}
            wanted = {"mean": (width,), "weights": (width, target.n_mels), "offset": (target.n_mels,)}
            if shapes != wanted or not all(np.isfinite(array).all() for array in arrays.values()):
                raise DataError(f"{path}: its arrays have shapes {shapes}; this map needs {wanted}, all finite")
            ridge = Ridge(str(about["level"]), float(about["strength"]), arrays["mean"], arrays["weights"], arrays["offset"])  # fmt: skip
        return cls(chosen, ridge, None if about["fit"] is None else Fit(**about["fit"]))


def _checked(mel: np.ndarray, source: FrontEnd) -> np.ndarray:
    """A mel that can be converted.

    Raises:
        DataError: it cannot.
    """
    values = np.asarray(mel)
    if values.ndim != 2 or values.shape[1] != source.n_mels:
        hint = "it looks transposed: (M, T) for (T, M)" if values.ndim == 2 and values.shape[0] == source.n_mels else None  # fmt: skip
        raise DataError(f"the mel has shape {values.shape}, the front end it should be of {source.n_mels} bins", hint=hint)  # fmt: skip
    if not len(values):
        raise DataError("the mel has no frames")
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise DataError(f"the mel holds {bad} NaN or infinite values of {values.size}")
    return values


_Kept = tuple[Looked, np.ndarray, "str | None", str]


def _read(features: Features, examples: Iterable[Example]) -> tuple[list[_Kept], float]:
    """What the regression reads of each recording, until there are enough frames; and the share of cells on the guard."""
    source, target = features.source, features.target
    # The recording says what lies below the target's guard; only what is far below it would pull at the map.
    lowest = guard(target) * np.exp(-_BELOW * target.power)
    kept: list[_Kept] = []
    frames = low = cells = 0
    for one in examples:
        where = positions(source, target, len(one.linear))
        inside = np.flatnonzero((where > -0.6) & (where < len(one.mel) - 0.4))
        if not inside.size:
            continue
        seen = features.look(one.mel, where[inside])
        wanted = (np.log(np.maximum(one.linear[inside], lowest)) / target.power).astype(np.float32)
        kept.append((seen, wanted, one.speaker, one.id))
        low, cells, frames = low + int(seen.low.sum()), cells + seen.low.size, frames + len(wanted)
        if frames >= MOST_FRAMES:
            break
    return kept, low / max(cells, 1)


def _enough_groups(kept: list[_Kept]) -> tuple[list[_Kept], str | None]:
    """One long recording is cut into four, so that something can be left out."""
    if len(kept) > 1:
        return kept, None
    seen, wanted, _, name = kept[0]
    out: list[_Kept] = [
        (Looked(seen.x, seen.q, seen.low, seen.positions[rows]), wanted[rows], None, name)
        for rows in np.array_split(np.arange(len(wanted)), 4)
    ]
    return out, "parts of one utterance"


def _measure(
    plan: Plan,
    features: Features,
    score: regression.Score,
    parts: list[regression.Sums],
    utterances: list[tuple[Looked, np.ndarray]],
    home: list[int],
) -> dict[str, Any]:
    """Errors on groups left out, in dB."""
    heard = np.log(guard(plan.target)) / plan.target.power
    outside = plan.outside
    sums: dict[str, float] = {"own": 0.0, "naive": 0.0, "inversion": 0.0, "outside": 0.0}
    count = {"all": 0, "outside": 0}
    by_utterance: list[tuple[float, int]] = []
    whole = regression.total(parts)
    offset = [regression.weights_of(whole - part, 0, 0.0)[-1] for part in parts] if len(parts) > 1 else [regression.weights_of(whole, 0, 0.0)[-1]]  # fmt: skip
    naive = _Naive(features)

    def report(index: int, logs: np.ndarray) -> None:
        seen, wanted = utterances[index]
        cells = wanted > heard
        wrong = np.abs(logs - wanted) * cells
        by_utterance.append((float(wrong.sum()), int(cells.sum())))
        sums["own"] += float(wrong.sum())
        count["all"] += int(cells.sum())
        sums["outside"] += float(wrong[:, outside].sum())
        count["outside"] += int(cells[:, outside].sum())
        if seen.q is not None:
            sums["inversion"] += float((np.abs(seen.expected() + offset[home[index]] - wanted) * cells).sum())
            sums["naive"] += float((np.abs(naive(seen) - wanted) * cells).sum())

    regression.held_out(features, score, parts, utterances, home, report)
    each = np.array([DB * wrong / cells for wrong, cells in by_utterance if cells])
    if not each.size:
        raise RefusedError("the recordings hold nothing above the target's guard: there is nothing to learn from")
    scale = DB / count["all"]
    return {
        "error_db": sums["own"] * scale,
        "low_db": float(np.quantile(each, 0.05)),
        "high_db": float(np.quantile(each, 0.95)),
        "naive_db": sums["naive"] * scale if features.invertible else None,
        "inversion_db": sums["inversion"] * scale if features.invertible else None,
        "outside_db": sums["outside"] * DB / count["outside"] if count["outside"] else None,
    }


class _Naive:
    """Undoing logarithm and power alone: the bin of the same number, or of the nearest centre where counts differ."""

    def __init__(self, features: Features) -> None:
        mine, theirs = bin_edges(features.source)[1:-1], bin_edges(features.target)[1:-1]
        self._bins = np.arange(len(theirs))
        if len(mine) != len(theirs):
            self._bins = np.abs(mine[None, :] - theirs[:, None]).argmin(1)

    def __call__(self, seen: Looked) -> np.ndarray:
        left = np.clip(np.rint(seen.positions).astype(np.int64), 0, len(seen.x) - 1)
        return np.asarray(seen.x[left][:, self._bins])
