"""An image that is not the mapping's is named with the first place that differs."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from images.changes import Change, G, P, array, group, host, names, port
from images.mixed_network import network
from images.placed import placed

from neurocompile.images.build import CoreImages, ImageBuilder, build_images
from neurocompile.images.compare import differences, home_of, why_different
from neurocompile.images.image import DENSE, KERNEL, SPARSE
from neurocompile.targets import load_target


class Built(NamedTuple):
    """Images, and what makes them."""

    images: CoreImages
    builder: ImageBuilder


@pytest.fixture(scope="module")
def built() -> dict[str, Built]:
    found = {}
    for name in ("loihi1", "loihi2"):
        circuit, target = network(0), load_target(name)
        mapping = placed(circuit, target, 0, cores=1)
        found[name] = Built(
            build_images(circuit, mapping, target), ImageBuilder(circuit, mapping, target)
        )
        assert not list(differences(*found[name]))
    return found


def first_port(images: CoreImages, kind: int) -> np.ndarray:
    """The first port of a kind that has weights."""
    ports: np.ndarray = images.cores[0].ports
    row: np.ndarray = ports[np.flatnonzero(ports[:, P["kind"]] == kind)[0]]
    return row


def changed_weight(kind: int, field: str = "weights") -> Change:
    """The first weight (target, position) of the first port of a kind, one more."""
    table, column = {
        "weights": ("weights", "weights"),
        "targets": ("targets", "synapses"),
        "positions": ("positions", "rows"),
        "row_ends": ("row_ends", "rows"),
    }[field]

    def change(images: CoreImages) -> CoreImages:
        at = int(first_port(images, kind)[P[column]])
        return array(table, lambda held: held.__setitem__(at, held[at] + 1))(images)

    return change


def longer_list(images: CoreImages) -> CoreImages:
    ends = images.cores[0].outputs.map_ends
    at = int(np.flatnonzero(np.diff(ends, prepend=0) > 0)[0])
    return array("map_ends", lambda held: held.__setitem__(at, held[at] - 1))(images)


WRONG: dict[str, tuple[str, Change, str]] = {
    "names": (
        "loihi1",
        names(circuit="another"),
        "core images: names, shapes or times are those of",
    ),
    "place": ("loihi1", array("place", lambda held: held + 1), "core 0: place 0 differs"),
    "threshold": ("loihi1", group("vth", 77), "core 0: group 0 differs"),
    "box": ("loihi1", array("boxes", lambda held: held[:, ::-1]), "core 0: box of group 0 differs"),
    "bias": ("loihi1", array("bias", lambda held: held + np.int16(1)), "bias of neuron 0 differs"),
    "port": ("loihi1", port(DENSE, "weight_exp", 5), "core 0: port "),
    "chain": (
        "loihi1",
        array("axon_next", lambda held: held.__setitem__(0, 5)),
        "core 0: chain of axon 0 differs",
    ),
    "a shorter table": ("loihi1", array("bias", lambda held: held[:-1]), "bias of neuron"),
    "dense weight": ("loihi1", changed_weight(DENSE), " has other synapses"),
    "sparse weight": ("loihi1", changed_weight(SPARSE), " has other synapses"),
    "sparse target": ("loihi1", changed_weight(SPARSE, "targets"), " has other synapses"),
    "sparse row": ("loihi1", changed_weight(SPARSE, "row_ends"), " has other synapses"),
    "more weights": (
        "loihi1",
        array("weights", lambda held: np.append(held, np.int16(1))),
        " has other synapses",
    ),
    "kernel weight": ("loihi2", changed_weight(KERNEL), " has other synapses"),
    "kernel position": ("loihi2", changed_weight(KERNEL, "positions"), " has other synapses"),
    "list entry": (
        "loihi1",
        array("entry_axon", lambda held: held.__setitem__(0, held[0] + 1)),
        "core 0: output list ",
    ),
    "list length": ("loihi1", longer_list, " has another length"),
    "map": ("loihi1", array("map_ends", lambda held: held[:-1]), "core 0: the output map has "),
    "channel sets": (
        "loihi1",
        array("channel_sets", lambda held: np.ones((1, 1), np.uint8)),
        "core 0: channels differ",
    ),
    "host": (
        "loihi1",
        lambda images: host(
            outputs=replace(
                images.host.outputs, entry_axon=images.host.outputs.entry_axon + np.int32(1)
            )
        )(images),
        "host: output list 0 differs (entry 0)",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_first_difference_is_named(built: dict[str, Built], what: str) -> None:
    chip, change, why = WRONG[what]
    images, builder = built[chip]
    lines = list(differences(change(images), builder))
    assert len(lines) == 1 and why in lines[0], lines


def test_a_neuron_is_found_where_it_is(built: dict[str, Built]) -> None:
    images, builder = built["loihi1"]
    core = images.cores[0]
    for number, population in enumerate(images.names.populations):
        last = tuple(n - 1 for n in population.shape)
        at, row, local = home_of(images, population.name, last)
        if population.name == "x":
            assert (at, row, local) == (-1, -1, -1)
            assert why_different(images, builder, "x", last) == "no core holds it"
            continue
        assert at == 0 and core.groups[row, G["population"]] == number
        first, count = core.groups[row, G["first"]], core.groups[row, G["count"]]
        assert first <= local < first + count
    wrong = group("vth", 77)(images)
    held = images.names.populations[core.groups[0, G["population"]]]
    where = why_different(
        wrong, builder, held.name, tuple(int(i) for i in core.boxes[0, 0][-len(held.shape) :])
    )
    assert where == "core 0, neuron 0 there: group 0 differs"
