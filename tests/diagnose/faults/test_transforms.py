"""Forms: what a fault would have made of the target, or what undoing it makes of the prediction."""

from __future__ import annotations

import numpy as np
import pytest
from speechlike import mel_field, prediction

from calib.diagnose.faults.geometry import BankGeometry, Warp
from calib.diagnose.faults.sample import Sample
from calib.diagnose.faults.transforms import Form, blurred, frequency_forms, value_forms, warped

TARGETS = [mel_field(200 + 7 * k, k) for k in range(4)]
GEOMETRY = BankGeometry(80, declared=True, warps=())


def sample(change: object = None, targets: list[np.ndarray] = TARGETS) -> Sample:
    pairs = [(prediction(y, 0.9, k), y) for k, y in enumerate(targets)]
    return Sample([(p, y) if change is None else change(p, y) for p, y in pairs])  # type: ignore[operator]


def forms(of: Sample, fault: str, geometry: BankGeometry = GEOMETRY) -> list[Form]:
    return [form for form in value_forms(of, geometry) if form.faults == (fault,)]


def test_a_raised_floor_is_the_target_cut_from_below_at_a_level_that_is_named() -> None:
    of = sample()
    found = forms(of, "raised-floor")
    assert len(found) >= 5
    for form in found:
        assert form.edge is not None
        level, side = form.edge
        assert side == -1
        assert form.y is not None
        np.testing.assert_array_equal(form.y, np.maximum(of.y, np.float32(level)))
        share = float((of.y <= np.float32(level)).mean())
        assert f"{level:.2f}" in form.label
        assert float(form.label.split("(")[1].split("%")[0]) / 100 == pytest.approx(share, abs=0.02)


def test_a_ceiling_is_the_target_cut_from_above() -> None:
    of = sample()
    for form in forms(of, "clipped"):
        assert form.edge is not None
        assert form.edge[1] == 1
        assert form.y is not None
        np.testing.assert_array_equal(form.y, np.minimum(of.y, np.float32(form.edge[0])))


def test_a_target_that_is_cut_itself_is_told_by_its_point_mass() -> None:
    cut = sample(lambda p, y: (p, np.maximum(y, -7.0)))
    (form,) = (f for f in forms(cut, "raised-floor") if f.p is not None)
    assert form.label.startswith("the target is cut at -7.00")
    np.testing.assert_array_equal(form.p, np.maximum(cut.p, np.float32(-7.0)))
    assert all(f.p is None for f in forms(sample(), "raised-floor"))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("side", ["prediction", "target"])
def test_a_missing_logarithm_is_taken(power: int, side: str) -> None:
    straight = sample()

    def linear(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (np.exp(power * p), y) if side == "prediction" else (p, np.exp(power * y))

    found = forms(sample(linear), "log-missing")
    wanted = straight.p if side == "prediction" else straight.y
    got = [form.p if side == "prediction" else form.y for form in found]
    assert any(g is not None and np.allclose(g, np.maximum(wanted, np.log(1e-5)), atol=1e-3) for g in got)
    assert forms(straight, "log-missing") == []  # negative values are no magnitudes


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (-4.0, 4.0), (0.0, 4.0)])
def test_each_utterance_s_own_range_is_undone(low: float, high: float) -> None:
    """Of the true mel exactly; a prediction that reaches both ends exactly in every utterance costs less than chance."""
    straight = sample()

    def ranged(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (p - y.min()) / (y.max() - y.min()) * (high - low) + low, y

    def own(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (p - p.min()) / (p.max() - p.min()) * (high - low) + low, y

    label = f"[{low:g}, {high:g}]"
    (by_truth,) = (f for f in forms(sample(ranged), "minmax-per-utterance") if f.label.startswith(label))
    np.testing.assert_allclose(by_truth.p, straight.p, atol=1e-4)
    (by_own,) = (f for f in forms(sample(own), "minmax-per-utterance") if f.label.startswith(label))
    assert by_own.prior < by_truth.prior
    assert by_own.p is not None
    for part, y in zip(straight.cut(by_own.p), TARGETS, strict=True):
        assert (part.min(), part.max()) == pytest.approx((float(y.min()), float(y.max())), abs=1e-4)
    assert forms(Sample(straight.pairs()[:1]), "minmax-per-utterance") == []  # one utterance has one range


def test_power_with_a_floor_is_the_target_s_power_cut_at_a_guard() -> None:
    of = sample()
    for form in forms(of, "power-floor"):
        eps = float(form.label.rsplit(" ", 1)[1])
        np.testing.assert_allclose(form.y, np.maximum(2.007 * of.y + 3.38, np.log(eps)), atol=1e-4)
    assert forms(of, "power-floor", BankGeometry(80, declared=True, warps=(), logarithmic=False)) == []


def test_a_bank_that_is_the_target_s_own_only_blurs() -> None:
    """A warp to where the bins are is what every warp is compared with."""
    y = sample().y
    own = Warp(("fmax",), "itself", np.arange(80.0))
    np.testing.assert_array_equal(warped(y, own), blurred(y))
    shifted = Warp(("fmax",), "two bins up", np.arange(80.0) + 2.0, offset=np.full(80, 0.5))
    np.testing.assert_allclose(warped(y, shifted)[:, :77], blurred(y)[:, 2:79] + 0.5, atol=1e-5)


def test_templates_and_banks_come_from_the_declared_front_end_only() -> None:
    of = sample()
    assert list(frequency_forms(of, GEOMETRY, 1.0)) == []
    area, curve = np.linspace(-3.6, -5.7, 80), np.linspace(-1.0, 0.5, 80)
    warp = Warp(("mel-scale",), "htk mel scale", np.arange(80.0) + 1.0)
    declared = BankGeometry(80, declared=True, warps=(warp,), area=area, emphasis=((0.97, curve),))
    found = {form.faults: form for form in frequency_forms(of, declared, 1.0)}
    assert set(found) == {("mel-scale",), ("area-norm",), ("pre-emphasis",)}
    np.testing.assert_allclose(found["area-norm",].y, of.y + area, atol=1e-5)
    np.testing.assert_allclose(found["pre-emphasis",].y, of.y + curve, atol=1e-5)
    assert found["mel-scale",].read


def test_a_drift_by_a_ratio_of_sample_rates_brings_that_rate_s_bank() -> None:
    """Only where the drift is one that a pair of usual rates makes, and the bins' frequencies are known."""
    of = sample()
    known = BankGeometry(80, declared=True, warps=(), centres=np.linspace(40.0, 7900.0, 80))
    (form,) = frequency_forms(of, known, 22050 / 24000)
    assert form.faults == ("sample-rate",)
    assert form.ignore is not None
    assert form.ignore[-1]  # what would lie above the bank says nothing
    assert not form.ignore[:70].any()
    assert list(frequency_forms(of, known, 0.975)) == []


def test_bins_that_hear_beyond_the_target_s_last_say_nothing(geometry: BankGeometry) -> None:
    """A bank that reaches to 11,025 Hz against one to 8,000 Hz: its last bins have no counterpart."""
    y = np.random.default_rng(0).standard_normal((50, 80)).astype(np.float32)
    forms = {form.label: form for form in frequency_forms(Sample([(y, y)]), geometry, 1.0) if form.faults == ("fmax",)}
    higher, lower = forms["fmax 11025 Hz"], forms["fmax 6000 Hz"]
    assert higher.ignore is not None
    assert higher.ignore[-1]
    assert not higher.ignore[:60].any()
    assert lower.ignore is None
