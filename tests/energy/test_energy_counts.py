"""Counts of the digits model against the emulator's traces and the mapper's own traffic; energy by
hand.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_cases import small

import neurocompile
from neurocompile.energy.corollary import ALL_LIFS, LAYERS
from neurocompile.energy.counts import COLUMNS
from neurocompile.energy.packets import link_loads
from neurocompile.energy.price import ITEMS, price
from neurocompile.energy.profile import list_profiles, load_profile
from neurocompile.energy.report import count_program, energy_report
from neurocompile.ir.circuit import LIF, HostInput


@pytest.fixture(scope="module")
def measured(digits_program, digits_data):
    return count_program(digits_program, digits_data.x[:7])


def test_spikes_are_those_of_the_trace(digits_program, digits_data, measured) -> None:
    trace = digits_program.trace(digits_data.x[:7])
    circuit = digits_program.circuit
    for row, p in zip(measured.populations, circuit.populations, strict=True):
        sent = np.count_nonzero(trace[p.name])
        expected = {"spikes": sent * isinstance(p, LIF), "graded_messages": sent * (not p.spiking)}
        if not isinstance(p, HostInput):
            assert {n: row[COLUMNS.index(n)] * 7 for n in expected} == pytest.approx(
                expected, rel=1e-12
            )
    assert measured.barriers == circuit.period


def test_packets_and_hops_are_those_of_the_mapper_for_its_rates(digits_program) -> None:
    counts, steps = count_program(digits_program), digits_program.circuit.steps
    traffic = digits_program.mapping.traffic
    assert counts.basis == "modelled" and counts.samples == 0
    assert counts.total("packets") / steps == pytest.approx(traffic.packets, rel=1e-12)
    assert counts.total("local_packets") / steps == pytest.approx(traffic.local, rel=1e-12)
    assert counts.total("host_packets") / steps == pytest.approx(traffic.from_host, rel=1e-12)
    hops = counts.total("hops_east_west") + counts.total("hops_north_south")
    assert hops / steps == pytest.approx(traffic.hops, rel=1e-12)


def test_links_carry_every_hop(digits_program, measured) -> None:
    loads = link_loads(measured.packets, digits_program.mapping, digits_program.target)
    assert loads["east"].sum() + loads["west"].sum() == pytest.approx(
        measured.total("hops_east_west")
    )
    assert loads["north"].sum() + loads["south"].sum() == pytest.approx(
        measured.total("hops_north_south")
    )


def test_cores_add_up_to_populations(measured) -> None:
    for i, name in enumerate(COLUMNS):
        if not name.startswith("effective") and name not in (
            "neurons",
            "packets_in",
            "host_packets",
        ):
            assert measured.cores[:, i].sum() == pytest.approx(measured.populations[:, i].sum()), (
                name
            )
    assert measured.total("effective_acs") <= measured.total("acs")
    synops = sum(measured.total(f"synops_{k}") for k in ("dense", "sparse", "convolution"))
    assert synops == pytest.approx(measured.total("acs") + measured.total("macs"))


def test_energy_is_constant_times_count(measured, digits_program) -> None:
    items = dict(
        zip(ITEMS, price(load_profile("davies2018"), measured.populations).sum(axis=0), strict=True)
    )
    total, active = measured.total, measured.total("active")
    assert items["synapses"] == pytest.approx(23.6 * (total("acs") + total("macs")))
    assert items["neurons"] == pytest.approx(81 * active + 52 * (total("updates") - active))
    assert items["packets"] == pytest.approx(1.7 * total("tile_packets"))
    assert items["hops"] == pytest.approx(
        3 * total("hops_east_west") + 4 * total("hops_north_south")
    )
    report = energy_report(digits_program, measured, [load_profile(n) for n in list_profiles()])
    for found in report.energies:
        assert found.foreign, "loihi2's constants are in no shipped profile"
        assert found.dynamic_pj == pytest.approx(sum(v or 0.0 for v in found.items.values()))
        assert found.items["synapses"] and (found.items["hops"] is None) == (
            found.profile in ("horowitz45", "keras-spiking")
        )
        assert found.dynamic_pj == pytest.approx(sum(found.layers.values()))
        assert found.bound_pj is not None and found.dynamic_pj > found.bound_pj > 0
    late = next(e for e in report.energies if e.profile == "davies2018").latency
    assert late.steps_first_answer == digits_program.circuit.depth + 4
    assert late.step_ns == pytest.approx(max(late.core_ns, late.link_ns) + late.barrier_ns)
    assert late.samples_per_second == pytest.approx(1e9 / (4 * late.step_ns))


def test_activity_counts_every_update_once(measured) -> None:
    active, updates = (measured.populations[:, COLUMNS.index(n)] for n in ("active", "updates"))
    assert (active <= updates + 1e-9).all() and 0 < active.sum() < updates.sum()


def test_corollary_9_counts_the_same_spikes_in_energy_and_budget(tmp_path) -> None:
    onnx.save(small(), tmp_path / "m.onnx")
    shape = neurocompile.open(tmp_path / "m.onnx").graph.input.sample_shape
    x = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    told = neurocompile.budget(tmp_path / "m.onnx", data=x, calibration=x, epsilon=1e-9)
    rows = [b for b in told.beside if b.statement == "Corollary 9"]
    assert len(rows) == 3 and ("Theorem 10" in rows[0].what or "Theorem 8" in rows[0].what)
    T = int(rows[0].remark.partition("T = ")[2].partition(";")[0])
    program = neurocompile.compile(tmp_path / "m.onnx", calibration=x, T=T)
    report = program.energy(x, profiles=("davies2018",))
    (energy,) = report.energies
    assert list(report.corollary_spikes) == [ALL_LIFS, LAYERS] == list(energy.bounds_pj)
    assert 0 < report.corollary_spikes[LAYERS] <= report.corollary_spikes[ALL_LIFS]
    assert report.corollary_spikes[ALL_LIFS] == pytest.approx(report.counts["spikes"])
    assert energy.bound_pj == energy.bounds_pj[ALL_LIFS]
    for row, (name, N) in zip(rows[1:], report.corollary_spikes.items()):
        assert f"N = {N:,.0f} spikes of {name}" in row.what
        assert row.theory * 1e12 == pytest.approx(energy.bounds_pj[name])
