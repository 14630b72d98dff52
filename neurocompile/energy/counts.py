"""What happens in one inference, by population, by layer and by core.

Sums over samples are whole numbers below 2^53, so they are exact; only the last step divides by the
samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neurocompile.energy.activity import Activity
from neurocompile.energy.arrivals import arrivals, effective_operations, synapse_kind
from neurocompile.energy.packets import Packets, count_packets
from neurocompile.ir.circuit import CircuitGraph, HostInput, Population
from neurocompile.mapping import Mapping
from neurocompile.mapping.traffic import home_cores
from neurocompile.targets.schema import Target

__all__ = ["COLUMNS", "Counts", "add_packets", "count", "count_circuit"]

COLUMNS = (
    "neurons",
    "spikes",
    "graded_messages",
    "synops_dense",
    "synops_sparse",
    "synops_convolution",
    "acs",
    "macs",
    "effective_acs",
    "effective_macs",
    "updates",
    "active",
    "packets",
    "local_packets",
    "tile_packets",
    "hops_east_west",
    "hops_north_south",
    "chip_crossings",
    "packets_in",
    "host_packets",
)
"""Columns of the tables. Operations (``synops_*``: stored synapses; ``acs``, ``macs``: the same,
caused by spikes and by graded messages; ``effective_*``: those of weight not 0) stand where they
arrive; packets where they start, ``packets_in`` (from the host too) and ``host_packets`` (from the
host alone) where they end. ``packets`` go to another core, ``local_packets`` to their own;
``tile_packets`` are those of either kind that stay in their tile."""


@dataclass(frozen=True)
class Counts:
    """Means of one inference."""

    basis: str
    source: str
    samples: int
    """Inferences that were averaged; 0 if modelled."""
    barriers: int
    """Steps between two samples: the mesh synchronizes once a step."""
    populations: np.ndarray
    """float64 (populations, columns)."""
    cores: np.ndarray
    """float64 (cores, columns); effective operations are not counted by core (nan)."""
    layers: dict[str, np.ndarray]
    """Layer of the user's model -> float64 (columns,), in the order of the circuit."""
    dense_operations: float
    """Operations if every neuron sent a message in every step: NeuroBench's Dense."""
    weights: int
    weights_zero: int
    messages_possible: float
    """Neurons on cores times steps."""
    packets: Packets

    def total(self, column: str) -> float:
        """Sum over the populations."""
        return float(self.populations[:, COLUMNS.index(column)].sum())


def count(circuit: CircuitGraph, mapping: Mapping, target: Target, activity: Activity) -> Counts:
    """Count everything from the messages and active updates of each neuron."""
    column = {name: i for i, name in enumerate(COLUMNS)}
    by_population = np.zeros((len(circuit.populations), len(COLUMNS)))
    by_core = np.zeros((len(mapping.cores), len(COLUMNS)))
    homes = home_cores([core.tiles for core in mapping.cores])
    dense, steps, runs = 0.0, circuit.sample_steps, activity.inferences
    for row, p in zip(by_population, circuit.populations, strict=True):
        parts = _of_population(circuit, p, activity, row)
        for q in circuit.incoming[p.name]:
            full = np.full((1, circuit.population[q.src].size), float(steps))
            dense += float(arrivals(circuit, q, full).sum())
        for name, values in parts.items():
            shaped = values.reshape(p.shape)
            for core, tile in homes.get(p.name, ()):
                by_core[core, column[name]] += shaped[tile.slices].sum()
    packets = count_packets(circuit, mapping, target, activity.messages)
    add_packets(packets, column, by_population, by_core)
    by_population[:, 1:] /= runs  # neurons are no sum over samples
    by_core[:, 1:] /= runs
    packets = replace(packets, count=packets.count / runs)
    by_core[:, [column["effective_acs"], column["effective_macs"]]] = np.nan
    layers: dict[str, np.ndarray] = {}
    for row, p in zip(by_population, circuit.populations, strict=True):
        layers[p.layer] = layers.get(p.layer, 0.0) + row
    weights = [w for q in circuit.projections if (w := circuit.weight(q)) is not None]
    possible = float(
        sum(p.size for p in circuit.populations if not isinstance(p, HostInput)) * steps
    )
    return Counts(
        activity.basis,
        activity.source,
        runs if activity.basis == "measured" else 0,
        circuit.sample_period,
        by_population,
        by_core,
        layers,
        dense,
        sum(w.size for w in weights),
        sum(w.size - int(np.count_nonzero(w)) for w in weights),
        possible,
        packets,
    )


def count_circuit(circuit: CircuitGraph, activity: Activity) -> np.ndarray:
    """What does not depend on a mapping (all but packets and hops, which are 0), of one inference:
    float64 (populations, columns).
    """
    rows = np.zeros((len(circuit.populations), len(COLUMNS)))
    for row, p in zip(rows, circuit.populations, strict=True):
        _of_population(circuit, p, activity, row)
    rows[:, 1:] /= activity.inferences
    return rows


def _of_population(
    circuit: CircuitGraph, p: Population, activity: Activity, row: np.ndarray
) -> dict[str, np.ndarray]:
    """Add what ``p`` does in all inferences to ``row``; the same by neuron, but for effective
    operations.
    """
    column = {name: i for i, name in enumerate(COLUMNS)}
    idle = circuit.sample_period - circuit.sample_steps
    updates = float(activity.inferences * (circuit.sample_steps + idle))
    parts: dict[str, np.ndarray] = {"neurons": np.ones(p.size)}
    if not isinstance(p, HostInput):
        parts["spikes" if p.spiking else "graded_messages"] = activity.messages[p.name]
        parts |= {"updates": np.full(p.size, updates), "active": activity.active[p.name]}
    for q in circuit.incoming[p.name]:
        spikes = circuit.population[q.src].spiking
        operations = arrivals(circuit, q, activity.messages[q.src][None])[0]
        for name in (f"synops_{synapse_kind(q)}", "acs" if spikes else "macs"):
            parts[name] = parts[name] + operations if name in parts else operations
        name = "effective_acs" if spikes else "effective_macs"
        row[column[name]] += effective_operations(circuit, q, activity.messages[q.src])
    for name, values in parts.items():
        row[column[name]] = values.sum()
    return parts


def add_packets(
    p: Packets, column: dict[str, int], by_population: np.ndarray, by_core: np.ndarray
) -> None:
    """Fill the packets' columns of both tables."""
    inside, own = p.src >= 0, p.src == p.dst
    stays = inside & (p.hops_x + p.hops_y == 0)
    for name, chosen, times in (
        ("packets", inside & ~own, 1),
        ("local_packets", own, 1),
        ("tile_packets", stays, 1),
        ("hops_east_west", inside, p.hops_x),
        ("hops_north_south", inside, p.hops_y),
        ("chip_crossings", inside, p.chips),
    ):
        values = (p.count * times)[chosen]
        np.add.at(by_population[:, column[name]], p.population[chosen], values)
        np.add.at(by_core[:, column[name]], p.src[chosen], values)
    for name, chosen in (("packets_in", ~own), ("host_packets", ~inside)):
        np.add.at(by_core[:, column[name]], p.dst[chosen], p.count[chosen])
        np.add.at(by_population[:, column[name]], p.population[chosen], p.count[chosen])
