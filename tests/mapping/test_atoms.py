"""Atoms, and what boxes hold of them, against every neuron's own list of consumers."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.mapping.atoms import Atoms, Reach, make_atoms
from neurocompile.mapping.tile import Tile
from neurocompile.mapping.tile_graph import _part


def reaches_of(shape: tuple[int, ...], rng: np.random.Generator) -> list[tuple[int, Reach]]:
    """What some consumers read: products of sets on single axes, or on the first two together; some
    consumers come twice, some read nothing, some all.
    """
    found: list[tuple[int, Reach]] = []
    for _ in range(rng.integers(0, 9)):
        reach: Reach = {}
        joint = len(shape) > 1 and rng.random() < 0.3
        if joint:
            size = shape[0] * shape[1]
            reach[0, 1] = np.flatnonzero(rng.random(size) < 0.5)
        for axis in range(2 * joint, len(shape)):
            if rng.random() < 0.7:
                low = int(rng.integers(0, shape[axis]))
                reach[axis,] = np.arange(low, int(rng.integers(low, shape[axis] + 1)))
        found.append((int(rng.integers(0, 5)), reach))
    return found


def consumers_of(shape: tuple[int, ...], reaches: list[tuple[int, Reach]]) -> np.ndarray:
    """The set of each neuron's consumers, an object array of the shape."""
    found = np.empty(prod(shape), dtype=object)
    for flat in range(len(found)):
        place = np.unravel_index(flat, shape) if shape else ()
        found[flat] = frozenset(
            consumer
            for consumer, reach in reaches
            if all(
                np.ravel_multi_index([place[a] for a in axes], [shape[a] for a in axes]) in index
                for axes, index in reach.items()
            )
        )
    return found.reshape(shape)


def tiles_of(shape: tuple[int, ...], rng: np.random.Generator) -> list[Tile]:
    """Boxes that may overlap."""
    found = []
    for _ in range(rng.integers(1, 5)):
        start = [int(rng.integers(0, n)) for n in shape]
        stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, shape, strict=True)]
        found.append(Tile("p", tuple(start), tuple(stop)))
    return found


def sets_of(atoms: Atoms) -> list[frozenset[int]]:
    """Consumers of each atom, which are sorted and come once."""
    found = []
    for a, b in zip(atoms.offsets[:-1], atoms.offsets[1:], strict=True):
        part = atoms.consumers[a:b].tolist()
        assert part == sorted(set(part))
        found.append(frozenset(part))
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 6), max_size=3), st.booleans())
def test_atoms_are_what_listing_neurons_finds(seed, lengths, keep):
    rng, shape = np.random.default_rng(seed), tuple(lengths)
    reaches = reaches_of(shape, rng)
    atoms, wanted = make_atoms(shape, reaches), consumers_of(shape, reaches)
    of, tiles = sets_of(atoms), tiles_of(shape, rng)
    for atom, first in enumerate(atoms.representative.tolist()):
        assert first == of.index(of[atom])
    owner, atom, size = atoms.inside(tiles, keep=keep)
    for i, tile in enumerate(tiles):
        mine = owner == i
        assert (np.diff(atom[mine]) > 0).all()
        found = {of[a]: n for a, n in zip(atom[mine].tolist(), size[mine].tolist(), strict=True)}
        inside = wanted[tile.slices].reshape(-1) if shape else [wanted[()]]
        counted: dict[frozenset[int], int] = {}
        for consumers in inside:
            if keep or consumers:
                counted[consumers] = counted.get(consumers, 0) + 1
        assert found == counted
        values = atoms.fan.astype(np.int64)
        assert atoms.weigh(values, tile) == sum(len(consumers) for consumers in inside)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_messages_of_each_neuron_go_where_it_sends(seed, lengths):
    rng, shape = np.random.default_rng(seed), tuple(lengths)
    reaches, tiles = reaches_of(shape, rng), tiles_of(shape, rng)
    sent = rng.integers(0, 1000, prod(shape)).astype(np.float64)
    atoms, wanted = make_atoms(shape, reaches), consumers_of(shape, reaches)
    part = _part(tiles, atoms, sent=sent)
    total = {(i, c): 0.0 for i in range(len(tiles)) for c in set(wanted.reshape(-1)) if c}
    for i, tile in enumerate(tiles):
        pairs = zip(wanted[tile.slices].flat, sent.reshape(shape)[tile.slices].flat, strict=True)
        for consumers, messages in pairs:
            if consumers:
                total[i, consumers] += messages
    found = {key: 0.0 for key in total}
    if part is not None:
        assert part.sent is not None
        ends = np.cumsum(part.length)
        for owner, end, n, messages in zip(part.owner, ends, part.length, part.sent, strict=True):
            found[int(owner), frozenset(part.pins[end - n : end].tolist())] = float(messages)
    assert found == total
