"""A mel to audio in pieces, so that the first sound is there before the last frame is.

Pieces are cut at the quietest frame in reach, vocoded with context on both sides, and joined by a short cross-fade whose
gains keep the power: what a vocoder of random phases (Griffin-Lim) gives on the two sides of a cut does not add up like
one of known phases (a network) does, so the correlation of the two is measured.

Conventions:
    Mels are ``(T, M)`` float32, raw; audio is ``(L,)`` float32 in full scale 1, before any gain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["ChunkPlan", "vocode_in_chunks"]

Vocode = Callable[[np.ndarray], "tuple[np.ndarray, int]"]


@dataclass(frozen=True)
class ChunkPlan:
    """How long pieces are, in s.

    Args:
        first: shortest first piece; it decides when the first sound is there.
        shortest: shortest later piece.
        reach: how far beyond the shortest the quietest frame is looked for; for the first piece half as far.
        context: mel on each side that is vocoded and thrown away; a network needs its receptive field.
        fade: cross-fade.
    """

    first: float = 0.35
    shortest: float = 1.0
    reach: float = 0.5
    context: float = 0.1
    fade: float = 0.012


def vocode_in_chunks(
    vocode: Vocode, mels: Iterable[np.ndarray], hop_seconds: float, plan: ChunkPlan | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """Vocode a mel that comes in parts; gives audio and its rate in Hz as soon as a piece is done.

    The pieces together are as long as the audio of the whole mel would be. A vocoder that does not give the same number
    of samples for every frame cannot be cut: then the whole mel is vocoded at once.

    Args:
        vocode: ``(T, M)`` to ``(samples, rate)``.
        mels: parts of one mel, in order.
        hop_seconds: from frame to frame.
        plan: lengths; None: the defaults.
    """
    plan = plan or ChunkPlan()
    frames = {
        name: max(1, round(getattr(plan, name) / hop_seconds)) for name in ("first", "shortest", "reach", "context")
    }
    join = _Join(vocode, hop_seconds, frames["context"], plan.fade)
    least, reach = frames["first"], max(1, frames["reach"] // 2)
    buffer: np.ndarray | None = None
    start = 0  # first frame that has not been given away
    for part in mels:
        buffer = part if buffer is None else np.concatenate([buffer, part])
        while join.can_cut and len(buffer) >= start + least + reach + frames["context"]:
            window = buffer[start + least : start + least + reach].mean(axis=1)
            stop = start + least + int(np.argmin(window))
            audio = join(buffer, start, stop)
            if audio is None:
                break
            yield audio, join.rate
            start, least, reach = stop, frames["shortest"], frames["reach"]
    if buffer is not None:
        audio = join(buffer, start, len(buffer))
        assert audio is not None
        yield audio, join.rate


class _Join:
    """Pieces of one mel to pieces of one audio."""

    def __init__(self, vocode: Vocode, hop_seconds: float, context: int, fade: float) -> None:
        self.vocode, self.hop_seconds, self.context, self.fade = vocode, hop_seconds, context, fade
        self.can_cut = True
        self.rate = 0
        self._tail: np.ndarray | None = None  # what the piece before has on both sides of the cut

    def __call__(self, mel: np.ndarray, start: int, stop: int) -> np.ndarray | None:
        """Audio of the frames ``start`` to ``stop``; None where this vocoder's audio cannot be cut."""
        low, high = max(0, start - self.context), min(len(mel), stop + self.context)
        last = stop == len(mel)
        samples, self.rate = self.vocode(mel[low:high])
        hop = self.hop_seconds * self.rate
        if not last and not (abs(hop - round(hop)) < 1e-6 and abs(samples.size - (high - low) * hop) <= hop):
            self.can_cut = False
            return None
        step = round(hop)
        half = min(round(self.fade * self.rate / 2), self.context * step // 2)
        begin, end = (start - low) * step, samples.size if last else (stop - low) * step
        piece = samples[begin + half if start else 0 : end if last else end - half]
        if start and self._tail is not None:
            piece = np.concatenate([_crossed(self._tail, samples[begin - half : begin + half]), piece])
        self._tail = None if last else samples[end - half : end + half].copy()
        return piece.astype(np.float32, copy=False)


def _crossed(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Cross-fade of two signals ``(n,)`` that keeps the power, whatever their correlation."""
    n = min(old.size, new.size)
    old, new = old[:n].astype(np.float64), new[:n].astype(np.float64)
    rise = (np.arange(n) + 0.5) / max(n, 1)
    fall = 1.0 - rise
    norm = float(np.sqrt((old @ old) * (new @ new)))
    r = max(0.0, float(old @ new) / norm) if norm > 0 else 1.0
    return np.asarray((old * fall + new * rise) / np.sqrt(fall**2 + rise**2 + 2.0 * r * fall * rise), dtype=np.float32)
