"""The fault library: one row a fault. Written before any tuning; the tests of each are in the modules beside this one.

Conventions:
    ``confounded`` names the faults that the *declared* evidence of a case cannot tell from this one: an answer that
    names any of the set is right, and an answer always names the whole set. With audio the set shrinks to
    ``confounded_with_audio``. ``needs`` is the least evidence that the test needs: ``pairs``, ``audio``,
    ``free-running``, ``model`` or ``vocoder``. A fault whose evidence is missing is skipped, and that is said.

    Stages are undone from the outside in: how the arrays lie, then time, frequency, units, and last what the model
    itself does. Two faults of different stages are found one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BY_BIN", "FAULTS", "GLOBAL_AFFINE", "MADE_OF", "STAGES", "Fault"]

STAGES = ("arrays", "time", "frequency", "units", "model")


@dataclass(frozen=True)
class Fault:
    """A fault of the library.

    Args:
        id: name in files.
        stage: one of `STAGES`.
        title: for people, completes "the prediction is ...".
        cause: how it comes about, in plain words.
        next_step: what to do.
        command: copyable, or "".
        needs: least evidence.
        confounded: other faults that PAIRS alone cannot tell from it.
        confounded_with_audio: those that remain when the audio is there too.
        severity: ``fail`` (the sound is broken) or ``warn``.
        catch_all: describes an effect, whatever the cause: where no known constant explains it and its map was fitted
            (or, of *untrained*, where nothing at all is as in the target) an unlisted cause can make the same, so the
            answer names ``unknown`` beside it.
    """

    id: str
    stage: str
    title: str
    cause: str
    next_step: str
    command: str = ""
    needs: str = "pairs"
    confounded: tuple[str, ...] = ()
    confounded_with_audio: tuple[str, ...] = ()
    severity: str = "fail"
    catch_all: bool = False

    def allowed(self, *, audio: bool) -> frozenset[str]:
        """What an answer may name where this is the fault: its set, and ``unknown`` where a catch-all is in that."""
        others = self.confounded_with_audio if audio else self.confounded
        described = self.catch_all or any(FAULTS[name].catch_all for name in others)
        return frozenset({self.id, *others, *(("unknown",) if described else ())})


_BANKS = ("mel-scale", "fmax", "fmin", "sample-rate")
_TEMPLATES = ("area-norm", "pre-emphasis", "equaliser")
_NOTHING_LEARNED = ("text-ignored", "wrong-pairs", "untrained")


def _others(group: tuple[str, ...], own: str) -> tuple[str, ...]:
    return tuple(name for name in group if name != own)


FAULTS: dict[str, Fault] = {
    fault.id: fault
    for fault in (
        # --- arrays ---------------------------------------------------------------------------------------------
        Fault(
            "flipped-bins", "arrays", "upside down in frequency",
            "the mel bins are stored from high to low, or a bank was reversed",
            "reverse the bins where the predictions are written: mel[:, ::-1]",
        ),
        Fault(
            "reshaped", "arrays", "reshaped instead of transposed",
            "an (M, T) array was read as (T, M) by reshape; the values are all there, in the wrong places",
            "transpose instead of reshaping: mel.T, not mel.reshape(T, M)",
        ),
        Fault(
            "wrong-pairs", "arrays", "paired with other utterances' targets",
            "ids, order or a shuffled loader: each prediction belongs to another target",
            "pair by id, not by order",
            "calib pair --pred DIR --target DIR -o PAIRS",
            confounded=("text-ignored", "untrained"), confounded_with_audio=("text-ignored", "untrained"),
        ),
        # --- time -----------------------------------------------------------------------------------------------
        Fault(
            "shift", "time", "early or late by whole frames",
            "an off-by-one in the decoder's go frame, a trimmed silence, or padding that differs; early, in an autoregressive model: or the decoder input is not shifted by one frame (a label leak): calib check model",
            "shift the prediction by the frames shown, where it is written",
            confounded=("copying",), confounded_with_audio=("copying",),
        ),
        Fault(
            "half-hop", "time", "off by a fraction of a frame",
            "centred frames (Tacotron 2) against frames padded by (n_fft - hop) / 2 (HiFi-GAN): half a hop apart",
            "use one padding in both front ends",
            "calib frontends diff tacotron2 hifigan",
            confounded=("copying",), severity="warn",
        ),
        Fault(
            "time-stretch", "time", "drifting in time against the target",
            "another hop length or sample rate: the lag grows along the utterance",
            "compare hop length and sample rate of model and target",
            "calib frontends diff A B",
            confounded=("sample-rate",),
        ),
        Fault(
            "copying", "time", "a copy of the previous true frame",
            "under teacher forcing the decoder sees the previous true frame and hands it on; free running has none to copy",
            "judge free running, and disturb the decoder's input in training (prenet dropout, scheduled sampling)",
            "calib teacher-force SOURCE --free-running",
            confounded=("shift", "half-hop"), confounded_with_audio=("shift", "half-hop"), severity="warn",
        ),
        # --- frequency ------------------------------------------------------------------------------------------
        Fault(
            "mel-scale", "frequency", "on another mel scale (HTK against Slaney)",
            "the filterbanks were built with different mel formulas (torchaudio's default is HTK, librosa's Slaney)",
            "give both front ends the same mel_scale",
            "calib frontends diff A B",
            confounded=_others(_BANKS, "mel-scale"),
        ),
        Fault(
            "fmax", "frequency", "made with another highest frequency (fmax)",
            "8000 Hz against half the sample rate is the usual pair",
            "give both front ends the same fmax",
            "calib frontends diff A B",
            confounded=_others(_BANKS, "fmax"),
        ),
        Fault(
            "fmin", "frequency", "made with another lowest frequency (fmin)",
            "0 Hz against 80 Hz (ESPnet, ParallelWaveGAN) is the usual pair",
            "give both front ends the same fmin",
            "calib frontends diff A B",
            confounded=_others(_BANKS, "fmin"),
        ),
        Fault(
            "sample-rate", "frequency", "made from audio read at another sample rate",
            "samples of one rate were labelled with another: pitch, formants and length all scale",
            "resample the audio, do not relabel it",
            confounded=(*_others(_BANKS, "sample-rate"), "time-stretch"), confounded_with_audio=("time-stretch",),
        ),
        Fault(
            "area-norm", "frequency", "made with another filter normalisation (area against none)",
            "librosa divides each filter by its width, torchaudio does not by default: a fixed offset for each bin",
            "give both front ends the same norm",
            "calib frontends diff A B",
            confounded=_others(_TEMPLATES, "area-norm"),
        ),
        Fault(
            "pre-emphasis", "frequency", "made from pre-emphasised audio",
            "one front end filters the audio with 1 - a z^-1, the other does not; another voice than the target's colours alike",
            "switch pre-emphasis on or off in both",
            "calib frontends diff A B",
            confounded=_others(_TEMPLATES, "pre-emphasis"), confounded_with_audio=("equaliser",),
        ),
        Fault(
            "equaliser", "frequency", "coloured by a fixed offset for each bin",
            "another microphone, another speaker (as from a model that does not hear its speaker or text), or a filter in one path",
            "compare the audio that the model was trained on with this audio, and ask the model whether it hears its inputs",
            "calib check model SOURCE --model SPEC",
            confounded=("area-norm", "pre-emphasis"), confounded_with_audio=("pre-emphasis",), severity="warn",
            catch_all=True,
        ),
        Fault(
            "dead-bins", "frequency", "dead in some bins",
            "filters narrower than an FFT bin, a fmax above half the sample rate, or outputs that were never trained",
            "look at the bins named; lower n_mels or raise n_fft",
        ),
        # --- units ----------------------------------------------------------------------------------------------
        Fault(
            "normalised", "units", "still normalised (mean 0, sd 1)",
            "the model was trained on normalised mels and the denormalisation is missing",
            "denormalise with the statistics of the training set",
            "calib fit-scaler PAIRS --stats mel_normalization_stats.json",
        ),
        Fault(
            "normalised-per-bin", "units", "still normalised by bin",
            "the model was trained on mels normalised by per-bin statistics, and they were not undone",
            "denormalise each bin with the training set's statistics of that bin",
            "calib fit-scaler PAIRS",
        ),
        Fault(
            "normalised-twice", "units", "normalised twice",
            "the loader normalises mels that were stored normalised",
            "normalise once",
        ),
        Fault(
            "denormalised-twice", "units", "denormalised twice",
            "model and inference both denormalise",
            "denormalise once",
        ),
        Fault(
            "log-base", "units", "on another logarithm (factor ln 10)",
            "log10 on one side, ln on the other",
            "convert with the exact factor 2.302585",
            "calib fit-scaler PAIRS",
        ),
        Fault(
            "decibel", "units", "in decibels on one side only",
            "20 log10 on one side, a plain logarithm on the other (factor 8.685890, or 20)",
            "convert with the exact factor",
            "calib fit-scaler PAIRS",
        ),
        Fault(
            "log-power", "units", "of power on one side and of magnitude on the other",
            "the squared spectrum was taken before one of the banks: about a factor 2",
            "take the same power in both front ends",
            "calib frontends diff A B",
            confounded=("power-floor",),
        ),
        Fault(
            "range-normalised", "units", "scaled to a fixed range ([0, 1], [-1, 1], [-4, 4])",
            "a fixed min-max normalisation was not undone",
            "undo it with the constants of that front end",
            "calib fit-scaler PAIRS",
        ),
        Fault(
            "minmax-per-utterance", "units", "scaled to its own range in each utterance",
            "each utterance was mapped to [0, 1] by its own minimum and maximum: the level is lost, no map brings it back",
            "normalise with fixed constants, and train again",
        ),
        Fault(
            "mean-std-swapped", "units", "denormalised with mean and sd exchanged",
            "the two numbers were read in the wrong order: the sign turns where the mean is negative",
            "exchange them",
        ),
        Fault(
            "wrong-stats", "units", "on a scale and offset that no known constant explains",
            "most often another dataset's (or speaker's) statistics; else an unlisted affine map",
            "use the statistics of the training set",
            "calib stats TRAINING_SET",
            confounded=("gain",), confounded_with_audio=("gain",), catch_all=True,
        ),
        Fault(
            "shrunken", "units", "shrunk (or stretched) about the mean of each bin",
            "what is said is blended with the mean spectrum: an average of several models or draws, an output gain in a space"
            " normalised by bin, too strong a regularisation",
            "apply a map for each bin, and look for what averages the output",
            "calib fit-scaler PAIRS",
            severity="warn", catch_all=True,
        ),
        Fault(
            "gain", "units", "too loud or too quiet",
            "the audio was at another level: one offset for all values",
            "level the audio as in training, or subtract the offset",
            "calib fit-scaler PAIRS",
            confounded=("wrong-stats",), confounded_with_audio=("wrong-stats",), severity="warn",
            catch_all=True,
        ),
        Fault(
            "int16-scale", "units", "made from samples in [-32768, 32767] on one side",
            "one side forgot to divide by 32768: an offset of 10.397 in ln magnitude",
            "divide the samples by 32768",
            confounded=("gain",), confounded_with_audio=("gain",),
        ),
        Fault(
            "sign-flipped", "units", "upside down in value",
            "a negated mel, or per-bin norms that are negative (Tortoise, XTTS)",
            "multiply by -1, or undo the norms",
            catch_all=True,
        ),
        Fault(
            "log-missing", "units", "linear on one side, without the logarithm",
            "the logarithm was left out, or exp was taken once too often",
            "take the logarithm with the front end's guard",
        ),
        Fault(
            "raised-floor", "units", "cut off at a higher floor",
            "another guard before the logarithm (1e-2 against 1e-5): pauses and high bins are flat",
            "use one guard in both front ends",
            "calib frontends diff A B",
            severity="warn",
        ),
        Fault(
            "power-floor", "units", "of power, cut off at a floor meant for magnitude",
            "power clamped at 1e-5 where magnitude is: slope 2 above the floor, flat below (Tortoise, XTTS)",
            "take the same power and guard in both front ends",
            confounded=("log-power",),
        ),
        Fault(
            "clipped", "units", "cut off at a ceiling",
            "a fixed range (clip_norm, tanh, sigmoid) that the mels exceed",
            "widen the range or remove the clip",
            severity="warn",
        ),
        Fault(
            "level-per-utterance", "units", "at another level in each utterance",
            "peak or loudness normalisation on one side only: an offset for each utterance",
            "level the audio the same way in training and here",
            confounded=("minmax-per-utterance",), confounded_with_audio=("minmax-per-utterance",), severity="warn",
            catch_all=True,
        ),
        Fault(
            "level-drift", "units", "at a level that drifts along each utterance",
            "an automatic gain control, a running mean or normalisation on one side, or a decoder whose errors add up",
            "look for what adapts along the utterance: gain control and running normalisation in both front ends, then the decoder",
            confounded=(), severity="warn",
        ),
        # --- model ----------------------------------------------------------------------------------------------
        Fault(
            "collapsed", "model", "collapsed to a constant or a fixed spectrum",
            "the loader fed empty or zero mels, the decoder was not restored, or the masks are wrong",
            "look at a training batch, then at the restored weights, then at the masks",
            "calib check data SOURCE",
            # A network that was never trained may hardly move: the reference model's, at 0 %, by .08 of the target.
            confounded=("untrained",), confounded_with_audio=("untrained",),
        ),
        Fault(
            "text-ignored", "model", "speech, but not of this text",
            "the text does not reach the decoder: masks, attention, or conditioning",
            "swap the text and see whether the prediction changes",
            confounded=_others(_NOTHING_LEARNED, "text-ignored"),
            confounded_with_audio=_others(_NOTHING_LEARNED, "text-ignored"),
        ),
        Fault(
            "untrained", "model", "unrelated to the target",
            "an untrained or unrestored network: its output moves, but not with the speech",
            "check that the checkpoint was restored, by module",
            confounded=(*_others(_NOTHING_LEARNED, "untrained"), "collapsed"),
            confounded_with_audio=(*_others(_NOTHING_LEARNED, "untrained"), "collapsed"), catch_all=True,
        ),
        Fault(
            "oversmoothed-time", "model", "smoothed over time, beyond what an uncertain model would do",
            "averaging over frames: a large reduction factor, a smoothing post-filter, or attention spread over many frames",
            "look for smoothing after the decoder; a post-net or a GAN loss restores detail",
            severity="warn",
        ),
        Fault(
            "oversmoothed-frequency", "model", "smoothed over frequency",
            "too few mel bins somewhere on the way, or a blur over bins",
            "look for a change in the number of bins, or interpolation between banks",
            severity="warn",
        ),
        # --- what PAIRS and audio cannot show -------------------------------------------------------------------
        Fault(
            "dropout-on", "model", "random: two passes differ",
            "dropout was left on in inference", "switch the model to evaluation mode", needs="model", severity="warn",
        ),
        Fault(
            "weights-not-restored", "model", "that of a network whose weights were never restored",
            "a checkpoint with other names or shapes was loaded without complaint",
            "compare the weights with a fresh initialisation", needs="model",
        ),
        Fault(
            "causality-leak", "model", "made with sight of the future",
            "inverted or missing masks under teacher forcing",
            "disturb future target frames and see whether past predictions move", needs="model",
        ),
        Fault(
            "attention-failure", "model", "right under teacher forcing, gibberish free running",
            "attention that never learned to move by itself", "judge the free-running prediction",
            "calib teacher-force SOURCE --free-running", needs="free-running",
        ),
        Fault(
            "early-stop", "model", "cut short when free running",
            "the stop token fires early", "compare lengths of free-running prediction and target",
            "calib teacher-force SOURCE --free-running", needs="free-running",
        ),
        Fault(
            "untrained-vocoder", "model", "fine, but the vocoder is not",
            "a vocoder that was never trained, or trained on another front end",
            "vocode the true mels (copy synthesis)", "calib check vocoder SOURCE --vocoder SPEC", needs="vocoder",
        ),
    )
}  # fmt: skip

# What two faults together are called: an answer that names the parts of a fault that is not listed is right.
MADE_OF: dict[str, tuple[str, ...]] = {
    "power-floor": ("raised-floor", "log-power"),
    "range-normalised": ("raised-floor", "clipped", "wrong-stats"),  # fixed ranges are cut at their ends
    "sample-rate": ("time-stretch", *_others(_BANKS, "sample-rate")),
}

# What one scale and one offset for all bins and utterances repair. Power against magnitude is not among it: after the
# best line .079 of a ln unit is left, more than a good model's own error.
GLOBAL_AFFINE = frozenset(
    {
        "normalised", "normalised-twice", "denormalised-twice", "log-base", "decibel", "range-normalised",
        "mean-std-swapped", "wrong-stats", "gain", "int16-scale", "sign-flipped",
    }
)  # fmt: skip

# ... and what a scale and offset for each bin repair beside that.
BY_BIN = frozenset({"normalised-per-bin", "shrunken", "equaliser", "area-norm", "pre-emphasis"})
