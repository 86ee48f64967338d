"""Predictions of a model of given quality, made from true mels.

What the simulation imitates was measured on the really trained reference model (``calib.models.reference``, teacher
forced on the demo corpus, checkpoints at 5, 30 and 100 % of the training; s_w is the target's within-bin sd, and what is
per bin or per utterance is an sd over bins or utterances, in units of s_w)::

    checkpoint                                     5 %    30 %   100 %   target
    r_w                                            .781   .929   .947
    sd ratio                                       .740   .921   .933
    OLS slope                                     1.055  1.008  1.016
    mean error of each bin                         .103   .044   .013
      its autocorrelation over 1, 2 bins         .28 .14 .47 .20 .53 .38
    mean error of each utterance                   .047   .014   .016
    mean error of each utterance and bin           .169   .052   .037
    r_w of single utterances, 5th to 95th p.     .73-.82 .91-.94 .93-.96
    OLS slope of single utterances                 .043   .017   .019
    autocorrelation of the error, 1 frame          .74    .35    .35     .90
      2, 3, 5 frames                           .50 .38 .24  .15 .11 .06  .15 .10 .06
      1, 2, 4, 8 bins                      .74 .50 .35 .17  .65 .45 .38 .30  .63 .45 .37 .27  .90 .78 .67 .47
    sd of the error, quietest to loudest tenth   .68-.61 .48-.29 .43-.23
    kurtosis of the error (normal: 0)               .5     2.7     3.3
    r_w with the previous true frame (lag +1)      .844   .929   .919

Its coherence with the target over modulation frequency f and quefrency q (order of the DCT over bins) falls by 1.5 in
logit an octave of q from q = 4 on early in training and by about 0.8 at its end, and with (f / 12 Hz)² throughout. So::

    logit g(f, q) = a - c log2(1 + q / 4) - (f / 12 Hz)²,    c drawn from 0.7 to 1.6
    P = g D + sqrt(g (1 - g)) N         D, N: DCT of target and of independent speech-like noise of the same spectrum

is the prediction of a conditional-mean model: for each component the least-squares slope is one and the correlation
sqrt(g), and `a` is set so that all components together give the r asked for. N is another utterance, rolled in time, or
the utterance itself with random signs in the DCT domain. An autoregressive model corrects its conditional mean by the
error that it would have made in the frame before, smoothed over bins. A sample-like model of quality r is a
conditional-mean model of quality sqrt(r) plus noise of its residual's own structure, so that its sd ratio is one.

The smaller errors (bias of bins and of utterances, gain, quality that varies) are drawn around the figures above, as
functions of the residual sd sqrt(1 - r²).

Conventions:
    Mels are ``(T, M)``; r is within bin, pooled over all utterances given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import dct, dctn, idct, idctn
from scipy.ndimage import gaussian_filter1d

__all__ = ["KINDS", "Quality", "achieved", "simulate"]

KINDS = ("mean", "sample")
_FRAMES_A_SECOND = 22050 / 256
_LEARNED = 0.8  # share of the error's lag-1 autocorrelation that an autoregressive model uses
_ALL = 12.0  # logit at which the correction passes every quefrency
_SOLVED_ON = 6  # utterances on which the autoregressive part is solved for; the rest follows


@dataclass(frozen=True)
class Quality:
    """A model to be imitated.

    Args:
        r: within-bin correlation with the target.
        kind: ``mean`` (L1, L2) or ``sample`` (GAN, flow).
        autoregressive: whether it saw the previous true frame.
    """

    r: float
    kind: str
    autoregressive: bool


def achieved(predictions: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> tuple[float, float]:
    """``(r_w, sd ratio)`` within bin, pooled over the utterances; 0 for a constant."""
    p, y = (np.concatenate(list(mels)).astype(np.float64) for mels in (predictions, targets))
    p -= p.mean(0)
    y -= y.mean(0)
    pp, yy = float((p * p).sum()), float((y * y).sum())
    return (float((p * y).sum()) / np.sqrt(pp * yy) if pp > 0 else 0.0), float(np.sqrt(pp / yy))


def simulate(targets: Sequence[np.ndarray], quality: Quality, rng: np.random.Generator) -> list[np.ndarray]:
    """What a model of this quality predicts of ``targets``, float32 ``(T, M)`` each.

    Args:
        targets: at least two utterances; they lend each other their noise.
        quality: the model.
        rng: draws its errors.
    """
    everything = np.concatenate(list(targets)).astype(np.float64)
    mean = everything.mean(0)
    s_w = float(np.sqrt(np.square(everything - mean).mean()))
    deviations = [(y - mean) / s_w for y in targets]
    predicted = _conditional_mean(deviations, quality, rng)
    if quality.kind == "sample":
        predicted = _with_residual(deviations, predicted, rng)
    predicted = _exact(deviations, predicted, quality)
    bias, levels, gain = _small_errors(len(mean), len(targets), quality.r, rng)
    return [
        (mean + s_w * (gain * p + bias + level)).astype(np.float32) for p, level in zip(predicted, levels, strict=True)
    ]


def _small_errors(
    bins: int, utterances: int, r: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Bias of each bin and level of each utterance in units of s_w, and the gain; sizes as measured (see above)."""
    residual = float(np.sqrt(1.0 - r * r))
    bias = gaussian_filter1d(rng.standard_normal(bins), 0.6, mode="nearest")
    bias *= rng.uniform(0.06, 0.22) * residual / bias.std()
    levels = rng.normal(0.0, rng.uniform(0.03, 0.07) * residual, utterances)
    return bias, levels, float(np.exp(rng.normal(-0.015, 0.025)))


