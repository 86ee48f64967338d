"""The reference model with one fault planted in it: each is what a real mistake does to a real model."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from calib.models.reference import factory
from calib.models.reference.plugin import ReferenceModel


class Planted:
    """The trained reference model, and room for a fault. Attributes that are not overridden are the model's own."""

    def __init__(self) -> None:
        self.inner: ReferenceModel = factory("100", "cpu")
        self.frontend = self.inner.frontend
        self.output_space, self.kind = "raw", "mean"
        self.autoregressive: bool | None = True
        self.padding_safe = True
        self.module = self.inner.module
        self.fresh = self.inner.fresh

    def load_report(self) -> Any:
        return self.inner.load_report()

    def teacher_force(self, batch: Any) -> list[np.ndarray]:
        return self.inner.teacher_force(batch)

    def generate(self, text: str, **options: Any) -> np.ndarray:
        return self.inner.generate(text, **options)


class InvertedMask(Planted):
    """Attention over the future: every frame also gets the mean of the true frames after it."""

    def teacher_force(self, batch):
        out = []
        for mel, u in zip(super().teacher_force(batch), batch, strict=True):
            after = np.cumsum(u.mel[::-1], axis=0)[::-1] / np.arange(len(u.mel), 0, -1)[:, None]
            out.append((mel + 0.2 * after).astype(np.float32))
        return out


class NotShifted(Planted):
    """The decoder's input is the frame that it is to predict."""

    def teacher_force(self, batch):
        return super().teacher_force([dataclasses.replace(u, mel=np.vstack([u.mel[1:], u.mel[-1:]])) for u in batch])


class PostNet(Planted):
    """No fault: a smoother over ten frames, as every Tacotron has."""

    def teacher_force(self, batch):
        kernel = np.ones(21) / 21
        return [
            (0.8 * mel + 0.2 * np.apply_along_axis(np.convolve, 0, mel, kernel, "same")).astype(np.float32)
            for mel in super().teacher_force(batch)
        ]


class TextIgnored(Planted):
    """The encoder's output never arrives: whatever is asked for, the decoder hears the same words."""

    def teacher_force(self, batch):
        return super().teacher_force(
            [dataclasses.replace(u, text="one two three", id=f"{u.id} {len(u.mel)}") for u in batch]
        )


def syllables(text):
    """As many words as the text has, all alike: how long it is, and nothing of what it says."""
    return " ".join(["la"] * len(text.split()))


class ReadsPaddingOnly(Planted):
    """An inverted mask over the text: the attention sees the padding, and so knows how long the text is; its words never arrive."""

    def teacher_force(self, batch):
        return super().teacher_force(
            [dataclasses.replace(u, text=syllables(u.text), id=f"{u.id} {len(u.mel)}") for u in batch]
        )


class ReadsOtherWords(Planted):
    """A tokenizer that is not the training's: every text arrives as some other one of the same length."""

    def teacher_force(self, batch):
        words = [
            "seven",
            "ships",
            "went",
            "slowly",
            "over",
            "the",
            "quiet",
            "northern",
            "water",
            "before",
            "winter",
            "came",
            "back",
            "again",
        ]
        wrong = [dataclasses.replace(u, text=" ".join(words[hash_of(word) % len(words)] for word in u.text.split()), id=f"{u.id} {u.text}") for u in batch]  # fmt: skip
        return super().teacher_force(wrong)


def hash_of(word):
    return sum(ord(letter) * 31**k for k, letter in enumerate(word))


class SpeaksLengthOnly(Planted):
    """Free running does not hear the text: a sound of the right length comes out."""

    def generate(self, text, **options):
        return super().generate(syllables(text), **options)


class SpeaksNoise(Planted):
    """Free running of random weights: as long as it should be, and unlike any speech."""

    def generate(self, text, **options):
        mel = super().generate(text, **options)
        noise = np.random.default_rng(len(text)).normal(0, 1, mel.shape)
        smooth = np.apply_along_axis(np.convolve, 0, noise, np.ones(9) / 9, "same")
        return (mel.mean(0) + 3 * smooth).astype(np.float32)


