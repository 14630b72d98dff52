"""A program as SANA-FE's files: architecture, network with its mapping, and a script that runs them.

SANA-FE (Boyle et al., IEEE TCAD 2025) simulates chips like Loihi 1: spikes without a payload, synapses
one by one, no reset between samples. So a folder holds one sample, and what such a chip cannot express
is refused by name. Everything is made from the core images. SANA-FE is not needed for it.

What differs from the images, and why:

- A bias would act from SANA-FE's first step on; on the chip the reset makes it act from the sample's
  first. It comes as spikes of a clock on the host, in the steps of the sample.
- The host is one more core of tile 0: its place on a real board is not known.
- What the host reads as graded values is a membrane that forgets in every step and never fires.
- ``accumulator_with_delay`` takes delays of up to 6 steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import yaml

from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import encode
from neurocompile.distinct import distinct
from neurocompile.energy.profile import Profile, load_profile
from neurocompile.errors import NeurocompileError, ViolationList, argument
from neurocompile.exports.folder import write_folder
from neurocompile.exports.synapses import PortSynapses, port_synapses
from neurocompile.images.build import CoreImages, build_images
from neurocompile.images.image import GROUP_FIELDS, KERNEL, KINDS, PORT_FIELDS, columns
from neurocompile.images.state import Tables
from neurocompile.images.tables import load_tables
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.fields import ALL, INSTANT, PAYLOAD
from neurocompile.targets.schema import Slot, Target

if TYPE_CHECKING:
    from neurocompile.program import Program

__all__ = ["LONGEST_DELAY", "SanafeFiles", "export_sanafe", "write_sanafe"]

_G, _P = columns(GROUP_FIELDS), columns(PORT_FIELDS)
LONGEST_DELAY = 6
"""Steps: five buffered ones and the one that every message takes."""
_COMPARTMENTS = 1024
"""Neurons of a core that SANA-FE's dendrites hold."""


class SanafeFiles(NamedTuple):
    """What was written."""

    folder: Path
    groups: int
    neurons: int
    synapses: int
    steps: int
    """Global steps until the sample has passed."""


def export_sanafe(
    program: Program, x: np.ndarray, folder: str | Path, *, profile: str = "davies2018"
) -> SanafeFiles:
    """Write ``folder`` with architecture.yaml, network.yaml, names.json and run.py.

    Args:
        x: float32 (*input shape): the sample whose spikes the host sends.
        folder: is made; files in it of these names are replaced.
        profile: of energies and times; what it has none for is 0, and a comment says so.

    Raises:
        NeurocompileError: NC5008, a line for everything that Loihi 1 and SANA-FE cannot express;
            NC5005 where the folder cannot be written.
    """
    circuit, target = program.circuit, program.target
    images = program.images or build_images(circuit, program.mapping, target)
    encoded = encode(circuit, program.checked(np.asarray(x, np.float32)[None]))
    return write_sanafe(circuit, images, target, encoded, folder, profile=profile)


def write_sanafe(
    circuit: CircuitGraph,
    images: CoreImages,
    target: Target,
    x: np.ndarray,
    folder: str | Path,
    *,
    profile: str = "davies2018",
) -> SanafeFiles:
    """The same of images and int32 ``x`` (1, *input shape)."""
    tables = load_tables(images)
    _refuse(images, tables, target)
    names = images.names
    hosts = [names.populations[p].name for p in images.host.populations]
    sent = Emulator().open(circuit).run(x, hosts) if hosts else {}
    if any(np.any((values != 0) & (values != 1)) for values in sent.values()):
        raise NeurocompileError(
            "NC5008", "the input of this sample is no spikes (0 or 1): Loihi 1 has no payloads"
        )
    writer = _Network(images, tables, {n: v[0] for n, v in sent.items()}, target)
    known = load_profile(profile)
    tiles = len({tuple(core.place[:3].tolist()) for core in images.cores})
    counted: dict[str, int] = {}
    write_folder(
        folder,
        {
            "architecture.yaml": [_architecture(target, known, tiles, writer.host_neurons)],
            "network.yaml": writer.lines(counted),
            "names.json": [json.dumps(writer.names(), indent=1) + "\n"],
            "run.py": [Path(__file__).with_name("sanafe_run.py").read_text("utf-8")],
        },
    )
    neurons = sum(p.size for p in names.populations)
    return SanafeFiles(
        Path(folder), len(names.populations), neurons, counted["synapses"], writer.steps
    )


