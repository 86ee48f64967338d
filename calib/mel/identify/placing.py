"""From clips to a scene: layout, alignment, rate and hop, and the frames and cells that the search looks at."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from calib.errors import DataError
from calib.mel.identify.align import Alignment, Loudness, align, standardise
from calib.mel.identify.results import Clip
from calib.mel.identify.scene import Scene
from calib.mel.identify.spectra import Bench, Core
from calib.mel.identify.stored import Traits, frames_first, read_mel, traits

__all__ = ["RATES", "Placed", "as_amplitudes", "hops", "place", "scene_of"]

RATES = (22050, 24000, 16000, 44100, 48000, 32000, 40000, 11025, 8000, 12000)
_FALLS = -0.8  # rank correlation of bins and the bands that they follow below which they are in reverse order
_RELATED = 0.35  # correlation of levels below which audio and mel have nothing to do with each other
_EXACT = {"float64": 2e-5, "float32": 2e-5, "float16": 1.5e-3, "bfloat16": 1.2e-2}  # loss that rounding explains
_SEARCH_CLIPS = 8
_SEARCH_SECONDS = 20.0


@dataclass(frozen=True)
class Placed:
    """Clips whose frames lie somewhere in their audio.

    Args:
        clips: those looked at.
        y: their mels ``(T, M)`` float64; the logarithm of them where ``traits.linear``.
        stored: the mels ``(T, M)`` as stored, in their dtype.
        traits: of the stored values.
        layout: ``TM`` or ``MT``.
        rate: of the audio, in Hz.
        alignment: common hop, sign and score; the start of the first clip.
        starts: seconds at the middle of frame 0 by clip.
        related: the mel follows the audio.
        flipped: the bins are stored from high to low; ``y`` and ``stored`` have them from low to high.
    """

    clips: tuple[Clip, ...]
    y: tuple[np.ndarray, ...]
    stored: tuple[np.ndarray, ...]
    traits: Traits
    layout: str
    rate: int
    alignment: Alignment
    starts: tuple[float, ...]
    related: bool
    flipped: bool = False


def _chosen(clips: Sequence[Clip]) -> list[Clip]:
    """The longest clips, up to eight or 20 s: more audio would not say more."""
    out: list[Clip] = []
    seconds = 0.0
    for clip in sorted(clips, key=lambda c: (-len(c.samples) / c.sample_rate, c.id)):
        if out and (len(out) >= _SEARCH_CLIPS or seconds > _SEARCH_SECONDS):
            break
        out.append(clip)
        seconds += len(clip.samples) / clip.sample_rate
    return sorted(out, key=lambda c: c.id)


def place(clips: Sequence[Clip]) -> Placed:
    """Find out how mels and audio belong together.

    Raises:
        DataError: no clips, empty or non-finite values, sample rates that differ, a shape that is no mel.
    """
    if not clips:
        raise DataError("there is nothing to identify: no clip has both audio and a mel")
    for clip in clips:
        if np.ndim(clip.samples) != 1 or len(clip.samples) == 0:
            raise DataError(f"{clip.id}: its audio is empty or not mono (shape {np.shape(clip.samples)})")
        if not np.isfinite(clip.samples).all():
            raise DataError(f"{clip.id}: its audio holds NaN or infinite samples")
    rates = {clip.sample_rate for clip in clips}
    if len(rates) > 1:
        rate = max(rates, key=lambda r: sum(c.sample_rate == r for c in clips))
        clips = [c for c in clips if c.sample_rate == rate]
    clips = _chosen(clips)
    arrays = [read_mel(clip.mel, clip.id) for clip in clips]
    layouts = frames_first([a.shape for a in arrays])
    if not layouts:
        shapes = ", ".join(str(a.shape) for a in arrays[:3])
        raise DataError(
            f"no axis of these arrays can be the mel bins (8 to 512, the same in every file): shapes {shapes}"
        )
    rate = clips[0].sample_rate
    audio = [Loudness(np.asarray(c.samples, np.float32), rate) for c in clips]
    best: Placed | None = None
    for layout in layouts:
        stored = tuple(a if layout == "TM" else np.ascontiguousarray(a.T) for a in arrays)
        frames = sum(len(s) for s in stored)
        if not 0.0008 < sum(a.seconds for a in audio) / max(frames, 1) < 0.4 and len(layouts) > 1:
            continue
        placed = _placed(clips, stored, layout, audio)
        if placed is not None and (best is None or placed.alignment.score > best.alignment.score + 0.05):
            best = placed
    if best is None:
        frames = max(max(a.shape) for a in arrays)
        constant = all(float(np.ptp(a)) == 0 for a in arrays)
        raise DataError("every mel is constant: nothing can be identified" if constant else f"these mels are too short to place in their audio ({frames} frames at most; 12 are needed) or do not vary")  # fmt: skip
    return best


def _placed(
    clips: Sequence[Clip], stored: tuple[np.ndarray, ...], layout: str, audio: Sequence[Loudness]
) -> Placed | None:
    if all(float(np.ptp(s)) == 0 for s in stored):
        return None
    seen = traits(stored)
    y = []
    for s, n in zip(stored, seen.constant_ends, strict=True):
        body = np.asarray(s[: len(s) - n] if n else s, dtype=np.float64)
        y.append(_logarithm(body) if seen.linear else body)
    found = [align(values, loudness) for values, loudness in zip(y, audio, strict=True)]
    good = [a for a in found if a is not None]
    if not good:
        return None
    top = max(good, key=lambda a: a.score)
    near = [a for a in good if a.score > 0.7 * top.score and abs(a.hop / top.hop - 1) < 0.02 and a.sign == top.sign]
    weight = np.array([1.0 / max(a.hop_error, 1e-9) ** 2 for a in near])
    hop = float(np.sum(weight * [a.hop for a in near]) / weight.sum())
    error = max(float(1.0 / np.sqrt(weight.sum())), min(a.hop_error for a in near) / 2)
    starts = []
    for a, values in zip(found, y, strict=True):
        # With the common hop, a clip's start follows from where its middle lies.
        middle = len(values) / 2
        starts.append(a.start + (a.hop - hop) * middle if a is not None and a in near else float("nan"))
    first = next(s for s in starts if np.isfinite(s))
    alignment = dataclasses.replace(top, hop=hop, hop_error=error, start=first)
    related = top.score >= _RELATED
    flipped = _falls(y, starts, audio, alignment)
    if flipped:
        y = [np.ascontiguousarray(v[:, ::-1]) for v in y]
        stored = tuple(np.ascontiguousarray(s[:, ::-1]) for s in stored)
        seen = traits(stored)
    return Placed(
        tuple(clips), tuple(y), stored, seen, layout, clips[0].sample_rate, alignment, tuple(starts), related, flipped
    )


def _falls(y: Sequence[np.ndarray], starts: Sequence[float], audio: Sequence[Loudness], alignment: Alignment) -> bool:
    """Whether the bins go down in frequency: the band of the audio that each follows best falls with its number."""
    from scipy.stats import spearmanr

    bins, levels = [], []
    for values, start, loudness in zip(y, starts, audio, strict=True):
        if np.isfinite(start):
            times = start + alignment.hop * np.arange(len(values))
            inside = (times > 0) & (times < loudness.seconds)
            bins.append(standardise(values[inside]))
            levels.append(standardise(loudness.at(times[inside])))
    left, right = np.concatenate(bins), np.concatenate(levels)
    # What all bands share, the speech's comings and goings, says nothing about frequency.
    left, right = (standardise(x - x.mean(1, keepdims=True)) for x in (left, right))
    best = np.argmax(alignment.sign * (left.T @ right), axis=1)
    return len(set(best.tolist())) > 1 and float(spearmanr(best, np.arange(len(best))).statistic) < _FALLS


def as_amplitudes(placed: Placed) -> Placed:
    """The same clips, their values taken for amplitudes and not for logarithms."""
    return dataclasses.replace(placed, y=tuple(_logarithm(y) for y in placed.y), traits=dataclasses.replace(placed.traits, linear=True))  # fmt: skip


def _logarithm(y: np.ndarray) -> np.ndarray:
    positive = y[y > 0]
    least = float(positive.min()) if positive.size else 1.0
    return np.asarray(np.log(np.maximum(y, least)))


def hops(placed: Placed) -> Iterator[tuple[int, int]]:
    """Rates and whole hops that fit the time between frames, the audio's own rate first."""
    a = placed.alignment
    seconds = max(len(y) for y in placed.y) * a.hop
    # Levels can mislead by 4 ms from one end of the longest clip to the other, an analysis by .6 ms.
    for away in (6e-4, 4e-3) if a.fine else (4e-3,):
        found = []
        for rate in (placed.rate, *(r for r in RATES if r != placed.rate)):
            hop, error = a.hop * rate, min(max(4.0 * a.hop_error, away * a.hop / seconds) * rate, 0.45)
            if abs(hop - round(hop)) <= error and round(hop) >= 1:
                found.append((rate, round(hop)))
        if found:
            break
    yield from found