def _conditional_mean(deviations: list[np.ndarray], quality: Quality, rng: np.random.Generator) -> list[np.ndarray]:
    """Predictions of a conditional-mean model, in units of s_w, near the r asked for (or its root, for sampling)."""
    r = float(np.sqrt(quality.r)) if quality.kind == "sample" else quality.r
    spectra = [dctn(d, norm="ortho") for d in deviations]
    noises = _noises(deviations, spectra, rng)
    fall = float(rng.uniform(0.7, 1.6))
    uneven = rng.normal(0.0, 0.2, len(deviations))  # logit; r_w of single utterances then varies as measured

    def without_memory(r_text: float, count: int) -> list[np.ndarray]:
        at = _height(spectra, r_text, fall)
        out = []
        for d, n, shift in zip(spectra[:count], noises[:count], uneven[:count], strict=True):
            g = _coherence(d.shape, at + shift, fall)
            out.append(idctn(g * d + np.sqrt(g * (1.0 - g)) * n, norm="ortho"))
        return out

    if not quality.autoregressive:
        return without_memory(r, len(deviations))
    # Of the explained variance, what comes from the text: a third early in training, most of it in a good model.
    share = min(rng.uniform(0.3, 0.6) + 0.4 * r**4, 0.97)
    r_text = float(np.sqrt(share) * r)
    some = deviations[:_SOLVED_ON]
    base = without_memory(r_text, len(some))
    if _reached(some, base, _ALL) < r:  # the previous frame cannot give the rest: the text must
        r_text = _solve(lambda x: _reached(some, without_memory(x, len(some)), _ALL), r, r_text, r)
        height = _ALL
    else:
        height = _solve(lambda x: _reached(some, base, x), r, -_ALL, _ALL)
    return [_corrected(d, p, height) for d, p in zip(deviations, without_memory(r_text, len(deviations)), strict=True)]


def _coherence(shape: tuple[int, ...], height: float, fall: float) -> np.ndarray:
    """Squared coherence g of each DCT component, ``(T, M)``."""
    frames, bins = shape
    hertz = np.arange(frames)[:, None] * (_FRAMES_A_SECOND / (2.0 * frames))
    logit = height - fall * np.log2(1.0 + np.arange(bins) / 4.0) - np.square(hertz / 12.0)
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -40.0, 40.0))))