class DeadConditioning(Planted):
    """The speaker's vector is always the default one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner.module.embed = lambda *_: self.inner.module.default_speaker[None]


class DropoutOn(Planted):
    """train() was left on: a tenth of the output is dropped, otherwise each time."""

    def teacher_force(self, batch):
        return [
            np.asarray(torch.nn.functional.dropout(torch.from_numpy(mel.copy()), 0.1, training=True))
            for mel in super().teacher_force(batch)
        ]


class PaddingLeaks(Planted):
    """A convolution without a mask after the last layer: the padding of the longest utterance comes in from the right."""

    def teacher_force(self, batch):
        out, longest = [], max(len(u.mel) for u in batch)
        for mel in super().teacher_force(batch):
            padded = np.vstack(
                [mel, np.zeros((longest - len(mel) + 4, mel.shape[1]), np.float32) - 2.0 * (longest > len(mel))]
            )
            smooth = sum(padded[k : k + len(mel)] for k in range(5)) / 5
            out.append(smooth.astype(np.float32))
        return out


class UnrestoredDecoder(Planted):
    """load_state_dict(strict=False) with another name for the decoder, and no report of it."""

    load_report = None  # the trainer printed nothing

    def __init__(self) -> None:
        super().__init__()
        del self.__dict__["fresh"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(77)
            self.inner.module.decoder.reset_parameters()

    def fresh(self, seed):
        return self.inner.fresh(seed)


class NeverTrained(Planted):
    """The checkpoint of the first step was taken for the last."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = factory("0", "cpu")
        self.module, self.fresh = self.inner.module, self.inner.fresh


class Collapsed(Planted):
    """Trained until it says one spectrum: its weights have moved, and its output moves less than an untrained one's."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = factory("collapsed", "cpu")
        self.module, self.fresh = self.inner.module, self.inner.fresh


class NeverStepped(Planted):
    """The norms were left out of the optimiser: ones and zeros, as they were made."""

    def __init__(self) -> None:
        super().__init__()
        for norm in self.inner.module.norms:
            norm.reset_parameters()


class ReportedMissing(Planted):
    """An unrestored decoder, with an honest report."""

    def load_report(self):
        report = dict(self.inner.load_report())
        lost = [name for name in report["restored"] if name.startswith("decoder.")]
        return {**report, "restored": [n for n in report["restored"] if n not in lost], "missing": lost}


class DrawnAnew(Planted):
    """Part of the decoder is not in the checkpoint: every load draws it again."""

    def __init__(self) -> None:
        super().__init__()
        self.inner.module.decoder.reset_parameters()


class ZeroHead(Planted):
    """The output layer learnt to say zero: its input is dead, and only the mean spectrum comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.inner.module.output.weight.data.zero_()


class SeedIgnored(Planted):
    """Free running draws from a generator of its own that nobody seeds."""

    calls = 0

    def generate(self, text, **options):
        self.calls += 1
        return super().generate(text, **{**options, "seed": options["seed"] + self.calls})


class TemperatureUnused(Planted):
    """Accepted and unused, as in the script that the project was born from."""

    def generate(self, text, **options):
        return super().generate(text, **{**options, "temperature": 1.0, "top_p": 1.0})


class NeverStops(Planted):
    """The stop token never comes: the last frame stands until the limit."""

    def generate(self, text, **options):
        mel = super().generate(text, **options)
        return np.vstack([mel, np.repeat(mel[-1:], 1500 - len(mel), axis=0)])


class StopsEarly(Planted):
    """The stop token comes after a third."""

    def generate(self, text, **options):
        mel = super().generate(text, **options)
        return mel[: len(mel) // 3]


class Repeats(Planted):
    """Attention jumps back: the second quarter is said three times."""

    def generate(self, text, **options):
        mel = super().generate(text, **options)
        quarter = mel[len(mel) // 4 : len(mel) // 2]
        return np.vstack([mel[: len(mel) // 2], quarter, quarter, mel[len(mel) // 2 :]])


class Skips(Planted):
    """Attention jumps on: the middle third is not said."""

    def generate(self, text, **options):
        mel = super().generate(text, **options)
        return np.vstack([mel[: len(mel) // 3], mel[2 * len(mel) // 3 :]])
