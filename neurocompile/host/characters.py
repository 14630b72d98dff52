"""Characters in front of a chip whose steps are tokens: a vocabulary of single characters, and the row of
a table that each one is.

A program with a :class:`CharacterPart` takes text, and writes it (:mod:`neurocompile.host.generate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from neurocompile.host.text import TextPart

__all__ = ["CharacterPart", "text_part_of"]

_LONGEST = 1 << 20
"""Characters of a sample."""


@dataclass(frozen=True, eq=False)
class CharacterPart:
    """Text to the chip's input: one character a step.

    ValueError where vocabulary and table do not fit each other, or hold what is not finite.
    """

    vocabulary: str
    """Each character once; what is not in it counts as its second, and fills a sample."""
    table: np.ndarray
    """Float32 (characters, C)."""
    length: int
    """Characters of a sample, T."""

    def __post_init__(self) -> None:
        known = self.vocabulary
        if len(set(known)) != len(known) or len(known) < 2:
            raise ValueError("a vocabulary has two characters or more, each once")
        if self.table.dtype != np.float32 or not np.isfinite(self.table).all():
            raise ValueError("a table of characters is finite float32")
        if self.table.ndim != 2 or len(self.table) != len(known):
            raise ValueError("the table has not one row for each character")
        if not 1 <= self.length <= _LONGEST:
            raise ValueError(f"a sample has 1 to {_LONGEST:,} characters")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample: (T, C)."""
        return self.length, self.table.shape[1]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {c: k for k, c in enumerate(self.vocabulary)}

    def known(self, text: str) -> str:
        """``text`` in lower case, with what the vocabulary lacks in the place of its second."""
        return "".join(c if c in self._ids else self.vocabulary[1] for c in text.lower())

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Float32 (samples, T, C): the last T characters of each text, filled at the end."""
        cut = [
            self.known(text)[-self.length :].ljust(self.length, self.vocabulary[1])
            for text in texts
        ]
        ids = np.array([[self._ids[c] for c in text] for text in cut], np.int64)
        return self.table[ids.reshape(len(cut), self.length)]

    @property
    def content(self) -> bytes:
        """As a member of an artifact: safetensors."""
        return save(
            {
                "characters": np.frombuffer(self.vocabulary.encode(), np.uint8),
                "length": np.array([self.length], np.int64),
                "table": np.ascontiguousarray(self.table),
            }
        )

    @classmethod
    def of(cls, found: dict[str, np.ndarray]) -> CharacterPart:
        """Of the tensors of :attr:`content`; KeyError or ValueError for what they never are."""
        length = found["length"]
        if length.shape != (1,) or length.dtype != np.int64:
            raise ValueError("the length is one integer")
        return cls(found["characters"].tobytes().decode(), found["table"], int(length[0]))


def text_part_of(content: bytes) -> TextPart | CharacterPart:
    """What an artifact holds in front of its chip; ValueError for what no part of ours writes."""
    try:
        found = load(content)
        if "characters" not in found:
            return TextPart.of(content)
        return CharacterPart.of(found)
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"the text part is malformed: {error}") from error
