"""The domains that a vocoder may have been trained on: one recording's mel in each of them.

Units of the declared front end's own filterbank first (logarithm, power, fixed ranges, the data's statistics), then
changes of one field of it, then the catalogue's front ends of as many bins. What normalises with statistics that nobody
has here is normalised with those of the recordings.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.errors import CalibError
from calib.mel.frontend import FrontEnd
from calib.mel.variants import variants_of

__all__ = ["Domain", "domains"]


@dataclass(frozen=True)
class Domain:
    """One domain.

    Args:
        name: short.
        words: completes "the vocoder wants ...".
        frontend: makes its mels.
        flipped: whether the bins lie upside down.
        kind: ``units``, ``field`` or ``catalogue``.
    """

    name: str
    words: str
    frontend: FrontEnd
    flipped: bool = False
    kind: str = "units"

    def mel(self, samples: np.ndarray, rate: int) -> np.ndarray | None:
        """``(T, M)`` of audio ``(L,)`` at ``rate`` Hz; None where it is too short."""
        if rate != self.frontend.sample_rate:
            import soxr

            samples = np.asarray(soxr.resample(samples, rate, self.frontend.sample_rate), dtype=np.float32)
        try:
            made = self.frontend.mel(samples)
        except CalibError:
            return None
        return np.ascontiguousarray(made[:, ::-1]) if self.flipped else made


def domains(frontend: FrontEnd, recordings: Sequence[np.ndarray]) -> list[Domain]:
    """Every domain but the declared one, no two of which make the same mels.

    Args:
        frontend: the declared one, without audio preparation.
        recordings: at its rate, for the statistics of those that normalise.
    """
    found: dict[tuple[str, bool], Domain] = {(frontend.id, False): Domain("declared", "", frontend)}
    for domain in (*_units(frontend, recordings), *_fields(frontend), *_catalogue(frontend, recordings)):
        found.setdefault((domain.frontend.id, domain.flipped), domain)
    return list(found.values())[1:]


def _units(fe: FrontEnd, recordings: Sequence[np.ndarray]) -> Iterator[Domain]:
    """Maps of the same filterbank outputs."""
    plain = _plain(fe)
    eps = fe.log_eps if fe.log != "none" else 1e-5
    ln: dict[str, Any] = {"log": "ln", "log_multiplier": 1.0, "log_eps": eps}
    for name, words, fields in (
        ("ln", "plain ln", ln),
        ("log10", "log10", {**ln, "log": "log10"}),
        ("20log10", "dB (20 log10)", {**ln, "log": "log10", "log_multiplier": 20.0}),
        ("2ln", "twice the ln (of power taken after the bank)", {**ln, "log_multiplier": 2.0}),
        ("linear", "linear values, without the logarithm", {"log": "none"}),
        ("power", "ln of power", {**ln, "power": 2, "log_eps": eps**2 if fe.power == 1 else eps, "spectrum_eps": 0.0}),
        ("magnitude", "ln of magnitude", {**ln, "power": 1, "log_eps": eps**0.5 if fe.power == 2 else eps}),
        ("[-4,4]", "[-4, 4] at 100 dB (Coqui)", {**ln, "log": "log10", "log_multiplier": 20.0, "post_scale": 0.08, "post_offset": 2.4, "clip_min": -4.0, "clip_max": 4.0}),
        ("[0,1]", "[0, 1] at 100 dB", {**ln, "log": "log10", "log_multiplier": 20.0, "post_scale": 0.01, "post_offset": 0.8, "clip_min": 0.0, "clip_max": 1.0}),
        ("[-1,1]", "[-1, 1] from ln -11.5 to 2.3", {**ln, "post_scale": 0.144641776, "post_offset": 0.665249942}),
        ("own range", "each utterance in its own range [0, 1]", {**ln, "utterance_norm": "minmax"}),
        ("int16", "samples in [-32768, 32767]", {**ln, "post_offset": math.log(32768.0) * fe.power}),
    ):  # fmt: skip
        changed = _changed(plain, fields)
        if changed is not None:
            yield Domain(name, words, changed)
    yield from _normalised(plain, recordings, "normalised", kind="units")
    yield Domain("upside down", "the bins from high to low", fe, flipped=True)


def _fields(fe: FrontEnd) -> Iterator[Domain]:
    """One field changed, as faults of front ends change it."""
    for variant in variants_of(fe):
        if variant.key.partition(":")[0] not in {"log-power", "half-hop"}:
            yield Domain(variant.key, variant.label, variant.frontend, kind="field")


def _catalogue(fe: FrontEnd, recordings: Sequence[np.ndarray]) -> Iterator[Domain]:
    """Named front ends of as many bins."""
    from calib.mel.catalogue import catalogue

    seen: dict[str, Any] = {entry.id: entry for entry in catalogue().values()}
    for entry in seen.values():
        own = entry.frontend
        if own.n_mels != fe.n_mels:
            continue
        flat = dataclasses.replace(own, trim_top_db=None)
        if entry.statistics == "standard":
            yield from _normalised(flat, _at(recordings, fe.sample_rate, own.sample_rate), entry.id, kind="catalogue", by_bin=True)  # fmt: skip
        yield Domain(entry.id, f"{entry.id} mels", flat, kind="catalogue")


def _normalised(
    base: FrontEnd, recordings: Sequence[np.ndarray], name: str, *, kind: str, by_bin: bool = False
) -> Iterator[Domain]:
    """Mean 0 and sd 1 by the recordings' own statistics: one for all bins (unless ``by_bin``), and one for each."""
    mels = [base.mel(x) for x in recordings]
    if not mels:
        return
    everything = np.concatenate(mels).astype(np.float64)
    mean, sd = float(everything.mean()), float(everything.std())
    bins = base.n_mels
    called = f"{name} mels, " if kind == "catalogue" else ""
    if sd > 0 and not by_bin:
        one = dataclasses.replace(base, post_mean=(mean,) * bins, post_std=(sd,) * bins)
        yield Domain(name, f"{called}normalised to mean 0 and sd 1", one, kind=kind)
    deviations = everything.std(0)
    if (deviations > 0).all():
        each = dataclasses.replace(base, post_mean=tuple(everything.mean(0)), post_std=tuple(deviations))
        yield Domain(f"{name} by bin", f"{called}normalised to mean 0 and sd 1 in each bin", each, kind=kind)


def _plain(fe: FrontEnd) -> FrontEnd:
    """Without anything after the logarithm."""
    return dataclasses.replace(
        fe,
        post_scale=1.0,
        post_offset=0.0,
        post_mean=None,
        post_std=None,
        utterance_norm=None,
        clip_min=None,
        clip_max=None,
    )


def _changed(fe: FrontEnd, fields: dict[str, Any]) -> FrontEnd | None:
    try:
        return dataclasses.replace(fe, **fields)
    except CalibError:
        return None


def _at(recordings: Sequence[np.ndarray], rate: int, wanted: int) -> list[np.ndarray]:
    if rate == wanted:
        return list(recordings)
    import soxr

    return [np.asarray(soxr.resample(x, rate, wanted), dtype=np.float32) for x in recordings]
