"""How good a prediction is, from the sums in `Moments`: scores, their decompositions, and what trivial predictors score.

Conventions:
    MSE and variances are in the squared unit of the target mel, RMSE in its unit, correlations and ratios without one.
    *Pooled* figures treat every (frame, bin) value alike; *within-bin* ones remove each bin's own mean first.
    A figure that the data do not define raises `UncomputableError` with the reason; none is ever 0 instead.

Metrics:
    `METRICS` lists every scalar with its title, unit, direction and source. `scalars` gives those that follow from the
    moments; `log_spectral_distance` and `mel_cepstral_distortion` need the arrays.

Mel distances in dB:
    An ln amplitude times 20/ln 10, an ln power times 10/ln 10, is dB. ``LSD_t = sqrt(mean_k d_tk^2)`` of the differences
    d in dB. ``mel-MCD_t = 10 sqrt(2) / ln 10 * sqrt(sum_m dc_tm^2)``, m = 1..13, of cepstra c of ln *amplitude*:
    orthonormal DCT-II over K bins, times sqrt(2/K); half of it for ln power. With all m its square and that of the mean
    difference sum to LSD_t^2. It is no MCD of mel-generalised cepstra (SPTK, WORLD): never compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from calib.diagnose.calibrators.fits import SetStats
from calib.diagnose.intervals import Jackknife
from calib.diagnose.moments import Moments

__all__ = [
    "DB_PER_UNIT",
    "METRICS",
    "GlobalVariance",
    "Metric",
    "MincerZarnowitz",
    "Murphy",
    "NullErrors",
    "TaylorPoint",
    "UncomputableError",
    "concordance",
    "decibels",
    "global_variance",
    "log_spectral_distance",
    "mel_cepstral_distortion",
    "mincer_zarnowitz",
    "murphy",
    "null_errors",
    "scalars",
    "skill",
    "squared_errors",
    "taylor",
]


class UncomputableError(ValueError):
    """The data do not define the figure; the text says why."""


@dataclass(frozen=True)
class Metric:
    """A line of the table of metrics.

    Args:
        name: key.
        title: for people.
        unit: ``1`` without one, ``target`` or ``target^2`` of the target mel, ``dB``, ``nat``.
        better: ``lower``, ``higher``, or the value that is best (``0``, ``1``).
        source: where it was defined.
    """

    name: str
    title: str
    unit: str
    better: str
    source: str


_MURPHY = "Murphy, Mon. Weather Rev. 116 (1988) 2417"
_TAYLOR = "Taylor, J. Geophys. Res. 106 (2001) 7183"
_LIN = "Lin, Biometrics 45 (1989) 255"
_MZ = "Mincer and Zarnowitz, in Economic Forecasts and Expectations, NBER (1969)"
_TODA = "Toda and Tokuda, IEICE Trans. E90-D (2007) 816"
_GRAY = "Gray and Markel, IEEE Trans. ASSP 24 (1976) 380"
_KUBICHEK = "Kubichek, IEEE PacRim (1993) 125, on mel bins instead of mel cepstra"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("mse", "mean squared error", "target^2", "lower", _MURPHY),
        Metric("murphy_bias_pooled", "unconditional bias, pooled", "target^2", "lower", _MURPHY),
        Metric("murphy_conditional_pooled", "conditional bias, pooled", "target^2", "lower", _MURPHY),
        Metric("murphy_irreducible_pooled", "irreducible, pooled", "target^2", "lower", _MURPHY),
        Metric("murphy_bias_bins", "unconditional bias, mean over bins", "target^2", "lower", _MURPHY),
        Metric("murphy_conditional_bins", "conditional bias, mean over bins", "target^2", "lower", _MURPHY),
        Metric("murphy_irreducible_bins", "irreducible, mean over bins", "target^2", "lower", _MURPHY),
        Metric("murphy_bias_within", "bias of the bins' means", "target^2", "lower", _MURPHY),
        Metric("murphy_conditional_within", "conditional bias within bins", "target^2", "lower", _MURPHY),
        Metric("murphy_irreducible_within", "irreducible within bins", "target^2", "lower", _MURPHY),
        Metric("skill_global_mean", "skill against the global mean", "1", "higher", _MURPHY),
        Metric("skill_bin_mean", "skill against the per-bin mean", "1", "higher", _MURPHY),
        Metric("taylor_sd_ratio_pooled", "sd of prediction over target, pooled", "1", "1", _TAYLOR),
        Metric("taylor_r_pooled", "correlation, pooled", "1", "higher", _TAYLOR),
        Metric("taylor_centred_rmse_pooled", "RMSE without the means, pooled", "target", "lower", _TAYLOR),
        Metric("taylor_sd_ratio_within", "sd of prediction over target, within bins", "1", "1", _TAYLOR),
        Metric("taylor_r_within", "correlation within bins", "1", "higher", _TAYLOR),
        Metric("taylor_centred_rmse_within", "RMSE without the bins' means", "target", "lower", _TAYLOR),
        Metric("concordance_pooled", "concordance correlation, pooled", "1", "higher", _LIN),
        Metric("concordance_within", "concordance correlation, within bins", "1", "higher", _LIN),
        Metric("mincer_zarnowitz_slope", "slope of target on prediction", "1", "1", _MZ),
        Metric("mincer_zarnowitz_intercept", "intercept of target on prediction", "target", "0", _MZ),
        Metric("mincer_zarnowitz_p", "p-value of slope 1 and intercept 0", "1", "higher", _MZ),
        Metric("global_variance", "log variance ratio, mean over bins", "nat", "0", _TODA),
        Metric("lsd", "log-spectral distance", "dB", "lower", _GRAY),
        Metric("mel_mcd", "mel-MCD", "dB", "lower", _KUBICHEK),
    )
}


# --- Mincer-Zarnowitz -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MincerZarnowitz:
    """The regression of target on prediction and the joint test of slope 1 and intercept 0.

    Args:
        intercept: in the unit of the target.
        slope: target units a prediction unit.
        covariance: of (intercept, slope), ``(2, 2)``, clustered by unit.
        statistic: of the Wald test, to be compared with F(2, ``degrees``).
        degrees: denominator degrees of freedom.
        p_value: chance of such a statistic under a perfect calibration.
    """

    intercept: float
    slope: float
    covariance: np.ndarray
    statistic: float
    degrees: float
    p_value: float


def mincer_zarnowitz(moments: Moments, blocks: Moments | None = None) -> MincerZarnowitz:
    """Regress target on prediction; covariance CR3, Wald test with Hotelling's small-sample factor.

    With X = (1, p), A = sum of X'X and the score of a unit ``g_u = X_u' e_u = (sum e, sum p e)`` over its frames and
    bins, leaving unit u out moves the coefficients by ``-(A - A_u)^-1 g_u`` exactly; the covariance is (G-1)/G times the
    sum of the outer products of these moves. The statistic is ``(G*-2) / (2 (G*-1)) * d' V^-1 d``, d the distance from
    (0, 1), against F(2, G*-2), where G* is the effective number of units (`intervals`): the textbook's F(2, G-1) rejects a
    true null of 5 utterances in more than 10 % of the cases, this in 1 to 5 % (``benchmarks/coverage.py``).

    Args:
        moments: all data.
        blocks: as for `Jackknife`.

    Raises:
        UncomputableError: a constant prediction, or not more than two effective units.

    References:
        J. Mincer and V. Zarnowitz, "The evaluation of economic forecasts", NBER (1969). Bell and McCaffrey (2002), CR3.
        H. Hotelling, Ann. Math. Stat. 2 (1931) 360.
    """
    from scipy.special import fdtrc

    try:
        jackknife = Jackknife(moments, blocks)
    except ValueError as error:
        raise UncomputableError(str(error)) from None
    spare = jackknife.effective_units - 2.0
    if spare <= 0.0:
        raise UncomputableError(
            f"{jackknife.effective_units:.1f} effective units: the joint test of two coefficients needs more than two"
        )
    level = float(moments.summary().m_p)  # the line at its middle: nothing cancels, and the test is the same
    found = jackknife.of(lambda s: _line(s, level))
    estimate = np.array([value for value, _ in found.values()])
    left_out = np.stack([values for _, values in found.values()], axis=1)
    if not (np.isfinite(estimate).all() and np.isfinite(left_out).all()):
        raise UncomputableError("the prediction is one constant, with or without one of the units: no line is defined")
    v = jackknife.covariance(estimate, left_out)
    distance = estimate - (level, 1.0)
    if np.linalg.matrix_rank(v, hermitian=True) < 2:
        raise UncomputableError("the coefficients do not differ between units: their covariance is singular")
    statistic = float(distance @ np.linalg.solve(v, distance)) * spare / (2.0 * (spare + 1.0))
    to_zero = np.array([[1.0, -level], [0.0, 1.0]])
    return MincerZarnowitz(
        intercept=float(estimate[0] - level * estimate[1]),
        slope=float(estimate[1]),
        covariance=to_zero @ v @ to_zero.T,
        statistic=statistic,
        degrees=spare,
        p_value=float(fdtrc(2.0, spare, statistic)),
    )


def _line(s: SetStats, level: float) -> dict[str, np.ndarray]:
    """Height of the least-squares line at ``level``, and its slope; NaN where the prediction is one constant."""
    var = s.pooled_p[:, 0]
    slope = np.divide(s.pooled_py[:, 0], var, out=np.full_like(var, np.nan), where=var > 1e-24 * s.m_p[:, 0] ** 2)
    return {"height": s.m_y[:, 0] + slope * (level - s.m_p[:, 0]), "slope": slope}


# --- decompositions and scores ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Murphy:
    """Three terms that sum to the MSE; in the squared unit of the target.

    Args:
        bias: unconditional: what an offset removes.
        conditional: what a scale removes beyond that.
        irreducible: what no affine map removes.
    """

    bias: float
    conditional: float
    irreducible: float

    @property
    def mse(self) -> float:
        """Their sum."""
        return self.bias + self.conditional + self.irreducible


def murphy(moments: Moments) -> dict[str, Murphy]:
    """MSE = (m_p - m_y)² + (s_p - r s_y)² + (1 - r²) s_y², in three ways whose sums are the same MSE.

    Returns:
        ``pooled``: one map for all values. ``bins``: terms of each bin, averaged: a map for each bin. ``within``: an
        offset for each bin, one scale for all.
    """
    s, bins = moments.summary(), moments.per_bin()
    gap = (bins["mean_p"] - bins["mean_y"]) ** 2
    sd_p, sd_y, r = bins["sd_p"], bins["sd_y"], bins["r"]

    def terms(bias: np.ndarray, sd_p: np.ndarray, sd_y: np.ndarray, r: np.ndarray) -> Murphy:
        return Murphy(*(float(np.mean(t)) for t in (bias, (sd_p - r * sd_y) ** 2, (1.0 - r**2) * sd_y**2)))

    return {
        "pooled": terms((s.m_p - s.m_y) ** 2, s.s_p, s.s_y, s.r),
        "bins": terms(gap, sd_p, sd_y, r),
        "within": terms(gap, s.s_w_p, s.s_w_y, s.r_w),
    }


def skill(score: float, reference: float) -> float:
    """1 - S / S_ref: 1 perfect, 0 as good as the reference, negative worse.

    Args:
        score: an error, such as the MSE.
        reference: that of the reference predictor, scored on the same data, fitted on other.

    Raises:
        UncomputableError: the reference makes no error.
    """
    if not reference > 0.0:
        raise UncomputableError(f"the reference scores {reference:g}: no skill against it is defined")
    return 1.0 - score / reference


@dataclass(frozen=True)
class TaylorPoint:
    """A point of Taylor's diagram: ``centred_rmse² = s_p² + s_y² - 2 r s_p s_y``.

    Args:
        sd_ratio: s_p / s_y.
        r: correlation.
        centred_rmse: RMSE after the means are removed, in the unit of the target.
    """

    sd_ratio: float
    r: float
    centred_rmse: float


def taylor(moments: Moments) -> dict[str, TaylorPoint]:
    """``pooled`` and ``within`` bins.

    Raises:
        UncomputableError: prediction or target does not vary: no correlation is defined.
    """
    s = moments.summary()
    out = {}
    for name, p, y, r in (("pooled", s.s_p, s.s_y, s.r), ("within", s.s_w_p, s.s_w_y, s.r_w)):
        _need(s.m_p, p, f"the prediction does not vary ({name})")
        _need(s.m_y, y, f"the target does not vary ({name})")
        out[name] = TaylorPoint(float(p / y), float(r), float(np.sqrt(max(p**2 + y**2 - 2.0 * r * p * y, 0.0))))
    return out


def _need(mean: np.ndarray, sd: np.ndarray, why: str) -> None:
    if not float(sd) > 1e-12 * abs(float(mean)):
        raise UncomputableError(f"{why}: no correlation is defined")


def concordance(moments: Moments) -> dict[str, float]:
    """Lin's coefficient, 1 - MSE / (MSE if prediction and target were independent).

    ``pooled``: 2 r s_p s_y / (s_p² + s_y² + (m_p - m_y)²). ``within``: independent within each bin, so that knowing the
    mean spectrum earns nothing: 2 r_w s_w_p s_w_y / (s_w_p² + s_w_y² + mean_k (m_pk - m_yk)²). A constant scores 0.

    Raises:
        UncomputableError: prediction and target are the same constant.
    """
    s, bins = moments.summary(), moments.per_bin()
    gap = float(((bins["mean_p"] - bins["mean_y"]) ** 2).mean())
    out = {}
    for name, p, y, r, bias in (
        ("pooled", s.s_p, s.s_y, s.r, float((s.m_p - s.m_y) ** 2)),
        ("within", s.s_w_p, s.s_w_y, s.r_w, gap),
    ):
        independent = float(p**2 + y**2) + bias
        if not independent > 0.0:
            raise UncomputableError(f"prediction and target are the same constant ({name}): nothing can agree or not")
        out[name] = float(2.0 * r * p * y) / independent
    return out


@dataclass(frozen=True)
class GlobalVariance:
    """ln of the variance of the prediction over that of the target, in nats; 0 as lively, below 0 over-smooth.

    Args:
        corpus: variances over all frames, mean over bins.
        utterances: variances within each utterance, mean over its bins, ``(U,)``; NaN where no bin is left.
        left_out: bins in which prediction or target stands still over all frames: ln is not defined.
    """

    corpus: float
    utterances: np.ndarray
    left_out: int


def global_variance(moments: Moments, slope: np.ndarray | float = 1.0) -> GlobalVariance:
    """GV = mean_k ln(v_p,k / v_y,k).

    Args:
        moments: one unit an utterance.
        slope: of a map whose effect is to be seen, a number or ``(M,)``; an offset changes no variance.

    Raises:
        UncomputableError: no bin moves in both, or the slope is 0.

    References:
        Toda and Tokuda (2007).
    """
    scale = np.broadcast_to(np.asarray(slope, dtype=np.float64), (moments.n_mels,)) ** 2
    if not (scale > 0).all():
        raise UncomputableError("a slope of 0 leaves no variance")
    gain = np.log(scale)
    corpus, moving = _log_ratio(moments.sums.sum(axis=0), moments.n.sum(), moments)
    if not moving.any():
        raise UncomputableError("no bin moves in both prediction and target: no variance ratio is defined")
    single, alive = _log_ratio(moments.sums.swapaxes(0, 1), moments.n[:, None], moments)
    count = alive.sum(axis=1)
    total = np.where(alive, single + gain, 0.0).sum(axis=1)
    return GlobalVariance(
        float((corpus + gain)[moving].mean()),
        np.divide(total, count, out=np.full(len(moments), np.nan), where=count > 0),
        int((~moving).sum()),
    )


def _log_ratio(sums: np.ndarray, n: np.ndarray, moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Log of the variance ratio by bin, from sums ``(5, ..., M)`` of n frames, and where both are more than rounding."""
    variances, good = [], True
    for first, second, shift in ((0, 2, moments.shift_p), (1, 3, moments.shift_y)):
        mean, square = sums[first] / n, sums[second] / n
        variances.append(square - mean**2)
        good = good & (variances[-1] > 1e-12 * square + 1e-20 * (shift + mean) ** 2)
    p, y = (np.where(good, v, 1.0) for v in variances)
    return np.log(p / y), np.asarray(good)