def _refuse(images: CoreImages, tables: Tables, target: Target) -> None:
    """NC5008 with a line for each reason."""
    names, groups, ports = images.names, tables.groups, tables.ports
    found = []
    if names.windows > 1:
        found.append(
            f"a fold of {names.windows:,} windows resets neurons between them, which SANA-FE cannot: "
            f"build with {argument('fold', 'none')}"
        )
    graded = {
        names.populations[g[_G["population"]]].layer
        for g in groups
        if g[_G["kind"]] != KINDS.index("LIF") and not _is_read(images, g)
    }
    found += [f"layer '{name}' sends graded values; Loihi 1 has spikes" for name in sorted(graded)]
    if np.any(ports[:, _P["kind"]] == KERNEL):
        found.append(
            f"cores of '{target.name}' share kernels, Loihi 1 lists synapses: build for loihi1"
        )
    for number in distinct(ports[ports[:, _P["delay"]] > LONGEST_DELAY, _P["projection"]]):
        delay = int(ports[ports[:, _P["projection"]] == number, _P["delay"]].max())
        found.append(
            f"projection '{names.projections[number]}' waits {delay} steps; SANA-FE's dendrites hold "
            f"{LONGEST_DELAY}: build for a target whose max_spike_delay is {LONGEST_DELAY}"
        )
    current = groups[
        (groups[:, _G["kind"]] == KINDS.index("LIF")) & (groups[:, _G["du"]] != INSTANT)
    ]
    for number in distinct(current[:, _G["population"]]):
        found.append(
            f"layer '{names.populations[number].layer}' has synaptic currents, which Loihi rounds in every "
            "step and SANA-FE does not"
        )
    most = max((core.neurons for core in images.cores), default=0)
    if most > _COMPARTMENTS:
        found.append(f"a core holds {most:,} neurons, SANA-FE's at most {_COMPARTMENTS:,}")
    if len({int(core.place[0]) for core in images.cores}) > 1:
        found.append("it takes more than one chip")
    if found:
        raise ViolationList("NC5008", found)


def _is_read(images: CoreImages, group: np.ndarray) -> bool:
    """Whether it is a graded sum that nobody but the host takes."""
    relay = group[_G["kind"]] == KINDS.index("GradedRelay")
    return bool(relay) and int(group[_G["population"]]) not in images.names.sources


