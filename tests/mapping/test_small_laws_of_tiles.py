"""Laws of small functions of tiles and lists, each against its definition in other words."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocompile.mapping.atoms import _flat
from neurocompile.mapping.cutter import Cutter, _channel_candidates
from neurocompile.mapping.output_lists import OutputLists
from neurocompile.mapping.placement import _assign
from neurocompile.mapping.tile import Tile, merge_boxes
from neurocompile.mapping.tile_graph import Flows


@pytest.mark.parametrize("channels", [1, 6, 12, 96])
def test_channels_are_tried_in_few_parts_and_in_every_number_that_divides_them(
    channels: int,
) -> None:
    found = list(_channel_candidates((4, channels)))
    divisors = {n for n in range(1, channels + 1) if channels % n == 0}
    assert found == sorted(divisors | set(range(1, min(channels, 8) + 1)))
    assert list(_channel_candidates(())) == [1]


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_entries_of_output_lists_are_those_of_their_blocks(seed: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    vertices, lists, blocks = 6, int(rng.integers(0, 6)), int(rng.integers(1, 6))
    pins = [
        np.sort(rng.choice(vertices, int(rng.integers(0, vertices + 1)), replace=False))
        for _ in range(lists)
    ]
    owner, size, extra = rng.integers(0, [[vertices], [5], [2]], (3, lists))
    found = OutputLists(
        owner,
        size,
        extra,
        np.concatenate([[0], np.cumsum([len(p) for p in pins])]).astype(np.int64),
        np.concatenate([*pins, []]).astype(np.int64),
        least,
        np.zeros(0, np.int64),
    )
    block = rng.integers(0, blocks, vertices)
    for reach, entries in (
        ([len(set(block[p])) for p in pins], found.entries(block)),
        ([len(p) for p in pins], found.bound(vertices)),
        ([0] * lists, found.fixed(vertices)),
    ):
        wanted = np.zeros(vertices, np.int64)
        for o, n, more, distinct in zip(owner, size, extra, reach):
            wanted[o] += n * (distinct + more) if distinct + more >= least else 0
        assert entries.tolist() == wanted.tolist()


@given(st.integers(0, 2**32 - 1))
def test_boxes_of_a_core_are_merged_to_what_they_cover(seed: int) -> None:
    """A map that is cut at random and lies on cores by halves comes back as the halves."""
    rng = np.random.default_rng(seed)
    rows, columns = 6, 5
    middle = int(rng.integers(1, rows))
    tiles, cores = [], []
    for core, (low, high) in enumerate(((0, middle), (middle, rows))):
        downs = sorted({low, high, *rng.integers(low, high, 2).tolist()})
        acrosses = sorted({0, columns, *rng.integers(0, columns, 3).tolist()})
        for (a, b), (x, y) in product(zip(downs, downs[1:]), zip(acrosses, acrosses[1:])):
            tiles.append(Tile("p", (a, x), (b, y)))
            cores.append(core)
    order = rng.permutation(len(tiles))
    merged, on = merge_boxes([tiles[i] for i in order], np.array(cores)[order])
    found = sorted(zip(on.tolist(), [(t.start, t.stop) for t in merged]))
    assert found == [(0, ((0, 0), (middle, columns))), (1, ((middle, 0), (rows, columns)))]


def test_a_product_of_sets_on_some_axes_is_flat_over_all_of_a_group() -> None:
    sizes, group = [3, 4], (1, 2)
    rows, columns, both = np.array([0, 2]), np.array([1, 3]), np.array([5, 7])
    grid = np.arange(12).reshape(sizes)
    assert _flat(group, sizes, [(group, both)]).tolist() == [5, 7]
    assert _flat(group, sizes, [((1,), rows)]).tolist() == grid[rows].ravel().tolist()
    assert _flat(group, sizes, [((2,), columns)]).tolist() == grid[:, columns].ravel().tolist()
    two = _flat(group, sizes, [((1,), rows), ((2,), columns)])
    assert two.tolist() == grid[np.ix_(rows, columns)].ravel().tolist()


@pytest.mark.parametrize("fineness", [1, 3])
@pytest.mark.parametrize("rate", [0.25, 1.0])
def test_a_tile_that_sends_more_than_its_part_of_a_core_may_does_not_fit(
    fineness: int, rate: float
) -> None:
    cutter = SimpleNamespace(rates={"p": rate}, fineness=fineness, most=6.0, _room=lambda: (9, 9))
    usage = SimpleNamespace(columns=lambda: (9, 9))
    for size in range(1, 40):
        fits = Cutter.fits(cutter, Tile("p", (0,), (size,)), usage)
        assert fits == (rate * size <= 6.0 / fineness)
    usage.columns = lambda: (9, 10)
    assert not Cutter.fits(cutter, Tile("p", (0,), (1,)), usage)


def test_cores_that_talk_share_a_chip() -> None:
    """Two groups, every other core: each ends on a chip of its own."""
    cores = 8
    pairs = np.array([(a, b) for a, b in product(range(cores), repeat=2) if a % 2 == b % 2])
    apart = pairs[:, 0] != pairs[:, 1]
    source, target = pairs[apart].T
    flows = Flows(source, target, np.full(apart.sum(), 5.0), 0.0)
    chip = _assign(flows, cores, 2, 4, seed=0)
    assert sorted(set(chip.tolist())) == [0, 1]
    assert len(set(chip[::2].tolist())) == len(set(chip[1::2].tolist())) == 1
