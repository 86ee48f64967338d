"""The probe of the text: whether it is read, and whether what is read is what is said.

Two alterations, both teacher-forced: the text of another utterance, and the utterance's own words in reverse order.
The second keeps the length and the words, so that a model that only knows how long its text is (an attention that sees
the padding and nothing else does) gains nothing from the right one.

How much the prediction moves says that something of the text arrives, not that it is the text's meaning. And how much the
error rises in all says little of an autoregressive model, whose previous true frame carries most of the information. So
the error is measured against the change itself: with ``d`` the change within bins, the *worth* of the text is

    (mean square error with the altered text - with the own one) / mean square of d.

A prediction that is the mean of what can follow, given its text, has an error orthogonal to ``d``: its worth is 1,
however small ``d`` is beside what the previous frame says. Where own and altered text are equally far from the recording
it is 0 (inverted attention: -.04 to .07; healthy models: .68 to .94). Predictions that are
spread wider than the recordings, as of an uncalibrated model, are first brought to their deviation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from calib.errors import DataError
from calib.models.probes.forced import SAME
from calib.models.probes.scene import Finding, Limit, Scene
from calib.models.protocol import Utterance

__all__ = ["text", "worth"]

READ = Limit("change", "<", 0.02, "units")
DEAF = Limit("error in the change", "<", 0.1)  # healthy networks .68 to .94, attention to the padding -.04 to .07
DOUBT = Limit("error in the change", "<", 0.3)
_LAGS = 4

_ADVICE = "look at the attention over the text: does it see the letters, or (an inverted mask) only the padding? are texts and recordings paired rightly, and is the tokenizer that of the training?"


def text(scene: Scene) -> Finding:
    """Each utterance with the text of another one, and with its own words in reverse order."""
    if len({u.text for u in scene.batch if u.text.strip()}) < 2:
        return Finding("text", "skipped", "fewer than two different texts in the corpus")
    texts = [u.text for u in scene.batch]
    swapped = scene.predict([dataclasses.replace(u, text=_other(texts, k)) for k, u in enumerate(scene.batch)])
    size = scene.changes(swapped)
    evidence: dict[str, float] = {"change": size}
    if (why := scene.textless) is not None:
        if SAME.broken(size):
            return Finding(
                "text", "warn", f"{why}, and another text changes the prediction by {size:.3g} units", evidence, str(SAME),
                "leave that out if it does read the text: the probes of the text and of free running are then made",
            )  # fmt: skip
        return Finding("text", "skipped", f"{why}, and another text changes nothing", evidence, str(SAME))
    if READ.broken(size):
        return Finding(
            "text", "fail", f"another text changes the prediction by {size:.3g} units: the text is not used", evidence, str(READ),
            "look at the attention over the text: its mask, whether it ever becomes monotonic, and whether the encoder was restored (a model that reads no text: --no-text)",
        )  # fmt: skip
    rise = _rise(scene, swapped, evidence)
    return _judged(scene, swapped, evidence, f"another text changes the prediction by {size:.2g} units{rise}")


def _rise(scene: Scene, swapped: list[np.ndarray], evidence: dict[str, float]) -> str:
    """What another text does to the mean absolute error, in words; "" where the output is not in the target's unit."""
    if scene.model.output_space != "raw":
        return ""
    right, wrong = (float(np.mean([np.abs(p[: len(u.mel)] - u.mel[: len(p)]).mean() for p, u in zip(mels, scene.batch, strict=True)])) for mels in (scene.base, swapped))  # fmt: skip
    worse = wrong / max(right, 1e-9) - 1
    evidence |= {"mae_own_text": right, "mae_other_text": wrong, "mae_rise": worse}
    return f" and its error by {worse:+.1%}"


def _judged(scene: Scene, swapped: list[np.ndarray], evidence: dict[str, float], said: str) -> Finding:
    limits = f"{READ}; {DEAF} (as a share of mean squares), surely below {DOUBT.value:g}; a warning: below {DOUBT.value:g}, or not surely above 0"
    found = worth(scene, scene.batch, scene.base, swapped)
    evidence["worth_other_text"] = found.value
    what = f"{said}; {found.words}"
    if (turned := _turned(scene)) is not None:
        which, altered = turned
        batch, base = [scene.batch[k] for k in which], [scene.base[k] for k in which]
        size = scene.changes(altered, base)
        evidence["change_reversed"] = size
        if READ.broken(size):
            return Finding(
                "text", "fail", f"{said}, and its own words in reverse order by {size:.2g} units: how long the text is arrives, and not what it says",
                evidence, limits, _ADVICE,
            )  # fmt: skip
        found = worth(scene, batch, base, altered)
        what = f"{said}; with its own words in reverse order ({size:.2g} units) {found.words}"
    evidence |= {"worth": found.value, "worth_error": found.error, "nearer_with_own_text": found.nearer, "utterances": found.count}  # fmt: skip
    most = found.value + 2 * found.error
    if DEAF.broken(found.value) and DOUBT.broken(most) and scene.model.kind != "sample":
        return Finding("text", "fail", f"{what}: what is read is not what is said", evidence, limits, _ADVICE)
    if DOUBT.broken(found.value) or not found.value > 2 * found.error:
        advice = "more utterances (--limit) tell more; texts that are not those of the recordings do that, a voice or language that the model does not know, an attention that sees little of them"
        if scene.model.kind == "sample":
            advice += "; and so does what the model draws"
        return Finding("text", "warn", f"{what}: little of what is read is what is said", evidence, limits, advice)
    return Finding("text", "pass", what, evidence, limits)