def _height(spectra: list[np.ndarray], r: float, fall: float) -> float:
    """The height of the coherence at which the explained share of the variance is r²."""
    power = [np.square(d) for d in spectra[:_SOLVED_ON]]
    total = sum(float(p.sum()) for p in power)

    def explained(height: float) -> float:
        return sum(float((_coherence(p.shape, height, fall) * p).sum()) for p in power) / total

    return _solve(explained, r * r, -20.0, 30.0)


def _solve(rising: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Bisection for a rising function."""
    for _ in range(14):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return 0.5 * (low + high)


def _noises(deviations: list[np.ndarray], spectra: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Independent noise of speech's own spectrum, as DCT, of each utterance's size and sd."""
    if rng.random() < 0.5:
        return [d * rng.choice((-1.0, 1.0), d.shape) for d in spectra]
    out = []
    for k, d in enumerate(deviations):
        other = _rolled(deviations, k, rng)
        out.append(dctn(other * (d.std() / other.std()), norm="ortho"))
    return out


def _rolled(arrays: list[np.ndarray], index: int, rng: np.random.Generator) -> np.ndarray:
    """Another utterance's array, tiled to this one's length and rolled in time."""
    other = arrays[(index + 1 + int(rng.integers(len(arrays) - 1))) % len(arrays)]
    frames = len(arrays[index])
    tiled = np.tile(other, (-(-frames // len(other)), 1))
    return np.roll(tiled, int(rng.integers(len(tiled))), axis=0)[:frames]


def _corrected(d: np.ndarray, p: np.ndarray, height: float) -> np.ndarray:
    """A prediction that also uses the error of its conditional mean in the previous frame, smoothed over bins."""
    own = d - p
    error = np.concatenate((np.zeros((1, d.shape[1])), own[:-1]))
    memory = max(0.0, float((own * error).sum() / (own * own).sum()))
    logit = height - 1.5 * np.log2(1.0 + np.arange(d.shape[1]) / 4.0)
    gain = _LEARNED * memory / (1.0 + np.exp(-np.clip(logit, -40.0, 40.0)))
    return np.asarray(p + idct(dct(error, axis=1, norm="ortho") * gain, axis=1, norm="ortho"))


def _reached(deviations: list[np.ndarray], base: list[np.ndarray], height: float) -> float:
    return achieved([_corrected(d, p, height) for d, p in zip(deviations, base, strict=True)], deviations)[0]


def _with_residual(
    deviations: list[np.ndarray], predicted: list[np.ndarray], rng: np.random.Generator
) -> list[np.ndarray]:
    """A draw instead of the mean: what is left unexplained is added once more, but not this utterance's own."""
    residuals = [d - p for d, p in zip(deviations, predicted, strict=True)]
    if rng.random() < 0.5:
        own = [dctn(e, norm="ortho") for e in residuals]
        drawn = [idctn(e * rng.choice((-1.0, 1.0), e.shape), norm="ortho") for e in own]
    else:
        drawn = [_rolled(residuals, k, rng) for k in range(len(residuals))]
    return [p + e for p, e in zip(predicted, drawn, strict=True)]


def _exact(deviations: list[np.ndarray], predicted: list[np.ndarray], quality: Quality) -> list[np.ndarray]:
    """Louder errors where it is quiet, then the last per cent: exactly the r asked for and an OLS slope or sd of one."""
    d = np.concatenate(deviations)
    p = np.concatenate(predicted)
    p = p - p.mean(0)
    level = p.mean(1, keepdims=True)
    level = (level - level.mean()) / level.std()
    slope = float((p * d).sum() / (d * d).sum())
    error = (p - slope * d) * np.exp(-0.2 * quality.r**2 * np.clip(level, -2.5, 2.5))
    error -= error.mean(0)
    error -= float((error * d).sum() / (d * d).sum()) * d
    ratio = 1.0 if quality.kind == "sample" else quality.r
    s_d = float(np.sqrt(np.square(d).mean()))
    error *= ratio * np.sqrt(1.0 - quality.r**2) * s_d / float(np.sqrt(np.square(error).mean()))
    edges = np.cumsum([len(x) for x in deviations])[:-1]
    return np.split(quality.r * ratio * d + error, edges)