# --- null predictors --------------------------------------------------------------------------------------------------


def squared_errors(
    moments: Moments, slope: np.ndarray | float = 1.0, intercept: np.ndarray | float = 0.0
) -> np.ndarray:
    """MSE of each unit under ``target = slope * prediction + intercept``, ``(U,)``, in closed form.

    Args:
        moments: of the units.
        slope: a number, ``(M,)`` by bin, or ``(U, M)`` by unit and bin. 0 makes the intercept a constant predictor.
        intercept: the same.
    """
    slope, intercept = np.asarray(slope, dtype=np.float64), np.asarray(intercept, dtype=np.float64)
    p, y, pp, yy, py = (moments.sums[:, row] for row in range(5))
    n = moments.n[:, None]
    level = slope * moments.shift_p + intercept - moments.shift_y  # error at the shifts
    total = slope**2 * pp + yy - 2.0 * slope * py + 2.0 * level * (slope * p - y) + n * level**2
    return np.asarray(np.maximum(total, 0.0).sum(axis=1) / (moments.n * moments.n_mels))


@dataclass(frozen=True)
class NullErrors:
    """What predictors score that were never trained.

    Args:
        mse: by name, MSE of each unit ``(U,)``. ``identity`` (the prediction as it is) stands beside ``zero``,
            ``global_mean`` and ``bin_mean`` (fitted on the other folds), and the oracles ``utterance_mean`` and
            ``utterance_bin_mean``, which look at the very utterance: one number, and one for each bin.
        weights: share of each unit's frames, ``(U,)``.
    """

    mse: dict[str, np.ndarray]
    weights: np.ndarray

    oracles = ("utterance_mean", "utterance_bin_mean")

    def total(self, name: str) -> float:
        """MSE over all values."""
        return float(self.weights @ self.mse[name])


