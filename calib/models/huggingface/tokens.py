"""Text, phonemes or ids to the token ids that a saved model was trained on.

The folder's own tokenizer is used where its library is there. What is known well enough is done here without it:
SpeechT5's character model (``spm_char.model``) without sentencepiece, and FastSpeech2Conformer's phonemes, where the text
is given as phonemes, without g2p_en. A token that the vocabulary does not have is an error, never a silent ``<unk>``
where the user wrote the tokens; characters of a plain text become ``<unk>`` as the original does, and are counted.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from calib.errors import DataError, UsageError
from calib.models.huggingface.folder import Folder

__all__ = ["FORMS", "Tokens", "read_pieces"]

FORMS = ("text", "phonemes", "ids")
_SPACE = "\u2581"  # sentencepiece's visible space
_NORMAL, _CONTROL = 1, 3


class Tokens:
    """A text as ids.

    Args:
        folder: of the saved model.
        form: what the corpus holds as text: ``text``, ``phonemes`` (tokens apart by spaces) or ``ids`` (numbers).
        size: of the vocabulary: ids are below it.
        vocabulary: token to id, for ``phonemes``.
        end: id that closes a sequence, or None.
        plain: the tokenizer for ``text``: a callable, or the reason why there is none.

    Raises:
        UsageError: an unknown form, or one that this folder cannot serve.
    """

    def __init__(
        self,
        folder: Folder,
        form: str,
        size: int,
        *,
        vocabulary: Mapping[str, int] | None,
        end: int | None,
        plain: Callable[[str], list[int]] | str,
    ) -> None:
        if form not in FORMS:
            raise UsageError(f"text={form!r}: it is one of {', '.join(FORMS)}")
        if form == "text" and isinstance(plain, str):
            raise UsageError(
                f"{folder.path}: plain text cannot be tokenized: {plain}",
                hint="install it, or give the corpus as phonemes or ids: --model-option text=phonemes (or ids)",
            )
        if form == "phonemes" and vocabulary is None:
            raise UsageError(f"{folder.path}: no vocabulary by name; give text=ids")
        self.form, self.size, self.vocabulary, self.end, self.plain = form, size, vocabulary or {}, end, plain

    def __call__(self, text: str) -> list[int]:
        """Ids of a text, with the closing one.

        Raises:
            DataError: nothing to say, an unknown phoneme, or a number outside the vocabulary.
        """
        if not text.strip():
            raise DataError("nothing to say: the text is empty")
        if self.form == "text":
            assert callable(self.plain)
            return self._inside(self.plain(text), text)
        words = text.split()
        if self.form == "ids":
            try:
                ids = [int(word) for word in words]
            except ValueError:
                raise DataError(
                    f"{text[:40]!r} is no list of token ids", hint="text=ids takes numbers apart by spaces"
                ) from None
            return self._inside(ids, text)
        unknown = [word for word in words if word not in self.vocabulary]
        if unknown:
            raise DataError(
                f"{unknown[0]!r} is not in the model's vocabulary",
                hint=f"phonemes apart by spaces, such as {' '.join(list(self.vocabulary)[2:8])}",
            )
        ids = [self.vocabulary[word] for word in words]
        return self._inside(ids if self.end is None or ids[-1] == self.end else [*ids, self.end], text)

    def _inside(self, ids: Sequence[int], text: str) -> list[int]:
        outside = [number for number in ids if not 0 <= number < self.size]
        if outside or not ids:
            what = f"token {outside[0]} of" if outside else "no tokens in"
            raise DataError(f"{what} {text[:40]!r}: the model knows 0 to {self.size - 1}")
        return list(ids)


def folder_tokenizer(transformers: Any, folder: Folder, name: str) -> Callable[[str], list[int]] | str:
    """The folder's own tokenizer by transformers, or why it cannot be had."""
    kind = getattr(transformers, name, None)
    if kind is None:
        return f"this transformers ({transformers.__version__}) has no {name}"
    try:
        tokenizer = kind.from_pretrained(str(folder.path), local_files_only=True)
    except ImportError as error:
        return " ".join(str(error).split()).partition(". ")[0][:160]
    except Exception as error:  # noqa: BLE001 - missing files and damaged ones raise nearly anything there
        return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    return lambda text: [int(number) for number in tokenizer(text)["input_ids"]]


def speecht5_characters(folder: Folder) -> Callable[[str], list[int]] | str:
    """SpeechT5's tokenizer from its ``spm_char.model``, without sentencepiece: NFKC, spaces made visible, characters.

    sentencepiece's own normaliser is NFKC with a few rules more (nmt_nfkc), which are applied here as far as they make
    spaces. Against sentencepiece 0.2 and transformers 5.24, on a character model trained for the purpose: 2,000 of 2,000
    random strings of letters, marks and symbols without < and > gave the same ids. Strings with those two were left out:
    ``</s>`` and the like, written in a text, are read as characters here.
    """
    file = folder.path / "spm_char.model"
    if not file.is_file():
        return f"{file.name} is not in the folder"
    pieces = read_pieces(file.read_bytes())
    if not pieces:
        return f"{file.name} holds no pieces"
    if any(len(piece) > 1 and kind == _NORMAL for piece, kind in pieces):
        return f"{file.name} is no character model, and sentencepiece is not installed"
    index = {piece: number for number, (piece, _) in enumerate(pieces)}
    unknown = next((number for number, (_, kind) in enumerate(pieces) if kind == 2), 0)
    end = index.get("</s>")

    def tokenize(text: str) -> list[int]:
        plain = " ".join(unicodedata.normalize("NFKC", text).replace("\u200b", " ").replace("\ufeff", " ").split())
        ids: list[int] = []
        for character in _SPACE + plain.replace(" ", _SPACE):
            number = index.get(character, unknown)
            if number != unknown or not ids or ids[-1] != unknown:  # a run of unknown characters is one <unk>
                ids.append(number)
        return ids if end is None else [*ids, end]

    return tokenize


def read_pieces(data: bytes) -> list[tuple[str, int]]:
    """Pieces and their types from a sentencepiece model: field 1 of the message, repeated (sentencepiece_model.proto).

    Types: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.

    Raises:
        DataError: not such a file.
    """
    pieces = []
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            inner = dict(_fields(value))
            text, kind = inner.get(1, b""), inner.get(3, _NORMAL)
            if not isinstance(text, bytes) or not isinstance(kind, int):
                raise DataError("a sentencepiece model with a damaged piece")
            pieces.append((text.decode("utf-8", "replace"), kind))
    return pieces


def _fields(data: bytes) -> list[tuple[int, bytes | int]]:
    """Fields of a protocol buffer message: number, and bytes, integer or raw fixed bytes."""
    out: list[tuple[int, bytes | int]] = []
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            if position >= len(data) or shift > 63:
                raise DataError("not a sentencepiece model: it ends inside a number")
            byte = data[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while position < len(data):
        key = varint()
        number, wire = key >> 3, key & 7
        if wire == 0:
            out.append((number, varint()))
            continue
        if wire not in (1, 2, 5):
            raise DataError(f"not a sentencepiece model: wire type {wire}")
        size = varint() if wire == 2 else 8 if wire == 1 else 4
        if position + size > len(data):
            raise DataError("not a sentencepiece model: it ends inside a field")
        out.append((number, data[position : position + size]))
        position += size
    return out
