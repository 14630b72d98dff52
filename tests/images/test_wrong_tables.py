"""Each thing that a stranger's images can have wrong is named, before a kernel reads a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from images.changes import Change, array, group, host, names, population, port
from images.mixed_network import network
from images.placed import placed

from neurocompile.images import build_images
from neurocompile.images.build import CoreImages
from neurocompile.images.check import check_images
from neurocompile.images.image import DENSE, KERNEL, SPARSE
from neurocompile.targets import load_target


@pytest.fixture(scope="module")
def images() -> dict[str, CoreImages]:
    """One core of each chip: dense and sparse ports on loihi1, kernels on loihi2."""
    found = {}
    for name in ("loihi1", "loihi2"):
        circuit, target = network(0), load_target(name)
        found[name] = build_images(circuit, placed(circuit, target, 0, cores=1), target)
        assert not check_images(found[name])
    return found


def put(index: Any, value: Any) -> Callable[[np.ndarray], None]:
    return lambda held: held.__setitem__(index, value)


def _wide(boxes: np.ndarray) -> tuple[int, int, int]:
    """Where a box begins along an axis with two neurons or more."""
    row, axis = np.argwhere(boxes[:, 1] - boxes[:, 0] > 1)[0]
    return row, 0, axis


WRONG: dict[str, tuple[str, Change, str]] = {
    "no steps": ("loihi1", names(steps=0), "0 steps, a period of"),
    "negative depth": (
        "loihi1",
        population(depth=-1),
        "population 'x' of shape [6, 6, 2] at depth -1",
    ),
    "neurons without end": ("loihi1", population(shape=(1 << 32,)), "has 4,294,967,296 neurons"),
    "a source that is not there": (
        "loihi1",
        names(sources=(99,) * 6),
        "projections have no sources",
    ),
    "another dtype": (
        "loihi1",
        array("bias", lambda held: held.astype(np.int32)),
        "core 0: 'bias' is int32, not int16",
    ),
    "another shape": (
        "loihi1",
        array("place", lambda held: held[:3]),
        "core 0: 'place' has shape [3], not [4]",
    ),
    "more axes": ("loihi1", array("weights", lambda held: held[:, None]), "'weights' has 2 axes"),
    "a chain that turns back": (
        "loihi1",
        array("axon_next", put(3, 1)),
        "a chain of axons does not lead ahead",
    ),
    "a kind of neuron": ("loihi1", group("kind", 9), "'kind' has"),
    "another first neuron": ("loihi1", group("first", 5), "groups do not lie one behind the other"),
    "a box outside": ("loihi1", array("boxes", put((0, 1, -1), 999)), "core 0: a group leaves '"),
    "a smaller box": (
        "loihi1",
        array("boxes", lambda held: held.__setitem__(_wide(held), held[_wide(held)] + 1)),
        "has another size than its box",
    ),
    "axons apart": (
        "loihi1",
        port(DENSE, "axon", 1 << 40),
        "axons of ports do not lie one behind the other",
    ),
    "axons that no port has": (
        "loihi1",
        array("axon_next", lambda held: np.append(held, np.int32(-1))),
        "ports have another number of axons than the core",
    ),
    "another kind than its population": ("loihi1", group("kind", 2), "is of a kind that its"),
    "few channels": (
        "loihi2",
        lambda images: host(
            outputs=replace(images.host.outputs, channel_sets=np.ones((1, 1), np.uint8))
        )(images),
        "channel sets have too few channels",
    ),
    "dense weights outside": ("loihi1", port(DENSE, "weights", 1 << 40), "a dense port leaves"),
    "rows outside": ("loihi1", port(SPARSE, "rows", -1), "leaves the table of rows"),
    "synapses outside": ("loihi1", port(SPARSE, "synapses", 1 << 40), "leave its synapses"),
    "sparse weights outside": (
        "loihi1",
        port(SPARSE, "weights", 1 << 40),
        "a sparse port leaves the weights",
    ),
    "positions outside": ("loihi2", port(KERNEL, "rows", -1), "leaves the table of positions"),
    "a kernel without height": ("loihi2", port(KERNEL, "height", 0), "a kernel's height is 0"),
    "kernel weights outside": (
        "loihi2",
        port(KERNEL, "weights", 1 << 40),
        "a port of kernels leaves the weights",
    ),
    "a shorter map": ("loihi1", array("map_ends", lambda held: held[:-1]), "the output map has"),
    "lists that go back": ("loihi1", array("map_ends", put(0, 1 << 40)), "output lists leave"),
    "lists of other lengths": (
        "loihi1",
        array("entry_axon", lambda held: held[:-1]),
        "output lists are of different lengths",
    ),
    "an axon that is not there": (
        "loihi1",
        lambda images: array(
            "entry_axon", put(np.flatnonzero(images.cores[0].outputs.entry_core >= 0)[0], 1 << 30)
        )(images),
        "names an axon that its core lacks",
    ),
    "a host of other inputs": (
        "loihi1",
        host(by_neuron=np.zeros(7, np.uint8)),
        "host: its inputs are of different lengths",
    ),
    "a host population": (
        "loihi1",
        host(populations=np.array([99])),
        "host: 'populations' has 99..99",
    ),
    "a core without neurons": (
        "loihi1",
        lambda images: replace(images, cores=(images.cores[0], images.cores[0])),
        "neurons, the cores hold",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_it_is_named(images: dict[str, CoreImages], what: str) -> None:
    chip, change, why = WRONG[what]
    problems = check_images(change(images[chip]))
    assert problems and any(why in line for line in problems), problems


def test_sums_that_wait_are_bounded(
    images: dict[str, CoreImages], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurocompile.images.check._MOST_WAITING", 100)
    assert check_images(images["loihi1"]) == ["core 0: more sums wait than any core holds"]