def null_errors(moments: Moments, fold_of: np.ndarray) -> NullErrors:
    """MSE of the null predictors, in closed form.

    Args:
        moments: of the units.
        fold_of: fold of each unit, ``(U,)``: what is fitted is fitted on the other folds.

    Raises:
        UncomputableError: fewer than two folds.
    """
    fold_of = np.asarray(fold_of)
    if fold_of.shape != moments.n.shape:
        raise ValueError(f"{fold_of.shape} folds for {moments.n.size} units")
    folds = np.unique(fold_of)
    if folds.size < 2:
        raise UncomputableError(f"{folds.size} fold: a constant would be scored on what it was fitted on")
    bins = np.empty((len(moments), moments.n_mels))
    for fold in folds:
        bins[fold_of == fold] = moments.bin_means((fold_of != fold).astype(np.float64))
    own = moments.shift_y + moments.sums[:, 1] / moments.n[:, None]
    constants = {
        "zero": np.zeros(1),
        "global_mean": bins.mean(axis=1, keepdims=True),  # every frame has every bin
        "bin_mean": bins,
        "utterance_mean": own.mean(axis=1, keepdims=True),
        "utterance_bin_mean": own,
    }
    return NullErrors(
        {"identity": squared_errors(moments)} | {k: squared_errors(moments, 0.0, c) for k, c in constants.items()},
        moments.n / moments.n.sum(),
    )