@dataclasses.dataclass(frozen=True)
class Worth:
    """Worth of the own text over an altered one (see the module).

    Args:
        value: 1 at best, 0 where both are equally far from the recording.
        error: its standard error, by the jackknife over pieces of one second.
        nearer: utterances that are nearer to the recording with their own text.
        count: utterances.
    """

    value: float
    error: float
    nearer: int
    count: int

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.value:.0%} of the change is error (± {2 * self.error:.0%})"


def worth(scene: Scene, batch: Sequence[Utterance], base: Sequence[np.ndarray], altered: Sequence[np.ndarray]) -> Worth:
    """What the own text is worth over the altered one.

    Every bin's mean over time is removed from target and predictions; the target of normalised predictions is brought to
    their space by its own mean and deviation. Frames that not all three have are left out, and a prediction that comes a
    few frames early is compared with the frames that it is of: a shift is another fault than not to read.
    """
    mean, sd = 0.0, 1.0
    if scene.model.output_space == "normalized":
        true = np.concatenate([u.mel for u in batch]).astype(np.float64)
        mean, sd = float(true.mean()), max(float(true.std()), 1e-9)
    piece = max(int(scene.frame_rate), 1)
    gained: list[float] = []
    moved: list[float] = []
    nearer = 0
    lag = _lag(batch, base)
    spread = [float(np.mean([np.var(mel.astype(np.float64), axis=0).mean() for mel in mels])) for mels in ([u.mel / sd for u in batch], base)]  # fmt: skip
    narrower = min(1.0, float(np.sqrt(spread[0] / max(spread[1], 1e-12))))
    for u, p, q in zip(batch, base, altered, strict=True):
        mels = _shifted((u.mel - mean) / sd, lag), _shifted(narrower * p, -lag), _shifted(narrower * q, -lag)
        n = min(map(len, mels))
        y, own, other = (_centred(mel[:n]) for mel in mels)
        gain = np.sum(np.square(y - other) - np.square(y - own), axis=1)
        nearer += bool(gain.sum() > 0)
        at = np.arange(0, n, piece)
        gained += np.add.reduceat(gain, at).tolist()
        moved += np.add.reduceat(np.square(own - other).sum(1), at).tolist()
    g, m = np.array(gained), np.maximum(np.array(moved), 1e-12)
    value = float(g.sum() / m.sum())
    if len(g) < 2:
        return Worth(value, float("inf"), nearer, len(batch))
    left_out = (g.sum() - g) / (m.sum() - m)
    error = float(np.sqrt((len(g) - 1) * np.mean((left_out - left_out.mean()) ** 2)))
    return Worth(value, error, nearer, len(batch))


def _shifted(mel: np.ndarray, lag: int) -> np.ndarray:
    """Without its first ``lag`` frames; as it is where that is negative."""
    return mel[max(lag, 0) :]


def _lag(batch: Sequence[Utterance], base: Sequence[np.ndarray]) -> int:
    """Frames by which the target lies behind what is predicted, at most `_LAGS`, where they correlate best."""
    best, found = -np.inf, 0
    for lag in range(_LAGS + 1):  # never late: a decoder that copies the frame before correlates best with that one
        products = sizes = 0.0
        for u, p in zip(batch, base, strict=True):
            y, x = _shifted(u.mel, lag), _shifted(p, -lag)
            n = min(len(x), len(y))
            y, x = _centred(y[:n]), _centred(x[:n])
            products += float((x * y).sum())
            sizes += float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
        if sizes > 0 and products / sizes > best + 1e-9:
            best, found = products / sizes, lag
    return found


def _centred(mel: np.ndarray) -> np.ndarray:
    x = mel.astype(np.float64)
    return np.asarray(x - x.mean(0))


def _turned(scene: Scene) -> tuple[list[int], list[np.ndarray]] | None:
    """Which utterances can be read backwards, and their predictions so; None where none can, or the model refuses."""
    texts = [_backwards(u.text) for u in scene.batch]
    which = [k for k, u in enumerate(scene.batch) if texts[k] != u.text and u.text.strip()]
    if not which:
        return None
    try:
        return which, scene.predict([dataclasses.replace(scene.batch[k], text=texts[k]) for k in which])
    except DataError:
        return None  # a lexicon, say, that knows no such word


def _backwards(words: str) -> str:
    """The words in reverse order; a single word's letters."""
    parts = words.split()
    return " ".join(parts[::-1]) if len(parts) > 1 else words.strip()[::-1]


def _other(texts: list[str], k: int) -> str:
    """The text of another utterance, the nearest in length, so that what changes is what is said and not how much."""
    candidates = [t for t in texts if t != texts[k] and t.strip()]
    return min(candidates, key=lambda t: abs(len(t) - len(texts[k])))
