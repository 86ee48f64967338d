"""Which catalogued front ends the data allow: each plausible one is computed and compared, none is told by its looks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.mel.catalogue import CatalogueEntry, entries
from calib.mel.frontend import FrontEnd
from calib.mel.identify.budget import Budget
from calib.mel.identify.placing import Placed
from calib.mel.identify.rebuild import Proof, computed, prove
from calib.mel.identify.results import NamedMatch
from calib.mel.identify.scene import paired_t
from calib.mel.identify.spectra import Bench, Core

__all__ = ["Naming", "distance", "name", "speaks_against"]

_PLAIN = "as it is"
_ROUNDING = 4e-4  # ln; what float32 STFTs of different libraries differ by away from floors


@dataclass(frozen=True)
class Naming:
    """What became of the catalogue.

    Args:
        names: consistent entries.
        family: entries whose filterbank outputs are those of the mel.
        tried: every entry that was computed.
        best: the front end of the best consistent entry, with statistics where it needs them.
        proof: of that one.
        untried: entries that there was no time to compute.
    """

    names: tuple[str, ...]
    family: tuple[str, ...]
    tried: tuple[NamedMatch, ...]
    best: FrontEnd | None
    proof: Proof | None
    untried: tuple[str, ...] = ()


def plausible(core: Core, bins: int, noise: float) -> list[CatalogueEntry]:
    """Entries that are worth computing: same bins, same time between frames, a bank and window near the found ones."""
    out = []
    loose = 0.06 + min(noise, 0.2)
    for entry in entries():
        fe = entry.frontend
        seconds, found = fe.hop_length / fe.sample_rate, core.hop / core.rate
        ratio = fe.sample_rate / fe.fb_sample_rate
        top, mine = fe.fmax * ratio, core.fmax * core.ratio
        if fe.n_mels != bins or abs(seconds / found - 1.0) > 2e-4:
            continue
        if abs(top / mine - 1.0) > loose or abs(fe.fmin * ratio - core.fmin * core.ratio) > 25.0:
            continue
        window = fe.win_length / fe.sample_rate / (core.width / core.rate)
        if not 1 / (1.35 + noise) < window < 1.35 + noise:
            continue
        out.append(entry)
    return out


def name(core: Core, placed: Placed, reference: Proof | None, slope: np.ndarray, noise: float, budget: Budget | None = None) -> Naming:  # fmt: skip
    """Compute the plausible entries and keep those that nothing speaks against.

    Args:
        core: the analysis that was found.
        placed: the clips.
        reference: of the rebuilt front end; what the entries are measured against.
        slope: mel units per ln by bin.
        noise: mean absolute residual of the best analysis, in ln units.
        budget: entries are computed, in the catalogue's order, only while there is time.
    """
    bins = placed.y[0].shape[1]
    candidates = plausible(core, bins, noise)
    benches = [Bench(c.samples, placed.rate, np.arange(1), bins) for c in placed.clips]
    groups: dict[str, list[CatalogueEntry]] = {}
    for entry in candidates:
        groups.setdefault(f"{entry.frontend.id} {entry.statistics}", []).append(entry)
    rows: list[tuple[list[CatalogueEntry], FrontEnd, Proof, str]] = []
    untried: list[str] = []
    for group in groups.values():
        if untried or (budget is not None and budget.spent()):
            untried += [entry.id for entry in group]
            continue
        fe, statistics = group[0].frontend, group[0].statistics
        samples = [b.resampled(fe.sample_rate) for b in benches]
        mels = computed(fe, samples)
        if mels is None:
            continue
        options: list[tuple[FrontEnd, list[np.ndarray] | None, str]] = [(fe, mels, _PLAIN)]
        if statistics is not None:
            fitted = with_fitted_statistics(fe, mels, placed, statistics)
            if fitted is not None:
                options.append((fitted, None, f"with statistics by bin ({statistics}) fitted"))
        for option, known, words in options:
            proof = prove(option, placed, samples, slope, mels=known)
            if proof is not None:
                rows.append((group, option, proof, words))
    if not rows:
        return Naming((), (), (), None, None, tuple(untried))
    reference_rows = [proof for _, _, proof, _ in rows] + ([reference] if reference is not None else [])
    best = min(reference_rows, key=_robust)
    tried, names = [], []
    winner: tuple[FrontEnd, Proof, str] | None = None
    judged: dict[str, NamedMatch] = {}
    for group, fe, proof, words in sorted(rows, key=lambda row: _robust(row[2])):
        against = speaks_against(proof, best)
        if not against and (winner is None or (words == _PLAIN and winner[2] != _PLAIN)):
            winner = (fe, proof, words)
        for entry in group:
            match = NamedMatch(entry.id, not against, proof.decibels, against or words)
            if entry.id not in judged or _rank(match) > _rank(judged[entry.id]):
                judged[entry.id] = match
    # A mel that an entry gives as it is was not normalised besides: fitted statistics would all be those of one line.
    if any(m.consistent and m.words == _PLAIN for m in judged.values()):
        needless = [m for m in judged.values() if m.consistent and m.words != _PLAIN]
        judged |= {m.name: dataclasses.replace(m, consistent=False, words=f"{m.words} only, which are the same in all bins") for m in needless}  # fmt: skip
    tried = sorted(judged.values(), key=lambda m: (not m.consistent, m.error_db))
    order = {entry.id: k for k, entry in enumerate(entries())}
    names = sorted((m.name for m in tried if m.consistent), key=order.__getitem__)
    return Naming(tuple(names), (), tuple(tried), winner[0] if winner else None, winner[1] if winner else None, tuple(untried))  # fmt: skip


def _rank(match: NamedMatch) -> tuple[bool, bool]:
    return match.consistent, match.words == _PLAIN


def _robust(proof: Proof) -> float:
    return float(np.mean(np.minimum(np.abs(proof.difference), 0.5)))


def speaks_against(proof: Proof, best: Proof) -> str:
    """Why a front end cannot be the one, next to the best; empty where nothing speaks against it.

    Besides more error on the whole there must be no cells that the best one explains and this one does not: guards and
    paddings touch few cells.
    """
    if proof is best:
        return ""
    if proof.lengths != best.lengths and min(map(abs, best.lengths)) == 0 and max(map(abs, proof.lengths)) > 0:
        more = proof.lengths[0]
        return f"it gives {abs(more)} frame{'s' * (abs(more) != 1)} {'fewer' if more > 0 else 'more'} than the mel has"
    count = min(len(proof.difference), len(best.difference))
    mine, other = np.abs(proof.difference[:count]), np.abs(best.difference[:count])
    tolerance = max(_ROUNDING, 4.0 * float(np.quantile(other, 0.999)))
    cells = mine > other + tolerance
    if cells.sum() > max(2, 5e-5 * cells.size):
        edge = proof.edges[:count]
        where = (
            "all at the ends of the clip"
            if not cells[~edge].any()
            else f"up to {float((mine - other).max()) * 8.686:.2f} dB"
        )
        return f"{int(cells.sum())} cells are wrong that a better one explains, {where}"
    if paired_t(mine, np.maximum(other, 1e-7)) > 4.0 and float(mine.mean()) > 1.02 * float(other.mean()) + 2e-5:
        return f"its mean error is {float(mine.mean()) * 8.686:.3f} dB where {float(other.mean()) * 8.686:.3f} dB is possible"
    return ""


def with_fitted_statistics(
    fe: FrontEnd, mels: Sequence[np.ndarray], placed: Placed, statistics: str
) -> FrontEnd | None:
    """An entry followed by the statistics by bin that fit best."""
    xs, ys = [], []
    for y, x, n in zip(placed.stored, mels, placed.traits.constant_ends, strict=True):
        count = min(len(y) - n, len(x))
        xs.append(x[:count].astype(np.float64))
        ys.append(np.asarray(y[:count], np.float64))
    x, y = np.concatenate(xs), np.concatenate(ys)
    if statistics == "divide":
        std = (x * x).sum(0) / np.where(np.abs((x * y).sum(0)) > 1e-12, (x * y).sum(0), 1e-12)
        rest = np.abs(y - x / std)
        for _ in range(2):
            w = 1.0 / (rest + 3.0 * np.median(rest) + 1e-9)
            std = (w * x * x).sum(0) / np.where(np.abs((w * x * y).sum(0)) > 1e-12, (w * x * y).sum(0), 1e-12)
            rest = np.abs(y - x / std)
        return dataclasses.replace(fe, post_std=tuple(std)) if np.all(np.abs(std) > 1e-9) else None
    w = np.ones_like(x)
    for _ in range(3):
        total = w.sum(0)
        mx, my = (w * x).sum(0) / total, (w * y).sum(0) / total
        variance = (w * (x - mx) ** 2).sum(0)
        a = np.where(variance > 1e-12, (w * (x - mx) * (y - my)).sum(0) / np.maximum(variance, 1e-12), 1e-9)
        rest = np.abs(y - my - a * (x - mx))
        w = 1.0 / (rest + 3.0 * np.median(rest) + 1e-9)
    if not np.all(np.abs(a) > 1e-9):
        return None
    return dataclasses.replace(fe, post_mean=tuple(mx - my / a), post_std=tuple(1.0 / a))


def distance(a: FrontEnd, b: FrontEnd) -> float:
    """A rough order of how much two front ends differ to the ear of a vocoder: bank and time first, guards last."""
    weights = {
        "n_mels": 6.0, "mel_scale": 3.0, "power": 3.0, "window": 1.0, "filter_norm": 1.0, "padding": 1.5, "log": 1.0, "preemphasis": 1.5, "utterance_norm": 2.0,
        "log_guard": 0.3, "pad_mode": 0.2, "window_periodic": 0.2, "log_eps": 0.2, "spectrum_eps": 0.1, "post_scale": 0.5, "post_offset": 0.5,
        "post_mean": 0.5, "post_std": 0.5, "log_multiplier": 0.3, "n_fft": 0.5,
    }  # fmt: skip
    total = sum(weights.get(key, 0.1) for key in a.differences(b) if key not in {"sample_rate", "fmin", "fmax", "hop_length", "win_length", "fb_sample_rate"})  # fmt: skip
    for value, other in ((a.hop_length / a.sample_rate, b.hop_length / b.sample_rate), (a.win_length / a.sample_rate, b.win_length / b.sample_rate), (a.fmax * a.sample_rate / a.fb_sample_rate, b.fmax * b.sample_rate / b.fb_sample_rate), (float(a.sample_rate), float(b.sample_rate))):  # fmt: skip
        total += min(4.0, 8.0 * abs(float(np.log(value / other))))
    return total + min(2.0, abs(a.fmin - b.fmin) / 40.0)