def scene_of(
    placed: Placed, core: Core, cells: int, *, loud: float = 0.25, edges: bool = False, most: int = 450
) -> tuple[Scene, list[np.ndarray]]:
    """The mel at evenly spread frames, and which frames these are by clip.

    Args:
        placed: the clips.
        core: rate, hop and place of the frames.
        cells: about how many ``(frame, bin)`` to take.
        loud: share of the quietest cells of each bin that are left out.
        edges: take frames whose window reaches beyond the audio, too.
        most: frames at most.
    """
    sign = placed.alignment.sign
    bins = placed.y[0].shape[1]
    wanted = max(60, min(most, cells // bins))
    total = sum(len(y) for y in placed.y)
    benches, rows, taken = [], [], []
    for clip, y, start in zip(placed.clips, placed.y, placed.starts, strict=True):
        frames = np.arange(len(y))
        bench = Bench(clip.samples, placed.rate, frames, bins)
        if not np.isfinite(start):
            taken.append(frames[:0])
            continue
        if not edges:
            # Wide enough for every window that the search may try.
            frames = frames[bench.inside(core.but(width=max(core.width, 3.0 * core.hop)))]
        count = min(len(frames), max(8, round(wanted * len(y) / total)))
        frames = (
            frames[np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))] if len(frames) else frames
        )
        taken.append(frames)
        if len(frames):
            benches.append(bench.with_frames(frames))
            rows.append(y[frames])
    if not rows:
        raise DataError("no frame of the mel lies wholly inside its audio")
    values = np.concatenate(rows)
    used = away_from_walls(values, placed)
    if loud:
        limit = np.quantile(sign * values, loud, axis=0)
        used &= sign * values >= limit
    return Scene(benches, values, used, _EXACT[placed.traits.dtype]), taken


def away_from_walls(values: np.ndarray, placed: Placed) -> np.ndarray:
    """Cells ``(N, M)`` that lie on no wall, nor so near that float32 could not tell."""
    t = placed.traits
    out = np.ones(values.shape, dtype=bool)
    for wall in (t.low, t.high):
        level = np.log(np.maximum(wall, 1e-30)) if t.linear else wall
        if np.isfinite(level).any():
            near = 1e-5 * max(float(np.ptp(values)), 1e-9)
            out &= ~(np.abs(values - np.where(np.isfinite(level), level, np.inf)) <= near)
    return out