# --- all scalars ------------------------------------------------------------------------------------------------------


def scalars(
    moments: Moments, fold_of: np.ndarray, blocks: Moments | None = None
) -> tuple[dict[str, float], dict[str, str]]:
    """Every metric of `METRICS` that the moments give.

    Args:
        moments: of the units; an utterance each for ``global_variance``.
        fold_of: fold of each unit, ``(U,)``, for the skills.
        blocks: as for `Jackknife`.

    Returns:
        Values by name, and the reason by name for those that could not be computed.
    """
    values: dict[str, float] = {"mse": float(moments.summary().mse)}
    skipped: dict[str, str] = {}

    def gather(names: list[str], compute: Callable[[], list[float]]) -> None:
        try:
            values.update(zip(names, compute(), strict=True))
        except UncomputableError as error:
            skipped.update(dict.fromkeys(names, str(error)))

    for view, terms in murphy(moments).items():
        for term in ("bias", "conditional", "irreducible"):
            values[f"murphy_{term}_{view}"] = getattr(terms, term)

    def skills() -> list[float]:
        nulls = null_errors(moments, fold_of)
        return [skill(values["mse"], nulls.total(name)) for name in ("global_mean", "bin_mean")]

    def points() -> list[float]:
        return [v for point in taylor(moments).values() for v in (point.sd_ratio, point.r, point.centred_rmse)]

    def test() -> list[float]:
        found = mincer_zarnowitz(moments, blocks)
        return [found.slope, found.intercept, found.p_value]

    gather(["skill_global_mean", "skill_bin_mean"], skills)
    gather([name for name in METRICS if name.startswith("taylor_")], points)
    gather(["concordance_pooled", "concordance_within"], lambda: list(concordance(moments).values()))
    gather([name for name in METRICS if name.startswith("mincer_zarnowitz_")], test)
    gather(["global_variance"], lambda: [global_variance(moments).corpus])
    return values, skipped


