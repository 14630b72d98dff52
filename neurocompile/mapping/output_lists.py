"""What a tile's output lists take of its core: an entry for each neuron and each distinct core of its
consumers, so they depend on where other tiles lie.

Packing and refinement count them as they are at every moment; :meth:`OutputLists.bound` is what they
hold if every consumer has a core of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurocompile.distinct import distinct

__all__ = ["OutputLists", "no_lists"]


@dataclass(frozen=True)
class OutputLists:
    """Lists of vertices of a hypergraph: a list holds ``size x fan`` entries where ``fan`` (distinct
    blocks of the pins, and ``extra``) is at least ``least``, else none.
    """

    owner: np.ndarray
    """int64 (lists): vertex that holds the list."""
    size: np.ndarray
    """int64 (lists): neurons, or positions."""
    extra: np.ndarray
    """int64 (lists): added to the fan (the host)."""
    offsets: np.ndarray
    """int64 (lists + 1): where a list's pins begin."""
    pins: np.ndarray
    """int64: consumers of each list, each once."""
    least: int
    """Fan below which nothing is held."""
    columns: np.ndarray
    """int64: the resources that entries count in."""

    @cached_property
    def by_vertex(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the lists begin of which a vertex is a pin, int64 (up to the last pin + 2), and these
        lists, int64.
        """
        order = np.argsort(self.pins, kind="stable")
        lists = np.repeat(np.arange(len(self.owner)), np.diff(self.offsets))[order]
        last = int(self.pins.max(initial=-1))
        return np.searchsorted(self.pins[order], np.arange(last + 2)), lists

    @cached_property
    def moving(self) -> tuple[OutputLists, np.ndarray]:
        """The lists whose entries depend on where vertices lie, those of two pins and more, and the
        entries of the others by owner, int64.
        """
        pins = np.diff(self.offsets)
        kept, fan = pins > 1, pins + self.extra
        constant = np.where(fan >= self.least, fan * self.size, 0)
        found = np.zeros(int(self.owner.max(initial=-1)) + 1, dtype=np.int64)
        np.add.at(found, self.owner[~kept], constant[~kept])
        return (
            OutputLists(
                self.owner[kept],
                self.size[kept],
                self.extra[kept],
                np.concatenate([[0], np.cumsum(pins[kept])]),
                self.pins[np.repeat(kept, pins)],
                self.least,
                self.columns,
            ),
            found,
        )

    def bound(self, vertices: int) -> np.ndarray:
        """Entries of each vertex if every consumer has a block of its own, int64 (vertices)."""
        return self._held(np.diff(self.offsets), vertices)

    def entries(self, block: np.ndarray) -> np.ndarray:
        """Entries of each vertex, int64 (vertices); ``block`` int64 (vertices)."""
        blocks = int(block.max(initial=-1)) + 1
        lists = np.repeat(np.arange(len(self.owner), dtype=np.int64), np.diff(self.offsets))
        pairs = distinct(lists * blocks + block[self.pins])
        fan = np.bincount(pairs // max(blocks, 1), minlength=len(self.owner))
        return self._held(fan, len(block))

    def _held(self, fan: np.ndarray, vertices: int) -> np.ndarray:
        fan = fan + self.extra
        held = np.where(fan >= self.least, fan * self.size, 0)
        found = np.zeros(max(vertices, int(self.owner.max(initial=-1)) + 1), dtype=np.int64)
        np.add.at(found, self.owner, held)
        return found

    def fixed(self, vertices: int) -> np.ndarray:
        """Entries of each vertex before any consumer has a block, int64 (vertices)."""
        return self._held(np.zeros(len(self.owner), dtype=np.int64), vertices)


def no_lists() -> OutputLists:
    """None at all."""
    empty = np.zeros(0, dtype=np.int64)
    return OutputLists(empty, empty, empty, np.zeros(1, dtype=np.int64), empty, 1, empty)
