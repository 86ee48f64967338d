"""A text-to-speech model in Keras, judged by calib from an environment that has no TensorFlow.

    python examples/keras_model.py model.keras                    (in the Keras environment: builds a small random model)
    calib teacher-force HELDOUT --model examples/keras_model.py:factory --checkpoint model.keras \
        --model-python /path/to/keras/venv -o pairs               (in calib's: runs this file over there)

The model is autoregressive: characters and the mel of the frames before to the next frame, with attention between them.
The plug-in part is that of `calib new-adapter keras`, with a load report and padded batches added.
"""

# A plug-in is plain Python 3.8 and needs no annotations.
# ruff: noqa: ANN001, ANN201, ANN204, D102, D103, ARG002, B905, INP001

import sys

import numpy as np

VOCABULARY = "_ abcdefghijklmnopqrstuvwxyz'.,?!-"  # id 0 is padding
BINS = 80


def build(width=32, seed=0):
    """Token ids (B, N) and shifted mel (B, T, M) to mel (B, T, M)."""
    import keras

    keras.utils.set_random_seed(seed)
    text = keras.Input((None,), dtype="int32", name="text")
    before = keras.Input((None, BINS), name="before")
    known = keras.ops.not_equal(text, 0)
    # Padding is id 0, and its embedding is no zero: without this line the convolution reads it, and calib says so.
    encoded = keras.layers.Embedding(len(VOCABULARY), width, name="embedding")(text) * keras.ops.cast(
        known[..., None], "float32"
    )
    encoded = keras.layers.Conv1D(width, 5, padding="same", activation="relu", name="encoder")(encoded)
    state = keras.layers.GRU(width, return_sequences=True, name="decoder")(before)
    # One score a pair of frame and character; padding is left out of the softmax.
    seen = keras.layers.Attention(name="attention")([state, encoded], mask=[None, known])
    mel = keras.layers.Dense(BINS, name="output")(keras.layers.Concatenate()([state, seen]))
    return keras.Model([text, before], mel)


class KerasModel:
    """The plug-in: see docs/models.md for what each attribute means."""

    frontend = "hifigan"
    output_space = "raw"
    kind, autoregressive = "mean", True
    padding_safe = True

    def __init__(self, checkpoint, device):
        import keras

        self.keras = keras
        self.network = keras.saving.load_model(checkpoint, compile=False, safe_mode=True)
        self.remarks = [f"Keras {keras.__version__} on {keras.backend.backend()}"]

    def load_report(self):
        """Keras restores a whole file or raises, so all there is to say is what there is."""
        return {"restored": [weight.path for weight in self.network.weights], "missing": []}

    def ids(self, text):
        found = [VOCABULARY.index(c) for c in text.lower() if c in VOCABULARY]
        if not found:
            raise DataError(f"no character of {text[:40]!r} is in the model's vocabulary")
        return found

    def predict(self, ids, before):
        out = self.network([np.asarray(ids, "int32"), np.asarray(before, "float32")], training=False)
        return np.asarray(self.keras.ops.convert_to_numpy(out), "float32")

    def teacher_force(self, batch):
        ids = [self.ids(u.text) for u in batch]
        text = np.zeros((len(batch), max(map(len, ids))), "int32")
        before = np.zeros((len(batch), max(len(u.mel) for u in batch), BINS), "float32")
        for row, (u, tokens) in enumerate(zip(batch, ids)):
            text[row, : len(tokens)] = tokens
            before[row, 1 : len(u.mel)] = u.mel[:-1]
        out = self.predict(text, before)
        return [mel[: len(u.mel)] for mel, u in zip(out, batch)]

    def generate(self, text, *, speaker_audio, language, temperature, top_p, seed):
        """No stop token: eight frames a character. The whole past is run again for each frame, which is slow and simple."""
        ids = [self.ids(text)]
        mel = np.zeros((1, 1 + 8 * len(ids[0]), BINS), "float32")
        for t in range(1, mel.shape[1]):
            mel[0, t] = self.predict(ids, mel[:, :t])[0, -1]
        return mel[0, 1:]


class DataError(Exception):
    """calib skips an utterance that raises an error of this name, counts it and goes on."""


def factory(checkpoint, device):
    return KerasModel(checkpoint, device)


if __name__ == "__main__":
    build().save(sys.argv[1])