# --- mel distances ----------------------------------------------------------------------------------------------------

DB_PER_UNIT: dict[str, float] = {"ln_amplitude": 20.0 / math.log(10.0), "ln_power": 10.0 / math.log(10.0)}


def decibels(domain: str) -> float:
    """Decibels a unit of the mel: 8.685889638 for ``ln_amplitude``, 4.342944819 for ``ln_power``.

    Raises:
        ValueError: another domain.
    """
    if domain not in DB_PER_UNIT:
        raise ValueError(f"the domain is {domain!r}; dB are known for {', '.join(DB_PER_UNIT)}")
    return DB_PER_UNIT[domain]


def log_spectral_distance(p: np.ndarray, y: np.ndarray, domain: str) -> np.ndarray:
    """Root mean square over bins of the difference in dB, for each frame.

    Args:
        p: prediction, ``(T, M)``.
        y: target, ``(T, M)``.
        domain: see `decibels`.

    Returns:
        dB, ``(T,)``; their mean over frames is the LSD.
    """
    d = np.asarray(p, dtype=np.float64) - y
    return np.asarray(decibels(domain) * np.sqrt(np.einsum("tm,tm->t", d, d) / d.shape[1]))


def mel_cepstral_distortion(p: np.ndarray, y: np.ndarray, domain: str, order: int = 13) -> np.ndarray:
    """mel-MCD of each frame: coefficients 1..order of the difference (the level is left out), see the module.

    Args:
        p: prediction, ``(T, M)``.
        y: target, ``(T, M)``.
        domain: see `decibels`.
        order: last coefficient.

    Returns:
        dB, ``(T,)``; their mean over frames is the mel-MCD.

    Raises:
        ValueError: fewer than ``order + 1`` bins.
    """
    from scipy.fft import dct

    d = np.asarray(p, dtype=np.float64) - y
    bins = d.shape[1]
    if not 1 <= order < bins:
        raise ValueError(f"order {order}: {bins} bins have coefficients 1 to {bins - 1}")
    c = dct(d, axis=1, norm="ortho")[:, 1 : order + 1] * math.sqrt(2.0 / bins)
    return np.asarray(decibels(domain) / math.sqrt(2.0) * np.sqrt(np.einsum("tm,tm->t", c, c)))
