"""The verdict: which state the pairs are in, the rules that decided it, and what to do next.

The states are a contract, and the first whose rule holds wins. Every rule is kept as a `Check` with the measured
value, the comparison and the threshold, and its text is generated from those, so text and code cannot disagree.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

from calib.diagnose.nulls import LAGS

__all__ = ["STATES", "Check", "Evidence", "State", "Verdict", "decide"]

MIN_FRAMES = 300
STRUCTURE_LIFT = 0.2
COLLAPSED_RATIO = 0.2
NO_SIGNAL_R = 0.3
NEGLIGIBLE_R = 0.05  # pure noise leaves its own 95 % null one time in twenty; r² below .0025 is none either way
STRONG_R = 0.7
FIXABLE_SHARE = 0.5
HEALTHY_SHARE = 0.1
MIN_SKILL = 0.05
SHARED = 0.3  # unrelated pairs this alike: silence or padding is shared, and r must be read above that level
GATE = 0.95  # MAE after the fit, on unseen folds, over that of the best constant

_OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True)
class Check:
    """One rule with its evidence.

    Args:
        name: what was measured.
        value: the measured value.
        op: ``<``, ``<=``, ``>`` or ``>=``.
        threshold: what it is compared with.
        meaning: what it means when the rule holds.
    """

    name: str
    value: float
    op: str
    threshold: float
    meaning: str = ""

    @property
    def holds(self) -> bool:
        """Whether the comparison is true."""
        return bool(_OPERATORS[self.op](self.value, self.threshold))

    def text(self) -> str:
        """For people, for example ``r within bin, magnitude 0.013 < 0.3: yes``."""
        return f"{self.name} {_number(self.value)} {self.op} {_number(self.threshold)}: {'yes' if self.holds else 'no'}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 and value == round(value) else f"{value + 0.0:.4g}"


@dataclass(frozen=True)
class State:
    """One state of the contract.

    Args:
        name: as in the files.
        writes: whether ``fit-scaler`` may write a file at all.
        exit_code: of ``fit-scaler`` when it does not.
        headline: the first words that a person reads.
        status: ``pass``, ``warn`` or ``fail``, for ``--fail-on``.
        next_steps: what to do, first things first.
    """

    name: str
    writes: bool
    exit_code: int
    headline: str
    status: str
    next_steps: tuple[str, ...] = ()


STATES: dict[str, State] = {
    state.name: state
    for state in (
        State(
            "invalid",
            False,
            3,
            "INVALID DATA",
            "fail",
            (
                "repair the files named above, or leave them out (--allow-skipped PERCENT); nothing can be said of the model before",
            ),
        ),
        State(
            "insufficient",
            False,
            5,
            "NOT ENOUGH DATA",
            "fail",
            (
                f"give at least {MIN_FRAMES} valid frames (a few seconds), better 16 utterances: calib teacher-force SOURCE --model M",
            ),
        ),
        State(
            "misaligned",
            False,
            5,
            "NOT FIXABLE BY CALIBRATION: misaligned in time",
            "fail",
            (
                "shift the prediction by the lag shown and look again: an off-by-one in the decoder's go frame, or a hop or padding that differs",
                "compare the front ends of target and model: calib frontends diff A B",
            ),
        ),
        State(
            "structural",
            False,
            5,
            "NOT FIXABLE BY CALIBRATION: the arrays are put together wrongly",
            "fail",
            ("undo what the finding names (flip, reshape, pairing) where the predictions are written, and look again",),
        ),
        State(
            "collapsed",
            False,
            5,
            "NOT FIXABLE BY CALIBRATION: the output has collapsed",
            "fail",
            (
                "data: look at what the loader really returns in a training batch; all-zero mels, or mels of length 1, teach a network to output zero (calib stats on the training mels names a dataset without variance)",
                "weights: check that the decoder and its last layer were restored from the checkpoint (compare them with a fresh initialisation)",
                "masks: check the attention masks; an inverted mask lets the model see padding and the future, and hides the text",
                "then train again: no scale and offset can put a signal into a constant",
            ),
        ),
        State(
            "no-signal",
            False,
            5,
            "NOT FIXABLE BY CALIBRATION: no signal",
            "fail",
            (
                "check that predictions belong to these targets (ids, order, crop)",
                "check text, conditioning and masks: does the prediction change when the text is swapped?",
                "check the weights restored from the checkpoint, then how long it was trained",
            ),
        ),
        State(
            "weak",
            True,
            5,
            "WEAK SIGNAL",
            "warn",
            (
                "train on: a calibration sets the level, but most of the error is not its to remove",
                "see where it is weak: the per-bin correlation and the worst utterances of calib report PAIRS",
            ),
        ),
        State(
            "fixable",
            True,
            5,
            "FIXABLE BY CALIBRATION",
            "warn",
            (
                "use both JSON files in inference: MelScaler.load(params, stats).calibrate(prediction), or calib synth --params mel_scaling_params.json --stats mel_normalization_stats.json",
            ),
        ),
        State(
            "partly",
            True,
            5,
            "PARTLY FIXABLE BY CALIBRATION",
            "warn",
            (
                "use the JSON files, and look for the rest of the error in the per-bin curves of the report: calib report PAIRS",
            ),
        ),
        State(
            "healthy",
            True,
            5,
            "HEALTHY: nothing to calibrate",
            "pass",
            (
                "if it still sounds like noise: with the true mels as input this model is well scaled, so look at free running (calib teacher-force --free-running) and at the vocoder (is its front end the model's?)",
            ),
        ),
    )
}


@dataclass(frozen=True)
class Evidence:
    """What the rules look at. Correlations are within bin; shares and ratios have no unit.

    Args:
        n_frames: valid frames.
        invalid: why the data cannot be judged at all, or empty.
        r_w: within-bin correlation, signed.
        r_w_low: lower limit of the magnitude of r_w.
        r_w_high: upper limit of the magnitude of r_w.
        null_limit: 95th percentile of the magnitude of r_w under no relation.
        s_w_ratio: within-bin sd, prediction over target.
        share: F, the removable share of the mean squared error.
        chosen_share: what the chosen calibration, which may be one by bin, removes of it on unseen data.
        skill: out-of-sample skill (MSE) of the fit against the per-bin mean.
        gate_ratio: out-of-sample MAE after the fit over that of the best constant.
        identity_gate_ratio: the same without a fit.
        best_lag: lag of the largest r_w, in frames.
        lag_r: r_w there.
        structure: name of the best layout or pairing repair, or None.
        structure_r: r_w after it.
        autoregressive: as declared; None when unknown.
        findings: how many notes and named faults qualify a healthy verdict (copying, a sign, bins that differ).
        severity: ``fail`` where one of them breaks the sound, else ``warn``.
        beyond_affine: findings that the calibration to be written does not repair.
        drift: what undoes a drift in time, for people, or None.
        drift_r: r_w after it.
        parts: what a part of the utterances is, among others that are not, for people.
        parts_share: share of the utterances that these are.
    """

    n_frames: int
    invalid: tuple[str, ...] = ()
    r_w: float = 0.0
    r_w_low: float = 0.0
    r_w_high: float = 0.0
    null_limit: float = 1.0
    s_w_ratio: float = 0.0
    share: float = 0.0
    chosen_share: float = 0.0
    skill: float = 0.0
    gate_ratio: float = float("inf")
    identity_gate_ratio: float = float("inf")
    best_lag: int = 0
    lag_r: float = 0.0
    structure: str | None = None
    structure_r: float = 0.0
    autoregressive: bool | None = None
    findings: int = 0
    severity: str = "warn"
    beyond_affine: tuple[str, ...] = ()
    drift: str | None = None
    drift_r: float = 0.0
    parts: tuple[str, ...] = ()
    parts_share: float = 0.0

    def beyond_null(self, r: float) -> float:
        """A correlation as a share of what is left above unrelated pairs, where those are alike (shared silence)."""
        if self.null_limit <= SHARED or self.null_limit >= 1.0:
            return r
        return max(0.0, (r - self.null_limit) / (1.0 - self.null_limit))

    @property
    def shared(self) -> bool:
        """Whether unrelated pairs are so alike that the correlation proves little."""
        return SHARED < self.null_limit < 1.0


@dataclass(frozen=True)
class Verdict:
    """The state, why, and whether a file may be written.

    Args:
        state: name of the state.
        headline: the first words.
        sentence: one sentence with the figures.
        writes: whether a parameter file may be written.
        refusal: why not, or None.
        checks: the rules in the order they were asked, up to the one that decided.
        next_steps: what to do.
        status: ``pass``, ``warn``, ``fail``.
        exit_code: of ``fit-scaler``: 0 where a file may be written, else 5 (3 for data that cannot be judged).
        warnings: what speaks against the headline.
    """

    state: str
    headline: str
    sentence: str
    writes: bool
    refusal: str | None
    checks: tuple[Check, ...]
    next_steps: tuple[str, ...]
    status: str
    exit_code: int = 5
    warnings: tuple[str, ...] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "state": self.state,
            "headline": self.headline,
            "sentence": self.sentence,
            "status": self.status,
            "writes": self.writes,
            "refusal": self.refusal,
            "warnings": list(self.warnings),
            "checks": [
                {
                    "name": c.name,
                    "value": c.value,
                    "op": c.op,
                    "threshold": c.threshold,
                    "holds": c.holds,
                    "meaning": c.meaning,
                }
                for c in self.checks
            ],
            "next_steps": list(self.next_steps),
        }


# A map fitted on both is about so much too flat for the utterances that are well.
_FEW_PARTS = 0.05


def decide(e: Evidence) -> Verdict:
    """Apply the rules in order; the first match wins."""
    checks: list[Check] = []

    def ask(*rules: Check) -> bool:
        """Record the rules, and say whether all of them hold."""
        checks.extend(rule for rule in rules if rule not in checks)
        return all(rule.holds for rule in rules)

    name = _state(e, ask)
    state = STATES[name]
    headline, refusal = state.headline, None
    if not state.writes:
        refusal = _NOTHING
    else:
        ratio = e.identity_gate_ratio if name == "healthy" else e.gate_ratio
        gate = Check(
            "MAE after, on unseen folds, over the best constant's",
            ratio,
            "<=",
            GATE,
            "the result is worth more than a constant",
        )
        checks.append(gate)
        if not gate.holds:
            headline = f"NOT FIXABLE BY CALIBRATION: no better than a constant ({state.headline.lower()})"
            refusal = f"On unseen data the MAE is {ratio:.3f} times that of the best constant ({GATE:g} or less is needed): {_NOTHING[0].lower()}{_NOTHING[1:]}"
        elif name == "weak" and e.shared:
            headline = "NOT FIXABLE BY CALIBRATION: what is alike is shared by unrelated pairs"
            refusal = f"Unrelated pairs reach r {e.null_limit:.2f} (shared silence or padding?): {_NOTHING[0].lower()}{_NOTHING[1:]}"
        elif e.parts_share > _FEW_PARTS:
            headline = (
                f"NOT FIXABLE BY CALIBRATION: no one map serves utterances of two kinds ({state.headline.lower()})"
            )
            refusal = f"{e.parts_share:.0%} of the utterances hold nothing, and bend a map for the others as much: nothing was written"
    status = "fail" if refusal else state.status
    if name == "healthy" and refusal is None and e.findings:
        headline, status = "HEALTHY in level and scale, but see the findings", e.severity
    warnings: tuple[str, ...] = ()
    if refusal is None and name == "weak":
        warnings = (f"after any affine fit at least {_floor(e.r_w):.0%} of the per-bin constant's error remains",)
    if refusal is None and name == "partly":
        named = [fault for fault in e.beyond_affine if fault != "unknown"]
        rest = f" ({', '.join(named)})" if named else ""
        what = f"a scale and offset remove {e.share:.0%} of the squared error"
        if e.chosen_share > e.share + _MORE and not named:
            warnings = (f"{what}, the map for each bin that was chosen {e.chosen_share:.0%} (on unseen utterances)",)
        else:
            warnings = (f"{what}; the rest needs another repair{rest}",)
    if e.parts:  # the figures are of both, and so is the map
        headline = f"{headline}, over all: {'; '.join(e.parts)}"
        kept = "" if refusal else "; the map that is written is fitted on both"
        warnings = (
            *warnings,
            f"the figures mix utterances that are well with those that are not{kept}: leave those out, and look again",
        )
    return Verdict(
        name,
        headline,
        _sentence(name, e),
        refusal is None,
        refusal,
        tuple(checks),
        state.next_steps,
        status,
        state.exit_code if refusal else 0,
        warnings,
    )


def _state(e: Evidence, ask: Any) -> str:
    strength = abs(e.r_w)
    if e.invalid:
        return "invalid"
    if ask(Check("valid frames", e.n_frames, "<", MIN_FRAMES, "too few frames to judge")):
        return "insufficient"
    lag_is_nature = e.autoregressive is True and e.best_lag == 1
    if (
        e.best_lag != 0
        and not lag_is_nature
        and ask(
            Check(
                f"r within bin gained by a shift of {e.best_lag:+d} frames",
                abs(e.lag_r) - strength,
                ">",
                STRUCTURE_LIFT,
                "the prediction is early or late",
            ),
            Check("r within bin after the shift", abs(e.lag_r), ">", NO_SIGNAL_R, "and belongs to the target then"),
        )
    ):
        return "misaligned"
    if e.drift is not None and ask(
        Check(
            f"r within bin gained by {e.drift}",
            abs(e.drift_r) - strength,
            ">",
            STRUCTURE_LIFT,
            "the prediction drifts against the target",
        ),
        Check(f"r within bin after {e.drift}", abs(e.drift_r), ">", NO_SIGNAL_R, "and belongs to it then"),
    ):
        return "misaligned"
    if e.structure is not None and ask(
        Check(
            f"r within bin gained by {e.structure}",
            abs(e.structure_r) - strength,
            ">",
            STRUCTURE_LIFT,
            "the arrays are put together wrongly",
        ),
        Check(f"r within bin after {e.structure}", abs(e.structure_r), ">", NO_SIGNAL_R, "and belong together then"),
    ):
        return "structural"
    inside = Check(
        "r within bin, magnitude",
        strength,
        "<=",
        max(e.null_limit, NEGLIGIBLE_R),
        "no more than unrelated predictions reach",
    )
    if ask(
        Check("within-bin sd, prediction over target", e.s_w_ratio, "<", COLLAPSED_RATIO, "the output hardly varies"),
        inside,
    ):
        return "collapsed"
    beyond = ", beyond what unrelated pairs share" if e.shared else ""
    if ask(inside) or ask(
        Check(
            f"r within bin, upper limit{beyond}",
            e.beyond_null(e.r_w_high),
            "<",
            NO_SIGNAL_R,
            "no affine map can gain more than 5 % over a constant",
        )
    ):
        return "no-signal"
    if not ask(
        Check(f"r within bin, lower limit{beyond}", e.beyond_null(e.r_w_low), ">=", STRONG_R, "the signal is strong")
    ):
        return "weak"
    if ask(
        Check(
            "removable share of the squared error", e.share, ">=", FIXABLE_SHARE, "most of the error is level and scale"
        ),
        Check(
            "out-of-sample skill against the per-bin mean",
            e.skill,
            ">",
            MIN_SKILL,
            "the fit beats the best constant spectrum",
        ),
        Check(
            "findings that the calibration does not repair",
            len(e.beyond_affine),
            "<",
            1,
            "level and scale are all that is wrong",
        ),
    ):
        return "fixable"
    if ask(Check("removable share of the squared error", e.share, "<", HEALTHY_SHARE, "level and scale are right")):
        return "healthy"
    return "partly"


_MORE = 0.1  # of the squared error: what a map for each bin has to be worth to be spoken of
_NOTHING = "Nothing was repaired and nothing was written"


def _floor(r_w: float) -> float:
    return float(max(1.0 - r_w * r_w, 0.0) ** 0.5)


def _sentence(name: str, e: Evidence) -> str:
    r = f"r within bin {round(e.r_w, 3) + 0.0:.3f} (95 % {e.r_w_low:.3f} to {e.r_w_high:.3f} in magnitude; unrelated pairs reach {e.null_limit:.3f})"
    if name == "invalid":
        return "; ".join(e.invalid)
    if name == "insufficient":
        return f"{e.n_frames} valid frames, {MIN_FRAMES} are needed"
    if name == "misaligned":
        if e.drift is not None and abs(e.drift_r) > abs(e.lag_r):
            return f"r within bin is {e.r_w:.3f} as it stands and {e.drift_r:.3f} after {e.drift}"
        more = " or more (the scan ends there)" if abs(e.best_lag) == max(LAGS) else ""
        return f"r within bin is {e.r_w:.3f} as it stands and {e.lag_r:.3f} with the prediction shifted by {-e.best_lag:+d} frames{more}"
    if name == "structural":
        return f"r within bin is {e.r_w:.3f} as it stands and {e.structure_r:.3f} after {e.structure}"
    if name == "collapsed":
        return f"the prediction varies {e.s_w_ratio:.3f} times as much as the target, {r}: no better than a constant"
    if name == "no-signal":
        return f"{r}: no better than a constant"
    if name == "weak":
        return f"{r}: a signal, but not a strong one"
    share = f"a scale and offset remove {e.share:.1%} of the squared error"
    return f"{r}; {share}"
