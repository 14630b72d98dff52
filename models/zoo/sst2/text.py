"""A vocabulary of words and pieces of words, made of the training sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from neurocompile.host.text import SPECIAL, words

__all__ = ["make_vocabulary"]


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
