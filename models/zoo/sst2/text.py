"""Sentences to token ids: words and pieces of words, as BERT's WordPiece, with a vocabulary made of
the training sentences.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

__all__ = ["Tokenizer", "make_vocabulary"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]")
_CLITICS = re.compile(r"(?<=\w)(n't|'s|'re|'ve|'ll|'d|'m)\b")
_WORDS = re.compile(r"n't|'\w+|\w+|[^\w\s]")


def words(text: str) -> list[str]:
    """Lower-case words, clitics (``n't``, ``'s``) and signs, each one item."""
    return _WORDS.findall(_CLITICS.sub(r" \1", text.lower()))


def make_vocabulary(texts: Iterable[str], least: int = 2, pieces: int = 400) -> list[str]:
    """Special tokens, the words that occur ``least`` times or more, and the ``pieces`` endings
    ("##ing") that most of the words share.
    """
    counts = Counter(word for text in texts for word in words(text))
    kept = sorted((w for w, n in counts.items() if n >= least), key=lambda w: (-counts[w], w))
    known = set(kept)
    endings: Counter[str] = Counter()
    for word in counts:
        endings.update("##" + word[cut:] for cut in range(2, len(word)) if word[:cut] in known)
    common = sorted(endings, key=lambda e: (-endings[e], e))[:pieces]
    return [*SPECIAL, *kept, *common]


class Tokenizer:
    """``[CLS]`` and the pieces of a sentence, padded or cut to ``length`` ids."""

    def __init__(self, vocabulary: list[str], length: int) -> None:
        self.vocabulary, self.length = vocabulary, length
        self._ids = {piece: i for i, piece in enumerate(vocabulary)}

    def __call__(self, texts: Iterable[str]) -> np.ndarray:
        """int64 (samples, length)."""
        return np.array([self._one(text) for text in texts], np.int64).reshape(-1, self.length)

    def _one(self, text: str) -> list[int]:
        ids = [2]
        for word in words(text):
            ids += self._pieces(word)
        return (ids + [0] * self.length)[: self.length]

    def _pieces(self, word: str) -> list[int]:
        """Longest pieces first, from the left; ``[UNK]`` for a word that has none."""
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else "##" + word[start:end]
                if piece in self._ids:
                    found.append(self._ids[piece])
                    start = end
                    break
            else:
                return [1]
        return found
