"""What the host does with text in front of the chip: pieces of words to ids, ids to embeddings.

A model of text reads ``LN(word[ids] + place)``, a table that no neuron holds. With a
:class:`TextPart` an artifact takes sentences: ``neurocompile run MODEL.nca --text "a warm film"``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

__all__ = ["PADDING", "SPECIAL", "START", "UNKNOWN", "TextPart", "Tokenizer", "words"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]")
"""The first pieces of a vocabulary."""
PADDING, UNKNOWN, START = range(3)
"""Their ids: what fills a sample, what has no piece, and the first token of each sample."""

_CLITICS = re.compile(r"(?<=\w)(n't|'s|'re|'ve|'ll|'d|'m)\b")
_WORDS = re.compile(r"n't|'\w+|\w+|[^\w\s]")
_LONGEST_WORD = 64
_LARGEST = 1 << 28
"""Elements of the table."""


def words(text: str) -> list[str]:
    """Lower-case words, clitics (``n't``, ``'s``) and signs, each one item."""
    return _WORDS.findall(_CLITICS.sub(r" \1", text.lower()))


class Tokenizer:
    """``[CLS]`` and the pieces of a sentence, padded or cut to ``length`` ids.

    A word is cut into the longest pieces of the vocabulary from the left, all but the first of them
    written ``##piece``, as WordPiece does.
    """

    def __init__(self, vocabulary: Sequence[str], length: int) -> None:
        self.length = length
        self._ids = {piece: i for i, piece in enumerate(vocabulary)}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Ids int64 (samples, length)."""
        return np.array([self._one(text) for text in texts], np.int64).reshape(-1, self.length)

    def _one(self, text: str) -> list[int]:
        ids = [START]
        for word in words(text):
            if len(ids) >= self.length:
                break
            ids += self._pieces(word)
        return (ids + [PADDING] * self.length)[: self.length]

    def _pieces(self, word: str) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(word) <= _LONGEST_WORD:
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else "##" + word[start:end]
                if piece in self._ids:
                    found.append(self._ids[piece])
                    start = end
                    break
            else:
                return [UNKNOWN]
        return found or [UNKNOWN]


@dataclass(frozen=True, eq=False)
class TextPart:
    """Sentences to the chip's input: a vocabulary and the tables of a BERT's embeddings.

    ValueError where tables and vocabulary do not fit each other, or hold what is not finite.
    """

    vocabulary: tuple[str, ...]
    """:data:`SPECIAL` first."""
    table: np.ndarray
    """Float32 (pieces, C)."""
    places: np.ndarray
    """Float32 (tokens, C): of positions, and of the segment."""
    weight: np.ndarray
    """Float32 (C,), of the normalization."""
    bias: np.ndarray
    """Float32 (C,)."""
    epsilon: float

    def __post_init__(self) -> None:
        arrays = self.table, self.places, self.weight, self.bias
        channels = self.table.shape[-1:]
        if any(a.dtype != np.float32 or not np.isfinite(a).all() for a in arrays):
            raise ValueError("tables of text are finite float32")
        if self.table.ndim != 2 or self.places.ndim != 2 or self.table.size > _LARGEST:
            raise ValueError("tables of text have a row a piece and a row a place")
        if any(a.shape[-1:] != channels for a in arrays) or self.weight.ndim + self.bias.ndim != 2:
            raise ValueError("tables of text have different numbers of channels")
        pieces = self.vocabulary
        if len(pieces) != len(self.table) or len(set(pieces)) != len(pieces):
            raise ValueError("the vocabulary has not one piece for each row of its table")
        if pieces[: len(SPECIAL)] != SPECIAL or not len(self.places):
            raise ValueError(f"a vocabulary begins with {', '.join(SPECIAL)}")
        if not 0 <= self.epsilon < np.inf:
            raise ValueError("epsilon is a number >= 0")

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of sentences, float32 (samples, tokens, C)."""
        x = self.table[self.tokenizer(texts)].astype(np.float64) + self.places
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon)
        return (x * self.weight + self.bias).astype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample: (tokens, C)."""
        return self.places.shape

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Sentences to ids."""
        return Tokenizer(self.vocabulary, len(self.places))

    @property
    def content(self) -> bytes:
        """As a member of an artifact: safetensors."""
        pieces = msgspec.json.encode(self.vocabulary)
        return save(
            {
                "bias": self.bias,
                "epsilon": np.array([self.epsilon], np.float64),
                "places": np.ascontiguousarray(self.places),
                "table": np.ascontiguousarray(self.table),
                "vocabulary": np.frombuffer(pieces, np.uint8),
                "weight": self.weight,
            }
        )

    @classmethod
    def of(cls, content: bytes) -> TextPart:
        """ValueError for what :attr:`content` never is."""
        try:
            found = load(content)
            return cls(
                vocabulary=msgspec.json.decode(found["vocabulary"].tobytes(), type=tuple[str, ...]),
                table=found["table"],
                places=found["places"],
                weight=found["weight"],
                bias=found["bias"],
                epsilon=float(found["epsilon"].reshape(())),
            )
        except (SafetensorError, KeyError, msgspec.MsgspecError) as error:
            raise ValueError(f"the text part is malformed: {error}") from error
