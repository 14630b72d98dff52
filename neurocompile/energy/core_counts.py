"""Packets, operations and updates as the machine counted them on core images.

The columns are those of :mod:`neurocompile.energy.counts`, which has them from traces by formula:
both agree exactly, or one of them is wrong.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from neurocompile.backends.encoding import encode
from neurocompile.energy.activity import measured_activity
from neurocompile.energy.counts import COLUMNS, Counts, add_packets, count
from neurocompile.energy.packets import Packets, routed
from neurocompile.errors import NeurocompileError
from neurocompile.images.image import GROUP_FIELDS, HOST_CORE, KINDS, PORT_FIELDS, columns
from neurocompile.images.machine import CoreMachine, MachineCounts
from neurocompile.ir.circuit import HostInput
from neurocompile.targets.schema import Slot, Target

if TYPE_CHECKING:
    from neurocompile.program import Program

__all__ = ["count_on_cores", "counted_packets", "counted_tables"]

_G, _P = columns(GROUP_FIELDS), columns(PORT_FIELDS)


def counted_packets(machine: CoreMachine, counts: MachineCounts, target: Target) -> Packets:
    """Messages between cores, by population, in all samples of a run; what the host reads apart."""
    tables, cores = machine.tables, machine.images.cores
    # senders of each map entry: neurons of cores, then the host's
    number = tables.groups[:, _G["population"]]
    sizes = [machine.names.populations[p].size for p in machine.images.host.populations]
    population = np.concatenate(
        [
            np.repeat(number, tables.groups[:, _G["count"]]),
            np.repeat(machine.images.host.populations, sizes),
        ]
    )
    home = np.concatenate(
        [
            np.repeat(tables.group_core, tables.groups[:, _G["count"]]),
            np.full(sum(sizes), HOST_CORE),
        ]
    )
    owner = np.zeros(len(tables.map_start), np.int64)
    for entries in (tables.neuron_map, tables.position_map):
        known = np.flatnonzero(entries >= 0)
        owner[entries[known]] = known
    sender = np.repeat(owner, tables.map_end - tables.map_start)
    sent, to = counts.sent[1], tables.entry_core
    used = np.flatnonzero((sent > 0) & (to != HOST_CORE))
    key = population[sender[used]] * (len(cores) + 1) + home[sender[used]] + 1
    key = key * len(cores) + to[used]
    found, inverse = np.unique(key, return_inverse=True)
    total = np.bincount(inverse.reshape(-1), sent[used], len(found))
    rest, dst = np.divmod(found, len(cores))
    which, src = np.divmod(rest, len(cores) + 1)
    slots = [Slot(*core.place.tolist()) for core in cores]
    return routed(which, src - 1, dst, total, slots, target)


def counted_tables(
    machine: CoreMachine, counts: MachineCounts, target: Target
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over all samples, float64 (populations, columns) and (cores, columns) of
    :data:`neurocompile.energy.counts.COLUMNS`; effective operations, which the images do not tell
    apart, are 0.
    """
    tables, names = machine.tables, machine.names
    column = {name: i for i, name in enumerate(COLUMNS)}
    by_population = np.zeros((len(names.populations), len(COLUMNS)))
    by_core = np.zeros((len(machine.images.cores), len(COLUMNS)))
    group_population, group_core = tables.groups[:, _G["population"]], tables.group_core

    def add(name: str, chosen: np.ndarray, values: np.ndarray) -> None:
        np.add.at(by_population[:, column[name]], group_population[chosen], values)
        np.add.at(by_core[:, column[name]], group_core[chosen], values)

    everything = np.arange(len(tables.groups))
    neurons = tables.groups[:, _G["count"]]
    add("neurons", everything, neurons)
    add("updates", everything, neurons * counts.samples * names.windows * names.period)
    add("active", everything, counts.active)
    spiking = tables.groups[:, _G["kind"]] == KINDS.index("LIF")
    for name, chosen in (("spikes", spiking), ("graded_messages", ~spiking)):
        add(name, everything[chosen], counts.fired[1, chosen])
    for p in machine.images.host.populations:
        by_population[p, column["neurons"]] = names.populations[p].size
    port_group, projection = tables.ports[:, _P["group"]], tables.ports[:, _P["projection"]]
    kind, source = np.array(names.kinds)[projection], np.array(names.sources)[projection]
    spikes = np.array([p.spiking for p in names.populations])[source]
    for name, chosen in (
        ("synops_dense", kind == "Dense"),
        ("synops_sparse", kind == "Strided"),
        ("synops_convolution", kind == "Conv2d"),
        ("acs", spikes),
        ("macs", ~spikes),
    ):
        add(name, port_group[chosen], counts.operations[1, chosen])
    packets = counted_packets(machine, counts, target)
    add_packets(packets, column, by_population, by_core)
    return by_population, by_core


def count_on_cores(program: Program, x: np.ndarray, *, progress: bool = False) -> Counts:
    """Counts of ``program`` as its core images send them, for float32 ``x`` (samples, *input shape).

    They are compared with those that follow from the emulator's traces (which alone know effective
    operations): NC9001 if they differ.
    """
    circuit = program.circuit
    x = program.checked(x)
    formula = count(
        circuit, program.mapping, program.target, measured_activity(circuit, x, progress=progress)
    )
    machine = program.open("cores")
    assert isinstance(machine, CoreMachine)
    counted = machine.count(encode(circuit, x))
    populations, cores = (
        table.copy() for table in counted_tables(machine, counted, program.target)
    )
    column = {name: i for i, name in enumerate(COLUMNS)}
    hosts = [isinstance(p, HostInput) for p in circuit.populations]
    for table, expected in ((populations, formula.populations), (cores, formula.cores)):
        table[:, 1:] /= len(x)  # neurons are no sum over samples
        effective = [column["effective_acs"], column["effective_macs"]]
        table[:, effective] = expected[:, effective]
    idle = circuit.period > circuit.steps
    for name, i in column.items():
        if name == "active" and idle:
            continue  # what idle steps leave in a gate is in no trace
        for what, table, expected in (
            ("population", populations, formula.populations),
            ("core", cores, formula.cores),
        ):
            wrong = ~np.isclose(table[:, i], expected[:, i], rtol=1e-9, equal_nan=True)
            if what == "population":
                wrong &= ~np.array(hosts) | (name not in ("updates", "active"))
            if wrong.any():
                at = int(np.argmax(wrong))
                raise NeurocompileError(
                    "NC9001",
                    f"{name} of {what} {at}: {table[at, i]:,.9g} on core images, {expected[at, i]:,.9g} by formula",
                )
    packets = counted_packets(machine, counted, program.target)
    return replace(
        formula,
        basis="counted",
        source=f"counted on core images, {len(x):,} samples",
        populations=populations,
        cores=cores,
        packets=replace(packets, count=packets.count / len(x)),
    )
