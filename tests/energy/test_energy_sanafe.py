"""SANA-FE as an independent oracle: the same mapped networks, spike for spike, and the same energy.

SANA-FE (GPL-3) is a test dependency only; chip and network are described to it from our own data.
Its networks are Loihi's: spikes only, unit delays, currents that last one step.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from neurocompile.backends.bias import lif_bias
from neurocompile.backends.emulator import Emulator
from neurocompile.energy.activity import Activity, _active
from neurocompile.energy.counts import COLUMNS, count
from neurocompile.energy.price import price
from neurocompile.energy.profile import load_profile
from neurocompile.ir.circuit import LIF, CircuitGraph, Conv2d, Dense, HostInput, Strided
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.mapping import map_circuit
from neurocompile.passes.schedule import schedule
from neurocompile.targets import load_target

sanafe = pytest.importorskip(
    "sanafe", reason="needs the extra oracle (sanafe has wheels for Python 3.10 and 3.11 only)"
)

STEPS = 24


def network(seed: int) -> CircuitGraph:
    """Convolution, pooling by strides, two matrices; leaks of several kinds. No biases: SANA-FE
    integrates them before the first input arrives, where our samples start with their first
    step."""
    rng = np.random.default_rng(seed)
    tensors = {
        "k": (rng.integers(-60, 100, (6, 3, 3, 2)) // 2 * 2).astype(np.int16),
        "m": (rng.integers(-60, 80, (200, 54)) // 2 * 2).astype(np.int16),
        "n": (rng.integers(-50, 60, (40, 200)) // 2 * 2).astype(np.int16),
    }

    def lif(name: str, shape: tuple[int, ...], **more: object) -> LIF:
        return LIF(name=name, shape=shape, layer=name, **more)  # type: ignore[arg-type]

    populations = (
        HostInput(name="x", shape=(6, 6, 2), layer="x", low=0, high=1),
        lif("conv", (6, 6, 6), vth=150, dv=1024),
        lif("pool", (3, 3, 6), vth=0, dv=4095),
        lif("wide", (200,), vth=120, dv=512),
        lif("out", (40,), vth=200, dv=0),
    )
    projections = (
        Conv2d(name="1", src=Ref("x"), dst=Ref("conv"), weight=TensorRef("k"), padding=(1, 1)),
        Strided(
            name="2",
            src=Ref("conv"),
            dst=Ref("pool"),
            sizes=(3, 3, 6, 2, 2),
            src_strides=(72, 12, 1, 36, 6),
            dst_strides=(18, 6, 1, 0, 0),
            weight=1,
            sign="excitatory",
        ),
        Dense(name="3", src=Ref("pool"), dst=Ref("wide"), weight=TensorRef("m")),
        Dense(name="4", src=Ref("wide"), dst=Ref("out"), weight=TensorRef("n")),
    )
    graph = CircuitGraph("net", STEPS, populations, projections, (), tensors)
    return schedule(graph, max_spike_delay=1, power_of_two_period=False)


def chip(target, profile, folder: Path, inputs: int):
    """SANA-FE's chip with the profile's constants; tile by tile in its column-major numbering."""
    e, unit = profile.energy, 1e-12
    hops = {f"energy_{d}_hop": e.hop_north_south.value * unit for d in ("north", "south")}
    hops |= {f"energy_{d}_hop": e.hop_east_west.value * unit for d in ("east", "west")}
    hops |= {f"latency_{d}_hop": 1e-9 for d in ("north", "south", "east", "west")}

    def soma(name: str, model: str, access: float, update: float, spike: float) -> dict:
        energies = {
            "energy_access_neuron": access,
            "energy_update_neuron": update,
            "energy_spike_out": spike,
        }
        times = {k.replace("energy", "latency"): 0.0 for k in energies}
        return {
            "name": name,
            "attributes": {"model": model, **{k: v * unit for k, v in energies.items()}, **times},
        }

    def synapse(kind: str) -> dict:
        energy = getattr(e, f"synaptic_operation_{kind}").value * unit
        return {
            "name": kind,
            "attributes": {
                "model": "current_based",
                "energy_process_spike": energy,
                "latency_process_spike": 0.0,
            },
        }

    idle, busy = e.neuron_update_inactive.value, e.neuron_update_active.value
    core = {
        # one more a tile: on tile 0 it is the host
        "name": f"core[0..{target.mesh.cores_per_tile.value}]",
        "attributes": {
            "buffer_position": "soma",
            "buffer_inside_unit": False,
            "max_neurons_supported": 4096,
        },
        "axon_in": [
            {"name": "in", "attributes": {"energy_message_in": 0.0, "latency_message_in": 0.0}}
        ],
        "synapse": [synapse(k) for k in ("dense", "sparse", "convolution")],
        "dendrite": [
            {
                "name": "d",
                "attributes": {"model": "accumulator", "energy_update": 0.0, "latency_update": 0.0},
            }
        ],
        "soma": [
            soma("lif", "leaky_integrate_fire", idle, busy - idle, e.spike.value),
            soma(f"host[0..{inputs - 1}]", "input", 0.0, 0.0, 0.0),
        ],
        "axon_out": [
            {
                "name": "out",
                "attributes": {
                    "energy_message_out": e.packet.value * unit,
                    "latency_message_out": 0.0,
                },
            }
        ],
    }
    width, height = target.mesh.columns.value, target.mesh.rows.value
    tiles = [{"name": f"tile[0..{width * height - 1}]", "attributes": hops, "core": [core]}]
    attributes = {
        "topology": "mesh",
        "width": width,
        "height": height,
        "link_buffer_size": 16,
        "sync_model": "fixed",
        "latency_sync": 0.0,
    }
    path = folder / "chip.yaml"
    path.write_text(
        yaml.safe_dump(
            {"architecture": {"name": "chip", "attributes": attributes, "tile": tiles}},
            sort_keys=False,
        )
    )
    return sanafe.load_arch(path)


def matrix(circuit: CircuitGraph, q) -> tuple[np.ndarray, np.ndarray]:
    """Which synapses are stored, and their weights, (dst, src): by sending one message from each
    source in turn.
    """
    from neurocompile.backends.kernels import project

    src, dst = circuit.population[q.src], circuit.population[q.dst]
    one = np.eye(src.size, dtype=np.int32)
    found = []
    for weight in (
        None if circuit.weight(q) is None else np.ones_like(circuit.weight(q)),
        circuit.weight(q),
    ):
        out = np.zeros((src.size, dst.size), np.int32)
        project(q, weight, one, src.shape, out)
        found.append(out.T)
    return found[0] != 0, found[1]


def simulate(
    circuit: CircuitGraph, mapping, target, profile, folder: Path, x: np.ndarray
) -> tuple[dict, dict]:
    """SANA-FE's result, and its spikes by population: bool (steps, neurons) in global steps."""
    arch = chip(target, profile, folder, x.size)
    height = target.mesh.rows.value
    net, groups = sanafe.Network(), {}
    for p in circuit.populations:
        if isinstance(p, HostInput):
            groups[p.name] = net.create_neuron_group(
                p.name, p.size, soma_hw_name="host[0]", log_spikes=True
            )
            for i, value in enumerate(x.reshape(-1)):
                groups[p.name][i].set_attributes(
                    soma_hw_name=f"host[{i}]", model_attributes={"spikes": [bool(value)] * STEPS}
                )
                groups[p.name][i].map_to_core(arch.tiles[0].cores[target.mesh.cores_per_tile.value])
            continue
        kind = {Conv2d: "convolution", Dense: "dense", Strided: "sparse"}[
            type(circuit.incoming[p.name][0])
        ]
        model = {
            "threshold": float(p.vth),
            "leak_decay": (4096 - p.dv) / 4096,
            "input_decay": 0.0,
            "reset": 0.0,
            "reset_mode": "hard",
            "reverse_threshold": -1e12,
        }
        groups[p.name] = net.create_neuron_group(
            p.name,
            p.size,
            soma_hw_name="lif",
            default_synapse_hw_name=kind,
            model_attributes=model,
            log_spikes=True,
        )
    for core in mapping.cores:
        for tile in core.tiles:
            shape = circuit.population[tile.population].shape
            for i in np.arange(np.prod(shape)).reshape(shape)[tile.slices].reshape(-1):
                groups[tile.population][int(i)].map_to_core(
                    arch.tiles[core.x * height + core.y].cores[core.core]
                )
    for q in circuit.projections:
        stored, weight = matrix(circuit, q)
        for d, s in zip(*np.nonzero(stored), strict=True):
            groups[q.src][int(s)].connect_to_neuron(
                groups[q.dst][int(d)], {"weight": float(weight[d, s])}
            )
    machine = sanafe.SpikingChip(arch)
    machine.load(net)
    result = machine.sim(STEPS, timing_model="simple", spike_trace=True)
    spikes = {p.name: np.zeros((STEPS, p.size), bool) for p in circuit.populations}
    for step, fired in enumerate(result["spike_trace"]):
        for neuron in fired:
            spikes[neuron.group_name][step, neuron.neuron_offset] = True
    return result, spikes