class _Network:
    """Lines of network.yaml."""

    def __init__(
        self, images: CoreImages, tables: Tables, sent: dict[str, np.ndarray], target: Target
    ) -> None:
        self.images, self.tables, self.sent, self.target = images, tables, sent, target
        names = images.names
        groups = tables.groups
        biased = groups[:, _G["has_bias"]] == 1
        self.clocks = sorted({int(d) for d in tables.depths[biased]})
        """Depths of populations with a bias: a clock each."""
        self.host_neurons = len(self.clocks) + sum(
            names.populations[p].size for p in images.host.populations
        )
        self.read = {int(g[_G["population"]]) for g in groups if _is_read(images, g)}
        self.steps = max(p.depth for p in names.populations) + names.steps

    def names(self) -> dict[str, Any]:
        """What names.json holds."""
        names = self.images.names
        return {
            "circuit": names.circuit,
            "steps": self.steps,
            "sample_steps": names.steps,
            "groups": [
                {
                    "group": f"g{i}",
                    "population": p.name,
                    "layer": p.layer,
                    "shape": p.shape,
                    "size": p.size,
                    "depth": p.depth,
                    "read": i in self.read,
                    "on_host": i in self.images.host.populations,
                }
                for i, p in enumerate(names.populations)
            ],
            "clocks": [f"clock{depth}" for depth in self.clocks],
        }

    def lines(self, counted: dict[str, int]) -> Iterator[str]:
        """All of it; ``counted`` gets the number of synapses."""
        names = self.images.names
        yield f"# {json.dumps(names.circuit)}: a group a population; names.json has their names.\n"
        yield "network:\n  name: program\n  groups:\n"
        for i, p in enumerate(names.populations):
            yield f"    - name: g{i}\n"
            if i in self.images.host.populations:
                yield from self._spikes(self.sent[p.name].reshape(names.steps, -1))
            else:
                yield from self._neurons(i, p.size)
        for depth in self.clocks:
            yield f"    - name: clock{depth}\n      attributes: []\n      neurons:\n"
            ticks = [0] * (depth - 1) + [1] * names.steps
            yield f"        - 0: [spikes: {ticks}]\n"
        yield "  edges:\n"
        counted["synapses"] = 0
        for found in port_synapses(self.images, self.tables):
            counted["synapses"] += len(found.weight)
            yield from self._edges(found)
        yield from self._biases()
        yield "mappings:\n"
        yield from self._places()

    def _spikes(self, values: np.ndarray) -> Iterator[str]:
        yield "      attributes: [log_spikes: true]\n      neurons:\n"
        for n, column in enumerate(values.T.astype(int).tolist()):
            yield f"        - {n}: [spikes: {column}]\n"

    def _neurons(self, number: int, size: int) -> Iterator[str]:
        groups = self.tables.groups
        group = groups[groups[:, _G["population"]] == number][0]
        least = -PAYLOAD / 64  # where Loihi's membrane saturates
        leak = (ALL - int(group[_G["dv"]])) / ALL
        if number in self.read:
            yield (
                "      attributes: [log_potential: true, soma: {threshold: 1.0e+12, leak_decay: 0.0, "
                "input_decay: 0.0, reverse_threshold: -1.0e+12}]\n"
            )
            yield f"      neurons:\n        - {f'0..{size - 1}' if size > 1 else '0'}: []\n"
            return
        soma = (
            f"threshold: {float(group[_G['vth']])}, leak_decay: {leak!r}, input_decay: 0.0, "
            f"reset: 0.0, reset_mode: hard, reverse_threshold: {least!r}, "
            f"reverse_reset: {least!r}, reverse_reset_mode: hard"
        )
        yield f"      attributes: [log_spikes: true, soma: {{{soma}}}]\n"
        yield f"      neurons:\n        - {f'0..{size - 1}' if size > 1 else '0'}: []\n"

    def _edges(self, found: PortSynapses) -> Iterator[str]:
        names, port = self.images.names, self.tables.ports[found.port]
        projection = int(port[_P["projection"]])
        src = names.sources[projection]
        dst = int(self.tables.groups[port[_P["group"]], _G["population"]])
        kind = {"Dense": "dense", "Strided": "sparse", "Conv2d": "convolution"}[
            names.kinds[projection]
        ]
        exponent = int(port[_P["weight_exp"]])
        weight = np.ldexp(found.weight.astype(np.float64), exponent)
        if exponent < 0:
            single = np.bincount(found.target).max(initial=0) <= 1
            floor = np.floor(weight)
            if not single and np.any(floor != weight):
                raise NeurocompileError(
                    "NC5008",
                    f"projection '{names.projections[projection]}' loses low bits of its sums, which "
                    "single synapses cannot express",
                )
            weight = floor
        delay = int(port[_P["delay"]]) - 1
        tail = f"synapse_hw_name: {kind}" + (f", delay: {delay}" if delay else "")
        for s, d, w in zip(
            found.source.tolist(), found.target.tolist(), weight.tolist(), strict=True
        ):
            yield f"    - g{src}.{s} -> g{dst}.{d}: [weight: {w!r}, {tail}]\n"

    def _biases(self) -> Iterator[str]:
        tables = self.tables
        for group, depth in zip(tables.groups, tables.depths, strict=True):
            if not group[_G["has_bias"]]:
                continue
            own = slice(int(group[_G["first"]]), int(group[_G["first"]] + group[_G["count"]]))
            number = int(group[_G["population"]])
            for d, bias in zip(tables.flat[own].tolist(), tables.bias[own].tolist(), strict=True):
                if bias:
                    yield (
                        f"    - clock{depth}.0 -> g{number}.{d}: "
                        f"[weight: {bias / 64!r}, synapse_hw_name: sparse]\n"
                    )

    def _places(self) -> Iterator[str]:
        tables, mesh = self.tables, self.target.mesh
        rows, host = mesh.rows.value, mesh.cores_per_tile.value
        places = [core.place.tolist() for core in self.images.cores]
        for group, core in zip(tables.groups, tables.group_core, strict=True):
            x, y = self.target.tile_position(Slot(*places[core]))
            own = slice(int(group[_G["first"]]), int(group[_G["first"]] + group[_G["count"]]))
            number = int(group[_G["population"]])
            for first, last in _ranges(tables.flat[own]):
                which = f"{first}..{last}" if last > first else f"{first}"
                yield (
                    f"  - g{number}.{which}: [core: {x * rows + y}.{places[core][3]}, soma: lif, "
                    "dendrite: delays]\n"
                )
        unit = 0
        for p in self.images.host.populations.tolist():
            for n in range(self.images.names.populations[p].size):
                yield f'  - g{p}.{n}: [core: 0.{host}, soma: "host[{unit}]"]\n'
                unit += 1
        for depth in self.clocks:
            yield f'  - clock{depth}.0: [core: 0.{host}, soma: "host[{unit}]"]\n'
            unit += 1


