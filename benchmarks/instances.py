"""The instance of the mapping benchmarks: groups of 64 neurons of a spiking transformer, and the
packets between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

__all__ = ["Instance", "transformer_groups"]

BLOCKS, HEADS, TOKENS, WIDTH, GROUP = 8, 8, 16, 512, 64


@dataclass(frozen=True)
class Instance:
    """Edges between groups, each pair once; ``source`` is the group that comes first."""

    vertices: int
    source: np.ndarray
    target: np.ndarray
    packets: np.ndarray
    """int64: of a step."""

    def net_lists(self) -> tuple[list[list[int]], list[int]]:
        """A net for each group that sends: itself and its targets, weighted by the mean of its
        packets (at least 1).
        """
        order = np.argsort(self.source, kind="stable")
        owners, first, counts = np.unique(self.source[order], return_index=True, return_counts=True)
        sums = np.add.reduceat(self.packets[order], first)
        ends = [*first.tolist(), len(order)]
        targets = self.target[order].tolist()
        nets = [
            [owner, *targets[a:b]]
            for owner, (a, b) in zip(owners.tolist(), pairwise(ends), strict=True)
        ]
        return nets, np.maximum(1, sums // counts).astype(np.int64).tolist()


def transformer_groups() -> Instance:
    """8 blocks of attention by gates (q with k of every token tile, v summed into every one) and an
    MLP of twice the width.
    """
    groups = WIDTH // GROUP
    number: dict[tuple, int] = {}
    weight: dict[tuple[int, int], int] = {}

    def at(*key: object) -> int:
        return number.setdefault(key, len(number))

    def join(a: int, b: int, packets: int) -> None:
        pair = (min(a, b), max(a, b))
        weight[pair] = weight.get(pair, 0) + packets

    for b in range(BLOCKS):
        for t in range(TOKENS):
            for h in range(HEADS):
                x = [at("x", b, t, i) for i in range(groups)]
                for part in "qkv":
                    own = at(part, b, t, h)
                    for i in range(groups):
                        join(x[i], own, 6)
                join(at("q", b, t, h), at("a", b, t, h), 12)
                for other in range(TOKENS):
                    join(at("k", b, other, h), at("a", b, t, h), 3)
                    join(at("v", b, other, h), at("o", b, t, h), 3)
                join(at("a", b, t, h), at("o", b, t, h), 10)
                for i in range(groups):
                    join(at("o", b, t, h), at("p", b, t, i), 6)
            for i in range(groups):
                join(x[i], at("p", b, t, i), 8)
                for m in range(4 * groups // 2):
                    join(at("p", b, t, i), at("m", b, t, m), 4)
                    join(at("m", b, t, m), at("y", b, t, i), 4)
                join(at("p", b, t, i), at("y", b, t, i), 8)
                if b + 1 < BLOCKS:
                    join(at("y", b, t, i), at("x", b + 1, t, i), 20)
    pairs = np.array(list(weight))
    return Instance(len(number), pairs[:, 0], pairs[:, 1], np.array(list(weight.values())))