@pytest.mark.parametrize("seed", range(3))
def test_spikes_and_energy_of_sanafe(
    tmp_path: Path, seed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    circuit, target, profile = network(seed), load_target("sim_small"), load_profile("sanafe-loihi")
    mapping = map_circuit(circuit, target, {}, seed=seed)
    assert len({(c.x, c.y) for c in mapping.cores}) > 1, "the network has to spread over tiles"
    x = np.random.default_rng(seed).integers(0, 2, (1, 6, 6, 2)).astype(np.int32)
    result, spikes = simulate(circuit, mapping, target, profile, tmp_path, x)
    trace = Emulator().open(circuit).run(x)
    messages, active = {}, {}
    bias = {p.name: lif_bias(circuit, p) for p in circuit.populations if isinstance(p, LIF)}
    for p in circuit.populations:
        # SANA-FE runs STEPS global steps; a population of depth D lives through its first STEPS - D
        # own ones.
        window = {name: values[:, : STEPS - p.depth] for name, values in trace.items()}
        ours = window[p.name].reshape(STEPS - p.depth, -1) != 0
        assert ours.any() and not ours.all(), p.name
        assert np.array_equal(spikes[p.name][p.depth :], ours), p.name
        assert not spikes[p.name][: p.depth].any()
        messages[p.name] = ours.sum(axis=0).astype(np.float64)
        if isinstance(p, LIF):
            active[p.name] = _active(circuit, p, window, bias, {}, {})
    counts = count(circuit, mapping, target, Activity("measured", "oracle", 1, messages, active))
    # the host is a core of tile (0, 0) to SANA-FE; to us its place is unknown, so its messages are
    # added by hand
    host = counts.packets.src < 0
    place = np.array([[c.x, c.y] for c in mapping.cores])[counts.packets.dst[host]]
    e = profile.energy
    from_host = counts.packets.count[host] @ (
        e.packet.value + place @ [e.hop_east_west.value, e.hop_north_south.value]
    )
    synapses, neurons, fired, packets, hops = price(profile, counts.populations).sum(axis=0)
    found = {k: v * 1e12 for k, v in result["energy"].items()}
    assert found["synapse"] == pytest.approx(synapses, rel=1e-6)
    assert found["soma"] == pytest.approx(neurons + fired, rel=1e-6)
    assert found["network"] == pytest.approx(packets + hops + from_host, rel=1e-6)
    assert found["total"] == pytest.approx(
        synapses + neurons + fired + packets + hops + from_host, rel=1e-6
    )
    sent = counts.total("packets") + counts.total("local_packets") + counts.total("host_packets")
    assert result["packets_sent"] == sent
    assert result["spikes"] == sum(counts.total(n) for n in COLUMNS if n.startswith("synops_"))
