"""What copies and domains say of a vocoder: one state, one sentence, what to do.

===============  ===================================================================================================
state            rule (the first that holds)
===============  ===================================================================================================
broken           NaN or infinite samples, or nothing but an error
wrong-rate       the audio follows its recording only when its sample rate or speed is put right
healthy          no other domain is clearly nearer, and near its recording: r at least .85 and at most 5 dB away (log-spectral, level removed)
wrong-domain     in another domain the copy is at least 30 % nearer, and follows the recording (r at least .8)
silent           no sample above -80 dB of full scale
degraded         it follows its recording, but from afar (r at least .6), or faintly under noise (r .15 and loudness r .6)
reference        Griffin-Lim itself was given: it is what vocoders are held against, so that no vocoder was measured
deaf             it does not follow (r below .5, loudness too), and a mel turned round changes its sound no more (5 %) than
                 the same mel given twice
untrained        noise, whatever it is fed; where its sound changes by less than a quarter of the mel, both are said
===============  ===================================================================================================

*Deaf* means that the mel does not arrive, as by a wrong shape or a constant in its place: then nothing of it is in the
sound, and what changes between two calls is the vocoder's own randomness, which is measured. 5 % are left for ends and
lengths. A random network whose sound changes by 14 to 19 % does get the mel, so it is *untrained*. Hiss over speech hides
the change too (14 % at 0 dB, 4 % at -12 dB of speech over hiss), but the sound still follows its recording.

A healthy copy at another level, clipped or with an offset is ``healthy`` with a warning. The limits for healthy copies
are wide of what neural vocoders reach (HiFi-GAN's mel error in training falls to .2 to .35 ln, 2 to 3 dB) and of
Griffin-Lim's own; they were set on wrappers of Griffin-Lim, because no trained neural vocoder was at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from calib.vocoders.check.measure import Copy

__all__ = ["LIMITS", "Heard", "Limits", "Tried", "VocoderVerdict", "decide", "reference"]


@dataclass(frozen=True)
class Limits:
    """See the module.

    Args:
        r: of a healthy copy, neutral front end.
        lsd: of a healthy copy, dB.
        sure: dB up to which no other domain is tried.
        follows: r from which a copy has to do with its recording.
        nearer: log-spectral distance over the declared domain's that makes another domain better.
        liked: r of a copy in a domain that is liked.
        tie: dB within which two domains are liked alike.
        drowned: r of a copy that still follows, where its loudness does.
        drowned_loudness: r of its loudness.
        unlike: r of a copy that has nothing to do with its recording.
        deaf: change of the output over that of the mel, beyond the vocoder's own, up to which the mel does not arrive.
        faint: the same, up to which it hardly does.
        rate: relative error of speed that can be heard.
        level: dB.
        clipped: share of samples.
        dc: of full scale.
        hiss: dB of spectral flatness above the recording's.
        hum: dB by which pauses are nearer to speech than in the recording.
    """

    r: float = 0.85
    lsd: float = 5.0
    sure: float = 4.0
    follows: float = 0.6
    nearer: float = 0.7
    liked: float = 0.8
    tie: float = 0.5
    drowned: float = 0.15
    drowned_loudness: float = 0.6
    unlike: float = 0.5
    deaf: float = 0.05
    faint: float = 0.25
    rate: float = 0.01
    level: float = 6.0
    clipped: float = 1e-3
    dc: float = 0.01
    hiss: float = 6.0
    hum: float = 15.0


LIMITS = Limits()


@dataclass(frozen=True)
class Tried:
    """A domain that the vocoder was fed.

    Args:
        name: of the domain.
        words: completes "the vocoder wants ...".
        lsd_db: log-spectral distance of the copy, or None where it failed.
        r: correlation of the copy, neutral front end.
        failed: why there is no copy, or "".
    """

    name: str
    words: str
    lsd_db: float | None
    r: float
    failed: str = ""


@dataclass(frozen=True)
class Heard:
    """All that was measured.

    Args:
        copies: of the vocoder, one a clip; those that failed are in ``errors``.
        baseline: of Griffin-Lim from the same mels; empty where it cannot be made.
        errors: what the vocoder's calls failed with.
        nonfinite: clips whose audio held NaN or infinite samples.
        change: of the output over that of the mel, for a mel and the same backwards; None where it was not tried.
        own_change: the same for one mel given twice: randomness.
        relabelled: ``(lsd_db, r, what)`` with the rate or speed put right; None where neither is off.
        domains: that were tried.
        declared: the declared domain on the clip that the domains were tried on.
    """

    copies: Sequence[Copy]
    baseline: Sequence[Copy] = ()
    errors: Sequence[str] = ()
    nonfinite: int = 0
    change: float | None = None
    own_change: float = 0.0
    relabelled: tuple[float, float, str] | None = None
    domains: Sequence[Tried] = ()
    declared: Tried | None = None


@dataclass(frozen=True)
class VocoderVerdict:
    """The answer.

    Args:
        state: see the module.
        status: ``pass``, ``warn``, ``fail``.
        headline: first words.
        sentence: one sentence with figures.
        next_steps: what to do.
        warnings: of a healthy copy.
        liked: names of the domains that it likes best, where it likes another than the declared one.
    """

    state: str
    status: str
    headline: str
    sentence: str
    next_steps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    liked: tuple[Tried, ...] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "state": self.state,
            "status": self.status,
            "headline": self.headline,
            "sentence": self.sentence,
            "next_steps": list(self.next_steps),
            "warnings": list(self.warnings),
            "liked": [tried.name for tried in self.liked],
        }


def healthy(lsd_db: float, r: float, limits: Limits = LIMITS) -> bool:
    """Whether a copy is near its recording."""
    return r >= limits.r and lsd_db <= limits.lsd


def decide(heard: Heard, limits: Limits = LIMITS) -> VocoderVerdict:
    """The first state whose rule holds."""
    if heard.nonfinite or not heard.copies:
        what = (
            f"its audio holds NaN or infinite samples in {heard.nonfinite} of the clips"
            if heard.nonfinite
            else heard.errors[0]
        )
        return VocoderVerdict("broken", "fail", "BROKEN", f"no audio to judge: {what}", ("run the vocoder in float32, and check that its weights are finite",))  # fmt: skip
    copies = heard.copies
    lsd, r = _median(copies, "lsd_db"), _median(copies, "r")
    figures = f"copy synthesis of natural mels is {lsd:.1f} dB from its recordings (r {r:.2f}){_griffin_lim(heard)}"
    silent = all(copy.silent for copy in copies)
    good = not silent and healthy(lsd, r, limits)
    if heard.relabelled is not None:
        right_lsd, right_r, what = heard.relabelled
        if right_r >= limits.follows and (right_lsd < limits.nearer * lsd or not good):
            return VocoderVerdict(
                "wrong-rate", "fail", "WRONG RATE OR SPEED", f"{what}; put right, it is {right_lsd:.1f} dB from its recordings (r {right_r:.2f})",
                ("give the vocoder mels of its own sample rate and hop: its declared front end is not the one it was trained on, or the rate it returns is not its own",),
            )  # fmt: skip
    liked = _liked(heard, limits)
    if good and not liked:
        warnings = tuple(_warnings(copies, limits))
        return VocoderVerdict(
            "healthy", "warn" if warnings else "pass", "HEALTHY VOCODER",
            f"{figures}: the vocoder and its front end are not what you hear",
            ("look at what reaches it: calib diagnose PAIRS --audio SOURCE --vocoder-frontend SPEC",), warnings,
        )  # fmt: skip
    if liked:
        best = liked[0]
        names = " or ".join(tried.words for tried in liked[:3])
        also = f" (and {len(liked) - 3} more domains alike)" if len(liked) > 3 else ""
        return VocoderVerdict(
            "wrong-domain", "fail", "WRONG DOMAIN",
            f"the vocoder does not want what it declares: fed {names}{also} its copy is {best.lsd_db:.1f} dB from the recording (r {best.r:.2f}), fed the declared mels {_declared(heard, lsd):.1f} dB",
            ("declare the front end that it was trained on, and convert mels to that: calib convert MELS --from A --to B",), (), liked,
        )  # fmt: skip
    if silent:
        return VocoderVerdict(
            "silent", "fail", "SILENT", f"natural mels come out as silence (peak {max(c.peak for c in copies):.1e} of full scale)",
            ("check that the checkpoint was restored, and that the mel reaches the network",),
        )  # fmt: skip
    answer = None if heard.change is None else heard.change - heard.own_change
    loudness = _median(copies, "envelope_r")
    if r >= limits.follows or (r >= limits.drowned and loudness >= limits.drowned_loudness):
        return _degraded(copies, r, figures, limits)
    if answer is not None and answer <= limits.deaf and r < limits.unlike and loudness < limits.unlike:
        own = f", and one mel given twice by {heard.own_change:.0%}" if heard.own_change > 0 else ""
        return VocoderVerdict(
            "deaf", "fail", "IGNORES ITS INPUT",
            f"a mel and the same mel backwards give the same sound: the outputs differ by {heard.change:.0%} of what the mels do{own} (or noise drowns all that it makes of them); {figures}",
            ("check that the mel is passed on to the network (conditioning, shapes, masks), not a constant or a zero", "check that the checkpoint was restored"),
        )  # fmt: skip
    faint = f", and it hardly answers its input (a mel turned round changes its sound by {heard.change:.0%} of what the mels do)" if answer is not None and answer < limits.faint else ""  # fmt: skip
    tried = f"; none of {len(heard.domains)} other domains suits it either" if heard.domains else ""
    return VocoderVerdict(
        "untrained", "fail", "NOISE WHATEVER IT IS FED", f"{figures}{tried}{faint}: untrained, or its weights were not restored",
        ("check that the checkpoint was restored, by module (missing and unexpected keys), and that it is a generator's",),
    )  # fmt: skip


def reference(baseline: Sequence[Copy]) -> VocoderVerdict:
    """What is said where no vocoder was given: ``warn``, because nothing was measured that could be healthy.

    Args:
        baseline: of Griffin-Lim; one at least.
    """
    lsd, r = _median(baseline, "lsd_db"), _median(baseline, "r")
    return VocoderVerdict(
        "reference", "warn", "NO VOCODER WAS MEASURED",
        f"Griffin-Lim is the reference itself: its copies of these natural mels are {lsd:.1f} dB from their recordings (r {r:.2f}), which is what another vocoder is held against; nothing is said of yours",
        ("give your vocoder: calib check vocoder SOURCE --vocoder SPEC, SPEC being an installed name, package.module:factory or path/to/file.py:factory",),
    )  # fmt: skip


def _degraded(copies: Sequence[Copy], r: float, figures: str, limits: Limits) -> VocoderVerdict:
    """It follows its recordings, from afar or under noise."""
    hiss = _median(copies, "flatness_db")
    steps = ["train it on, or check that all of its weights were restored"]
    how = "from afar"
    if hiss > limits.hiss:
        how = f"under noise (spectral flatness {hiss:+.1f} dB against the recordings')"
        steps.append("where it draws noise itself, lower that (sigma, temperature, noise scale)")
    return VocoderVerdict(
        "degraded", "warn" if r >= limits.r else "fail", "DEGRADED",
        f"{figures}: it follows them {how}, and no other domain that was tried suits it better", tuple(steps),
    )  # fmt: skip


def _median(copies: Sequence[Copy], name: str) -> float:
    return float(np.median([getattr(copy, name) for copy in copies]))


def _griffin_lim(heard: Heard) -> str:
    if not heard.baseline:
        return ""
    return f"; Griffin-Lim on the same mels {_median(heard.baseline, 'lsd_db'):.1f} dB (r {_median(heard.baseline, 'r'):.2f})"


def _declared(heard: Heard, lsd: float) -> float:
    return heard.declared.lsd_db if heard.declared is not None and heard.declared.lsd_db is not None else lsd


def _liked(heard: Heard, limits: Limits) -> tuple[Tried, ...]:
    """The domains that are clearly better than the declared one, the best first, and those alike to the best."""
    if heard.declared is None:
        return ()
    own = _declared(heard, float("inf"))
    there = sorted((t for t in heard.domains if t.lsd_db is not None), key=lambda t: t.lsd_db or 0.0)
    if not there or there[0].lsd_db is None or there[0].lsd_db > limits.nearer * own or there[0].r < limits.liked:
        return ()
    return tuple(t for t in there if t.lsd_db is not None and t.lsd_db <= there[0].lsd_db + limits.tie)


def _warnings(copies: Sequence[Copy], limits: Limits) -> list[str]:
    """What a healthy copy may still have."""
    said = []
    level = _median(copies, "level_db")
    if abs(level) > limits.level:
        said.append(f"it speaks {abs(level):.1f} dB {'louder' if level > 0 else 'quieter'} than its recordings")
    if (share := _median(copies, "clipped")) > limits.clipped:
        said.append(f"{share:.1%} of its samples are at full scale: clipped")
    if abs(dc := _median(copies, "dc")) > limits.dc:
        said.append(f"its audio has an offset of {dc:+.3f} of full scale (DC)")
    if (hiss := _median(copies, "flatness_db")) > limits.hiss:
        said.append(f"its speech is noisier: spectral flatness {hiss:+.1f} dB against the recordings'")
    hum = float(np.median([copy.natural_silence_db - copy.silence_db for copy in copies]))
    if hum > limits.hum:
        said.append(f"its pauses are {hum:.0f} dB nearer to speech than in the recordings: hum or hiss")
    return said
