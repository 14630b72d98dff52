"""SANA-FE runs the files of a program's core images: every spike, message and hop the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from images.mixed_network import STEPS, network
from images.placed import placed

from neurocompile.backends.emulator import Emulator
from neurocompile.energy.core_counts import counted_packets
from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.exports import sanafe_run
from neurocompile.exports.sanafe import _refuse, load_tables, write_sanafe
from neurocompile.images import build_images
from neurocompile.images.image import PORT_FIELDS
from neurocompile.images.machine import CoreMachine
from neurocompile.ir.circuit import LIF, CircuitGraph, HostInput
from neurocompile.targets import load_target

LOIHI1 = load_target("loihi1")


@pytest.mark.parametrize("seed", range(3))
def test_sanafe_runs_the_images(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("sanafe", reason="needs the extra oracle (Python 3.10 and 3.11)")
    circuit = network(seed)
    mapping = placed(circuit, LOIHI1, seed, cores=9)
    images = build_images(circuit, mapping, LOIHI1)
    x = np.random.default_rng(seed).integers(0, 2, (1, 6, 6, 2)).astype(np.int32)
    written = write_sanafe(circuit, images, LOIHI1, x, tmp_path)
    names, result, spikes, read = sanafe_run.simulate(tmp_path, "simple")
    expected = Emulator().open(circuit).run(x)
    for group in names["groups"]:
        ours = expected[group["population"]][0].reshape(STEPS, -1)
        assert ours.any(), group
        if group["read"]:
            np.testing.assert_array_equal(read[group["group"]], ours)
            continue
        found = np.zeros_like(ours)
        for step, neuron in spikes[group["group"]]:
            found[step, neuron] = 1
        np.testing.assert_array_equal(found, ours, err_msg=group["population"])
    # what the machine counts, message by message
    machine = CoreMachine(images)
    packets = counted_packets(machine, machine.count(x, warm=False), LOIHI1)
    for number, population in enumerate(circuit.populations):
        own = (packets.population == number) & (packets.src >= 0)
        depth = population.depth
        sent = [
            message
            for step in result["message_trace"][depth : depth + STEPS]
            for message in step
            if message["src_neuron_group_id"] == f"g{number}" and not message["placeholder"]
        ]
        if not isinstance(population, HostInput):
            assert len(sent) == packets.count[own].sum()
            hops = packets.count[own] @ (packets.hops_x + packets.hops_y)[own]
            assert sum(m["hops"] for m in sent) == hops
    assert written.neurons == sum(p.size for p in circuit.populations)


def test_the_written_script_is_ours_and_prints_what_was_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sanafe", reason="needs the extra oracle (Python 3.10 and 3.11)")
    circuit = network(0)
    images = build_images(circuit, placed(circuit, LOIHI1, 0, cores=9), LOIHI1)
    x = np.random.default_rng(0).integers(0, 2, (1, 6, 6, 2)).astype(np.int32)
    write_sanafe(circuit, images, LOIHI1, x, tmp_path)
    assert (tmp_path / "run.py").read_text() == Path(sanafe_run.__file__).read_text()
    sanafe_run.main(tmp_path)
    said = capsys.readouterr().out
    expected = Emulator().open(circuit).run(x)
    for name in ("conv", "pool", "wide", "out"):
        assert f"{name}: {np.count_nonzero(expected[name]):,} spikes\n" in said
    sums = [float(v) for v in expected["sum"][0].sum(axis=0)]
    assert f"sum: sums over the sample {sums}\n" in said
    sent = counted_packets(CoreMachine(images), CoreMachine(images).count(x, warm=False), LOIHI1)
    own = sent.count[sent.src >= 0].sum()
    assert f"{own:,.0f} messages of cores, " in said and " J, " in said


def test_what_loihi_1_has_no_words_for_is_named(tmp_path: Path) -> None:
    x = np.zeros((1, 6, 6, 2), np.int32)

    def export(circuit: CircuitGraph, target, x: np.ndarray) -> NeurocompileError:
        images = build_images(circuit, placed(circuit, target, 0), target)
        with pytest.raises(NeurocompileError) as caught:
            write_sanafe(circuit, images, target, x, tmp_path / "out")
        assert caught.value.code == "NC5008" and not (tmp_path / "out").exists()
        return caught.value

    assert "layer 'out' sends graded values" in str(export(network(0, graded=True), LOIHI1, x))
    assert "share kernels" in str(export(network(0), load_target("loihi2"), x))
    assert "waits 4 steps" not in str(export(network(0), load_target("loihi2"), x))
    assert "is no spikes" in str(export(network(0, high=3), LOIHI1, x + 2))


def test_each_reason_stands_on_a_line_of_its_own(tmp_path: Path) -> None:
    """Synaptic currents, a long delay, a core too full and a second chip."""
    circuit = network(0)
    currents = tuple(
        dataclasses.replace(p, du=1000) if isinstance(p, LIF) and p.name == "wide" else p
        for p in circuit.populations
    )
    circuit = circuit.replace(populations=currents)
    images = build_images(circuit, placed(circuit, LOIHI1, 0, cores=2), LOIHI1)
    first, *rest = images.cores
    ports = first.ports.copy()
    ports[0, PORT_FIELDS.index("delay")] = 40
    late = dataclasses.replace(first, ports=ports)
    tables = load_tables(dataclasses.replace(images, cores=(late, *rest)))
    full = dataclasses.replace(late, bias=np.zeros(1025, np.int16))
    away = dataclasses.replace(rest[0], place=rest[0].place + np.array([1, 0, 0, 0]))
    spoilt = dataclasses.replace(images, cores=(full, away))
    with pytest.raises(ViolationList) as refused:
        _refuse(spoilt, tables, LOIHI1)
    said = refused.value.messages
    assert any("layer 'wide' has synaptic currents" in line for line in said)
    assert any("waits 40 steps; SANA-FE's dendrites hold" in line for line in said)
    assert any(line.startswith("a core holds 1,025 neurons") for line in said)
    assert "it takes more than one chip" in said and set(refused.value.codes) == {"NC5008"}
