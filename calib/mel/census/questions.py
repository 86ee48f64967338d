"""Every question that is asked of a corpus, in words, the gravest first. No question is ever left out of a result."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EARLY", "IN_UNIT", "QUESTIONS", "Question"]


@dataclass(frozen=True)
class Question:
    """The words around a number.

    Args:
        title: what is asked, for people; what is counted, where ``said`` is "".
        said: what is counted, where the title does not say it.
        why: why it matters, in one sentence.
        next: what to do when it is not as it should be.
    """

    title: str
    said: str
    why: str
    next: str


# What a loader that swallows errors leaves behind: told at once, not at the end of the pass.
EARLY = (
    "cancelling-channels",
    "all-zero",
    "one-frame",
    "constant",
    "non-finite",
    "unreadable",
    "bins",
    "integer-scale",
    "mel-scale",
    "whole-numbers",
)

# What is read in the front end's unit, and means nothing of mels that are in another.
IN_UNIT = ("floor", "dead-bins", "leading-silence", "trailing-silence", "level", "speaker-level")

QUESTIONS: dict[str, Question] = {
    "cancelling-channels": Question(
        "channels that cancel",
        "recordings whose channels are each other's negative: averaged, nothing or little is left",
        "one channel was stored upside down; calib and most loaders average the channels, and train on silence",
        "keep one channel: sox IN.wav OUT.wav remix 1, or in Python x[:, 0]",
    ),
    "all-zero": Question(
        "all-zero utterances",
        "",
        "a model that is trained on zeros learns to output zeros; zeros are what many loaders return for a file that they did not find",
        "look for these files where the loader looks for them, and make the loader stop instead of returning zeros",
    ),
    "one-frame": Question(
        "mels of one frame",
        "",
        "no utterance is 1 frame long; loaders return that for a file that they did not find",
        "look for these files where the loader looks for them, and make their mels again",
    ),
    "constant": Question(
        "constant utterances",
        "utterances of one value, or of one frame again and again",
        "there is no speech in them",
        "make these files again, and look at what wrote them",
    ),
    "non-finite": Question(
        "utterances with NaN or infinite values",
        "",
        "one NaN in a batch makes the loss NaN, and then every weight",
        "make these files again; a logarithm of 0 without a floor is the usual cause",
    ),
    "unreadable": Question(
        "files that cannot be used",
        "utterances with one",
        "a loader skips such files silently, stops, or puts zeros in their place",
        "repair them, or take them out of the index",
    ),
    "bins": Question(
        "number of mel bins",
        "mels with another number of bins",
        "they come from another front end, or are stored the other way round",
        "make them again with the front end of the others; if they are transposed, store them like the others",
    ),
    "integer-scale": Question(
        "audio beyond full scale",
        "",
        "samples of -32768 to 32767 where -1 to 1 is expected lift a log mel by ln 32768 = 10.4",
        "divide the samples by 32768 where they are read or written",
    ),
    "domain": Question(
        "unit of the mels",
        "",
        "a model or a vocoder that expects another unit turns good mels into noise",
        "find out what wrote them; name their front end with --frontend, or make them again with the model's",
    ),
    "mel-scale": Question(
        "mels beyond full scale",
        "mels with values that audio in [-1, 1] cannot give",
        "the mels are in another unit, or were made from audio of -32768 to 32767, which lifts a ln mel by 10.4",
        "compare the unit of the mels; divide samples by 32768 before the mel is made",
    ),
    "whole-numbers": Question(
        "mels of whole numbers",
        "",
        "what lies between the whole numbers is lost",
        "save mels as float32, unscaled",
    ),
    "domain-mixed": Question(
        "one unit for all mels",
        "mels on another scale or at another level than the rest",
        "a corpus of two units teaches neither",
        "make all mels with one front end; look at these first",
    ),
    "text-match": Question(
        "texts belong to the audio",
        "",
        "texts of other utterances (an index shifted by a line, a wrong sort) teach the model to ignore the text",
        "listen to a few and read along; look for the first line where text and audio part",
    ),
    "duplicate-content": Question(
        "same content twice",
        "utterances whose samples or values occur again",
        "a copy on both sides of a split makes the score untrue, and of two texts for one recording one is wrong",
        "keep one of each",
    ),
    "near-silent": Question(
        "nearly silent utterances",
        "",
        "the model learns silence for a text that is spoken",
        "listen to them; take them out, or go back to the recordings",
    ),
    "short": Question(
        "utterances too short for speech",
        "",
        "no word fits in them: they were cut wrongly, or are what a failed read left",
        "listen to them, and cut them again",
    ),
    "padding": Question(
        "padding (identical tails)",
        "utterances with a long one",
        "padding that is taken for speech teaches the model to be constant, and flatters every error measure",
        "cut them to their true lengths, and store the lengths beside padded batches",
    ),
    "empty-text": Question(
        "empty texts",
        "",
        "speech without a text teaches the model to ignore the text",
        "transcribe them, or take them out",
    ),
    "stated-duration": Question(
        "durations in the index",
        "utterances longer or shorter than the index says",
        "the file was cut, resampled or replaced after the index was made, or its header states a wrong rate",
        "make the index again, and listen to the worst",
    ),
    "dead-bins": Question(
        "dead mel bins",
        "",
        "a bin that never moves has no sd to normalise by, and a vocoder hears nothing in it",
        "compare the bandwidth of the audio with fmin and fmax, and n_fft with the number of bins",
    ),
    "floor": Question(
        "values at the floor",
        "",
        "values cut off at the floor hold nothing to learn, and bias a fit (10 % of them: a slope of 0.94 where 1 is true)",
        "look at digital silence, at audio of a lower sample rate than the front end's, and at the front end's floor",
    ),
    "sample-rate": Question(
        "sample rates",
        "recordings at another rate",
        "calib resamples; a training script that does not trains on the wrong speed and pitch",
        "resample the corpus once, to the rate of the front end",
    ),
    "channels": Question(
        "channels",
        "recordings with more than one",
        "calib averages the channels; other loaders take the first, or read them as one signal of twice the length",
        "convert them to mono",
    ),
    "clipping": Question(
        "clipped recordings",
        "",
        "clipping is a buzz that the model learns as part of the voice",
        "go back to the recordings before the gain; take the worst out",
    ),
    "dc-offset": Question(
        "DC offset",
        "recordings that are not centred on 0",
        "an offset fills the lowest mel bins and hides silence",
        "high-pass the corpus at 20 to 40 Hz",
    ),
    "leading-silence": Question(
        "leading silence",
        "utterances with a long one",
        "long silences teach the attention to wander",
        "trim them to about 0.1 s",
    ),
    "trailing-silence": Question(
        "trailing silence",
        "utterances with a long one",
        "long silences teach the model to stop late",
        "trim them to about 0.1 s",
    ),
    "text-rate": Question(
        "texts too long or too short for their audio",
        "",
        "the text is not what is said: cut off, another utterance's, or a note",
        "listen to these and read along",
    ),
    "length": Question(
        "unusual lengths",
        "",
        "very long utterances fill the memory and lose the attention; very short ones are often cut wrongly",
        "listen to them; split the long ones at pauses",
    ),
    "level": Question(
        "utterances far from their speaker's level",
        "",
        "the model cannot know from a text how loud it was said",
        "bring the utterances of a speaker to one level",
    ),
    "speaker-level": Question(
        "level of the speakers",
        "",
        "one mean and sd for all does not fit speakers at different levels",
        "bring all speakers to one level, or normalise by speaker",
    ),
    "speakers": Question(
        "speakers with few utterances",
        "",
        "a voice is not learned from so few",
        "find more of them, or leave these speakers out",
    ),
    "duplicate-text": Question(
        "same text twice",
        "utterances whose text the same speaker says again",
        "right for digits and commands; in read speech it is often one text pasted into two lines",
        "unless sentences were recorded twice, listen to these and correct their texts",
    ),
}