def _ranges(places: np.ndarray) -> list[tuple[int, int]]:
    """Runs of places that follow each other: first and last of each."""
    cuts = np.flatnonzero(np.diff(places) != 1)
    first = np.concatenate([[0], cuts + 1])
    last = np.concatenate([cuts, [len(places) - 1]])
    return list(zip(places[first].tolist(), places[last].tolist(), strict=True))


def _architecture(target: Target, profile: Profile, tiles: int, host_neurons: int) -> str:
    """architecture.yaml; tiles are numbered column by column, as SANA-FE does."""
    missing: list[str] = []

    def of(kind: str, *fields: str) -> float:
        """The first of ``fields`` that the profile has, in J or s."""
        for field in fields:
            value = getattr(getattr(profile, kind), field)
            if value is not None:
                return float(value.value) * (1e-12 if kind == "energy" else 1e-9)
        missing.append(f"{kind} of {fields[0]}")
        return 0.0

    def both(unit: str, *fields: str) -> dict[str, float]:
        return {f"energy_{unit}": of("energy", *fields), f"latency_{unit}": of("time", fields[-1])}

    hops: dict[str, float] = {}
    for way, field in (
        ("north", "hop_north_south"),
        ("south", "hop_north_south"),
        ("east", "hop_east_west"),
        ("west", "hop_east_west"),
    ):
        hops |= both(f"{way}_hop", field)
    idle, busy = (both("update", f"neuron_update_{state}") for state in ("inactive", "active"))
    soma = {f"{kind}_access_neuron": idle[f"{kind}_update"] for kind in ("energy", "latency")} | {
        f"{kind}_update_neuron": busy[f"{kind}_update"] - idle[f"{kind}_update"]
        for kind in ("energy", "latency")
    }
    spike = profile.energy.spike
    soma |= {
        "energy_spike_out": 0.0 if spike is None else spike.value * 1e-12,
        "latency_spike_out": 0.0,
    }
    packet = profile.energy.packet
    nothing = dict.fromkeys(soma, 0.0)

    def core(name: str, neurons: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "name": name,
            "attributes": {
                "buffer_position": "dendrite",
                "buffer_inside_unit": True,
                "max_neurons_supported": _COMPARTMENTS if name != host else max(host_neurons, 1),
            },
            "axon_in": [_unit("in", energy_message_in=0.0, latency_message_in=0.0)],
            "synapse": [
                _unit(
                    kind,
                    model="current_based",
                    energy_process_spike=of(
                        "energy", f"synaptic_operation_{kind}", "synaptic_operation"
                    ),
                    latency_process_spike=of("time", "synaptic_operation"),
                )
                for kind in ("dense", "sparse", "convolution")
            ],
            "dendrite": [
                _unit(
                    "delays", model="accumulator_with_delay", energy_update=0.0, latency_update=0.0
                )
            ],
            "soma": neurons,
            "axon_out": [
                _unit(
                    "out",
                    energy_message_out=0.0 if packet is None else packet.value * 1e-12,
                    latency_message_out=0.0,
                )
            ],
        }

    mesh = target.mesh
    each, width, height = mesh.cores_per_tile.value, mesh.columns.value, mesh.rows.value
    host = f"core[{each}]"
    chip = core(f"core[0..{each - 1}]", [_unit("lif", model="leaky_integrate_fire", **soma)])
    inputs = core(host, [_unit(f"host[0..{max(host_neurons, 1) - 1}]", model="input", **nothing)])
    where = [{"name": "tile[0]", "attributes": hops, "core": [chip, inputs]}]
    if width * height > 1:
        where.append({"name": f"tile[1..{width * height - 1}]", "attributes": hops, "core": [chip]})
    low, high = profile.time.barrier_1_tile, profile.time.barrier_32_tiles
    barrier = 0.0
    if low is not None and high is not None:
        barrier = (low.value + (high.value - low.value) * (tiles - 1) / 31) * 1e-9
    attributes = {
        "topology": "mesh",
        "width": width,
        "height": height,
        "link_buffer_size": 16,
        "sync_model": "fixed",
        "latency_sync": barrier,
    }
    told = [f"# Target '{target.name}', constants of profile '{profile.name}'."]
    told += [f"# The profile has no {what}: 0 here." for what in dict.fromkeys(missing)]
    told.append("# link_buffer_size is that of SANA-FE's own Loihi.")
    whole = {"architecture": {"name": target.name, "attributes": attributes, "tile": where}}
    return "\n".join(told) + "\n" + yaml.dump(whole, Dumper=_Plain, sort_keys=False)


class _Plain(yaml.SafeDumper):
    """Without anchors, which not every reader knows."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _unit(name: str, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "attributes": attributes}
