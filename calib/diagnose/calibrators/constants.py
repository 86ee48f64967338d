"""Known maps between mel domains, and which of them the pairs are consistent with.

A regression slope is never exactly ln 10. But if the truth is ln 10, the slope of least squares lies below it and that
of moment matching above it, or at it: least squares finds the map of a conditional mean, matching that of a sample.
So a constant is *accepted* when it lies between the two, widened by their intervals, and its intercept meets the means;
the exact constant is then the answer, not the estimate. Several may be accepted: weak predictions fit many.

Conventions:
    Maps are ``target = slope * prediction + intercept``. Each domain of the table is an exact map from x = ln(magnitude
    mel) or another log mel, and gives two maps: the prediction lies in it, or the target does.

Sources of the numbers: the systems' own code, as read in ``research/frontends.md`` (a) of this project's notes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calib.diagnose.calibrators.fits import Folds, divide, least_squares, moment_matching

__all__ = ["Accepted", "KnownMap", "accepted_maps", "known_maps", "statistics_maps"]

LN10 = math.log(10.0)
DB = 20.0 / LN10
_SLOPE_TOLERANCE = 0.005  # constants in code are rounded, and nearly perfect predictions have no interval to speak of
_REVERSE = 1.02  # times the matched slope: as far as regression the other way round is believed
_INTERCEPT_TOLERANCE = 0.05  # sd of the target: a level error that a sound model may have


@dataclass(frozen=True)
class KnownMap:
    """A map that is known before any data.

    Args:
        id: name in files.
        slope: exact slope.
        intercept: exact intercept.
        free_intercept: where the intercept does not fit, the slope may still be right (a gain or a reference level).
        meaning: in plain words, completes "the prediction is ...".
        source: where the numbers are from.
    """

    id: str
    slope: float
    intercept: float
    free_intercept: bool
    meaning: str
    source: str


@dataclass(frozen=True)
class Accepted:
    """A known map that the pairs are consistent with.

    Args:
        known: the map.
        intercept: its intercept, or None: fitted to the means.
        slope_distance: ``|slope / estimate - 1|`` from the estimate that suits the model (least squares for a mean,
            matching for a sampler).
        intercept_distance: distance from the intercept that meets the means, in sd of the target; None when fitted.
    """

    known: KnownMap
    intercept: float | None
    slope_distance: float
    intercept_distance: float | None


# (id, slope and intercept from the base, base, domain, intercept may be anything, source)
_DOMAINS = (
    ("log10", 1 / LN10, 0.0, "ln", "log10", True, "change of base; MelGAN, ParallelWaveGAN, ESPnet"),
    ("decibel", DB, 0.0, "ln", "20 log10 (dB)", True, "20 log10 m = 20 / ln 10 · ln m"),
    ("decibel-log10", 20.0, 0.0, "log10", "20 log10 (dB)", True, "20 log10 m"),
    ("power-decibel", 10 / LN10, 0.0, "ln", "10 log10 (dB of power against ln of power)", True, "10 log10 m"),
    ("power", 2.0, 0.0, "ln of magnitude", "ln of power", True, "exact if squared after the bank; before it, 2x + 3.3 nearly"),
    ("log2", 1 / math.log(2.0), 0.0, "ln", "log2", True, "change of base"),
    ("unit-100db", DB / 100, 1.0, "ln", "dB scaled from [-100, 0] to [0, 1]", True, "keithito/tacotron and its kin"),
    ("unit-100db-db", 0.01, 1.0, "dB", "dB scaled from [-100, 0] to [0, 1]", True, "keithito/tacotron and its kin"),
    ("coqui", 0.08 * DB, 2.4, "ln", "Coqui's [-4, 4] scale (ref 20 dB, min -100 dB)", True, "coqui-ai/TTS AudioProcessor defaults"),
    ("coqui-db", 0.08, 2.4, "dB", "Coqui's [-4, 4] scale (ref 20 dB, min -100 dB)", True, "coqui-ai/TTS AudioProcessor defaults"),
    ("matcha-ljspeech", 1 / 2.116101, 5.536622 / 2.116101, "ln", "normalised with Matcha's LJSpeech statistics", False, "shivammehta25/Matcha-TTS configs/data/ljspeech.yaml"),
    ("matcha-vctk", 1 / 2.482914, 6.630575 / 2.482914, "ln", "normalised with Matcha's VCTK statistics", False, "shivammehta25/Matcha-TTS configs/data/vctk.yaml"),
    ("matcha-hifi", 1 / 2.541796, 6.38385 / 2.541796, "ln", "normalised with Matcha's Hi-Fi female statistics", False, "shivammehta25/Matcha-TTS configs/data/hi-fi_en-US_female.yaml"),
    ("gpt-sovits", 1 / 7, 5 / 7, "ln", "GPT-SoVITS v3/v4's [-12, 2] scaled to [-1, 1]", False, "RVC-Boss/GPT-SoVITS spec_min, spec_max"),
    ("tortoise", 0.144641776, 0.665249942, "ln", "Tortoise diffusion's [-11.513, 2.314] scaled to [-1, 1]", False, "neonbjb/tortoise-tts utils/audio.py"),
    ("fish-diffusion", 0.1737176, 1.0, "ln", "fish-diffusion's log10 [-5, 0] scaled to [-1, 1]", False, "fishaudio/fish-diffusion spec_min, spec_max"),
    ("styletts2", 0.25, 1.0, "ln(power + 1e-5)", "StyleTTS2's normalisation (mean -4, sd 4)", False, "yl4579/StyleTTS2 meldataset.py"),
    ("whisper", 10 / LN10 / 40, 1.0, "ln of power", "Whisper's log-mel scale", False, "openai/whisper audio.py"),
    ("myxtts", 0.5, 2.5, "ln", "MyXTTS's default normalisation (mean -5, sd 2)", False, "masoodafar-web/MyXTTSModel mel_normalization_fix.py"),
)  # fmt: skip


def _table() -> tuple[KnownMap, ...]:
    out = [
        KnownMap("gain", 1.0, 0.0, True, "in the target's units, at another level (gain, area norm, reference)", "ln(g·m)"),
        KnownMap("int16-samples", 1.0, -math.log(32768.0), False, "made from int16 samples, the target from [-1, 1]", "ln 32768"),
        KnownMap("float-samples", 1.0, math.log(32768.0), False, "made from samples in [-1, 1], the target from int16", "ln 32768"),
    ]  # fmt: skip
    for name, slope, intercept, base, domain, free, source in _DOMAINS:
        out += (
            KnownMap(f"from-{name}", 1.0 / slope, -intercept / slope, free, f"{domain}, the target {base}", source),
            KnownMap(f"to-{name}", slope, intercept, free, f"{base}, the target {domain}", source),
        )
    return tuple(out)


_KNOWN = _table()


def known_maps() -> tuple[KnownMap, ...]:
    """The table, in both directions. The identity is not in it: it is a fit of its own."""
    return _KNOWN


def statistics_maps(mean: float, std: float, origin: str, name: str) -> tuple[KnownMap, ...]:
    """Normalised once too often, and denormalised once too often, with given statistics.

    Args:
        mean: of the mels, in their units.
        std: of the mels.
        origin: whose statistics, for people.
        name: the same for files.

    Raises:
        ValueError: the sd is not positive.
    """
    if not std > 0:
        raise ValueError(f"the sd of the statistics must be positive, got {std}")
    return (
        KnownMap(f"normalised-{name}", std, mean, False, f"still normalised with {origin}", origin),
        KnownMap(f"denormalised-{name}", 1 / std, -mean / std, False, f"denormalised once too often with {origin}", origin),
    )  # fmt: skip


def accepted_maps(folds: Folds, candidates: tuple[KnownMap, ...], *, sample_like: bool) -> list[Accepted]:
    """Known maps consistent with all the data, nearest slope first.

    Args:
        folds: sums by unit; the intervals are 95 % over units (influence, Student's t).
        candidates: maps to try.
        sample_like: which estimate a slope's distance is taken from.
    """
    slopes = [float(least_squares(folds).slope[-1, 0]), float(moment_matching(folds).slope[-1, 0])]
    reach = [_t95(folds.fold_of.size - 1) * error for error in _slope_errors(folds, slopes)]
    low = min(s - r for s, r in zip(slopes, reach, strict=True))
    high = max(s + r for s, r in zip(slopes, reach, strict=True))
    estimate = slopes[1] if sample_like else slopes[0]
    if estimate == 0.0:  # a constant prediction has no slope to recognise
        return []
    # Errors of the prediction that are as loud whatever it says lower both estimates; regression the other way round
    # is free of them (and raised by any other kind of error, so that it is believed only so far).
    reverse = slopes[1] * slopes[1] / slopes[0] if slopes[0] else slopes[1]
    reverse = min(abs(reverse), _REVERSE * abs(slopes[1]))
    low, high = (low, max(high, reverse)) if estimate > 0 else (min(low, -reverse), high)
    s = folds.stats
    m_p, m_y, s_y = (float(v[-1, 0]) for v in (s.m_p, s.m_y, np.sqrt(s.pooled_y)))
    out = []
    for known in candidates:
        if not low - _SLOPE_TOLERANCE * abs(known.slope) <= known.slope <= high + _SLOPE_TOLERANCE * abs(known.slope):
            continue
        off = m_y - known.slope * m_p - known.intercept
        allowed = max(_t95(folds.fold_of.size - 1) * _level_error(folds, known.slope), _INTERCEPT_TOLERANCE * s_y)
        fits = abs(off) <= allowed
        if fits or known.free_intercept:
            out.append(
                Accepted(
                    known,
                    known.intercept if fits else None,
                    abs(known.slope / estimate - 1.0),
                    abs(off) / s_y if fits else None,
                )
            )
    return sorted(out, key=lambda a: (a.intercept is None, a.slope_distance, a.intercept_distance or 0.0, a.known.id))


def _slope_errors(folds: Folds, slopes: list[float]) -> tuple[float, float]:
    """Standard errors of the pooled slopes of least squares and of matching, over units."""
    s, units = folds.stats, folds.data.sums
    dp, dy = float(s.m_p[-1, 0]) - folds.data.shift_p, float(s.m_y[-1, 0]) - folds.data.shift_y
    p, y, pp, yy, py, n = (units[:, row] for row in range(6))
    var_p = (pp - 2 * dp * p + dp * dp * n).sum(axis=1)
    var_y = (yy - 2 * dy * y + dy * dy * n).sum(axis=1)
    cov = (py - dp * y - dy * p + dp * dy * n).sum(axis=1)
    regression = divide(cov - slopes[0] * var_p, var_p.sum())
    matching = 0.5 * slopes[1] * (divide(var_y, var_y.sum()) - divide(var_p, var_p.sum()))
    count = units.shape[0]
    return tuple(float(np.sqrt(count / (count - 1) * np.square(e).sum())) for e in (regression, matching))  # type: ignore[return-value]


def _level_error(folds: Folds, slope: float) -> float:
    """Standard error of the intercept that meets the means, over units."""
    units, s = folds.data.sums, folds.stats
    c = s.m_y[-1, 0] - slope * s.m_p[-1, 0] + slope * folds.data.shift_p - folds.data.shift_y
    residual = (units[:, 1] - slope * units[:, 0] - c * units[:, 5]).sum(axis=1)
    count = units.shape[0]
    return float(np.sqrt(count / (count - 1) * np.square(residual).sum()) / folds.n_unit.sum())


def _t95(df: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.975))
