"""Synapses of core images one by one, for tools that know no rows, chains or output lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from neurocompile.images.build import CoreImages
from neurocompile.images.image import DENSE, GROUP_FIELDS, NO_AXON, PORT_FIELDS, columns
from neurocompile.images.state import Tables

__all__ = ["PortSynapses", "port_synapses", "senders"]

_G, _P = columns(GROUP_FIELDS), columns(PORT_FIELDS)


class PortSynapses(NamedTuple):
    """All synapses of one port of one core; equal lengths, int64."""

    port: int
    """Row of ``tables.ports``."""
    source: np.ndarray
    """Place of the sending neuron in its population's array."""
    target: np.ndarray
    """Place of the receiving one."""
    weight: np.ndarray
    """Mantissa as it is stored: the port's weight exponent is not applied."""


def senders(images: CoreImages, tables: Tables) -> tuple[np.ndarray, np.ndarray]:
    """Population and place in its array of each row of ``tables.neuron_map``, int64."""
    groups = tables.groups
    sizes = [images.names.populations[p].size for p in images.host.populations]
    population = np.concatenate(
        [
            np.repeat(groups[:, _G["population"]], groups[:, _G["count"]]),
            np.repeat(images.host.populations, sizes).astype(np.int64),
        ]
    )
    return population, np.concatenate([tables.flat, *(np.arange(n) for n in sizes)])


def port_synapses(images: CoreImages, tables: Tables) -> Iterator[PortSynapses]:
    """Of every dense and sparse port, in the order of ``tables.ports``: what a message of each neuron
    meets there, followed from its output list through the chain of axons.
    """
    _, place = senders(images, tables)
    owner = np.full(len(tables.map_start), -1, np.int64)
    known = np.flatnonzero(tables.neuron_map >= 0)
    owner[tables.neuron_map[known]] = known
    sender = np.repeat(owner, tables.map_end - tables.map_start)
    source = np.full(len(tables.axon_next), -1, np.int64)
    axon, who = tables.entry_axon, place[sender]
    while len(axon):
        met = axon != NO_AXON
        axon, who = axon[met], who[met]
        source[axon] = who
        axon = tables.axon_next[axon]
    for number, port in enumerate(tables.ports):
        axons = np.arange(port[_P["axon"]], port[_P["axon"]] + port[_P["axons"]])
        group = tables.groups[port[_P["group"]]]
        flat = tables.flat[group[_G["first"]] : group[_G["first"]] + group[_G["count"]]]
        if port[_P["kind"]] == DENSE:
            size = len(axons) * len(flat)
            weight = tables.weights[port[_P["weights"]] :][:size].astype(np.int64)
            yield PortSynapses(
                number, np.repeat(source[axons], len(flat)), np.tile(flat, len(axons)), weight
            )
            continue
        begin, end = tables.row_start[axons], tables.row_end[axons]
        stop = int(end[-1]) if len(end) else 0
        targets = tables.targets[port[_P["synapses"]] :][:stop]
        weight = tables.weights[port[_P["weights"]] :][: 1 if port[_P["shared"]] else stop]
        yield PortSynapses(
            number,
            np.repeat(source[axons], end - begin),
            flat[targets],
            np.broadcast_to(weight, (stop,)).astype(np.int64),
        )
