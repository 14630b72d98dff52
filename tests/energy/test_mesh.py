"""Time on the mesh: by hand on a few messages, and against SANA-FE's own timing."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from neurocompile.energy.buffers import play_buffered
from neurocompile.energy.mesh import Constants, MeshReport, MeshRun, _play, constants_of, mesh_of
from neurocompile.energy.profile import load_profile
from neurocompile.errors import NeurocompileError
from neurocompile.report.mesh import draw_mesh

C = Constants(10.0, 5.0, 5.0, 2.0, 4.0, 6.0, 100.0)
PLACE = np.array([[0, 0], [1, 0], [1, 1], [0, 0]], np.int64)
"""Cores 0 and 3 share a tile; core 1 lies east of it, core 2 south of that."""


def play(messages: list[tuple[int, int, int, int]], update: list[float]):
    """``messages``: source core, destination core, synapses, sender; 4 cores of 10 neurons."""
    log = np.array([(0, *m) for m in messages], np.int64).reshape(-1, 5)
    done, links = np.zeros(4), np.zeros((4, 2, 2), np.int64)
    first = np.arange(4, dtype=np.int64) * 10
    neurons = np.full(4, 10, np.int64)
    waited = _play(log, np.array(update), neurons, first, PLACE, C, done, links)
    return done, links, waited


def test_one_message_goes_east_then_south() -> None:
    done, links, waited = play([(0, 2, 3, 9)], [50.0, 0.0, 0.0, 0.0])
    # leaves with the last of ten neurons, two hops, three synapses
    assert done.tolist() == [50.0, 0.0, 50.0 + 4 + 6 + 30, 0.0] and waited == 0
    assert links[0, 0, 0] == 1 and links[2, 0, 1] == 1 and links.sum() == 2


def test_messages_wait_for_a_link_and_for_synapses() -> None:
    done, links, waited = play([(0, 1, 1, 0), (0, 1, 1, 0), (0, 1, 1, 0)], [0.0] * 4)
    assert waited == 4 + 8 and links[0, 0, 0] == 3
    assert done[1] == 4 + 3 * 10  # the first arrives after a hop, synapses are slower than the link


def test_within_a_tile_and_from_the_host() -> None:
    done, links, _ = play([(0, 3, 1, 0), (4, 1, 2, 0), (0, 0, 1, 0)], [0.0] * 4)
    assert done.tolist() == [10.0, 20.0, 0.0, 12.0] and links.sum() == 0


def buffered(messages, update: list[float], buffer: int):
    log = np.array([(0, *m) for m in messages], np.int64).reshape(-1, 5)
    done, links = np.zeros(4), np.zeros((4, 2, 2), np.int64)
    core, times = np.minimum(log[:, 1], 3), np.array(update)
    due = times[core] * (log[:, 4] - 10 * core + 1) / 10
    stood = play_buffered(log, times, due, PLACE, C, buffer, done, links)
    return done, links, stood


@pytest.mark.slow
def test_full_buffers_stop_who_sends() -> None:
    done, links, stood = buffered([(0, 2, 3, 9)], [50.0, 0.0, 0.0, 0.0], 1)
    assert done.tolist() == [50.0, 0.0, 90.0, 0.0] and stood == 0 and links.sum() == 2
    # the first is in front of its synapses from 4 to 14, the second behind the link from 8 on, the third
    # leaves its core at 8, is behind the link from 18 on; each takes 10
    three = [(0, 1, 1, 0)] * 3
    done, _, stood = buffered(three, [0.0] * 4, 1)
    assert done.tolist() == [8.0, 34.0, 0.0, 0.0] and stood == 8
    done, _, stood = buffered(three, [0.0] * 4, 3)
    assert done.tolist() == [0.0, 34.0, 0.0, 0.0] and stood == 0


@pytest.mark.slow
@pytest.mark.parametrize("buffer", [1, 2, 5, 1000])
def test_every_message_arrives_through_finite_buffers(buffer: int) -> None:
    """Whatever the messages: none waits for ever, routes and work are those of endless queues."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        source = np.sort(rng.integers(0, 5, 60))
        rows = [
            (int(c), int(rng.integers(0, 4)), int(rng.integers(0, 5)), 10 * min(int(c), 3) + i % 10)
            for i, c in enumerate(source)
        ]
        rows.sort(key=lambda row: (row[0], row[3]))
        update = (rng.random(4) * 100).tolist()
        done, links, stood = buffered(rows, update, buffer)
        _, endless, _ = play(rows, update)
        np.testing.assert_array_equal(links, endless)
        work = np.zeros(4)
        np.add.at(work, [row[1] for row in rows], [row[2] * C.synapse for row in rows])
        assert (done >= np.maximum(work, update) - 1e-9).all()
        assert stood == 0 or buffer < 60


def test_times_are_needed(digits_program, digits_data) -> None:
    with pytest.raises(NeurocompileError) as caught:
        constants_of(load_profile("horowitz45"), 1)
    assert caught.value.code == "NC7009"
    with pytest.raises(NeurocompileError) as caught:
        mesh_of(digits_program, digits_data.x[:2], load_profile("davies2018"))
    assert caught.value.code == "NC1006" and "pipeline" in str(caught.value)


def test_a_picture_names_the_slowest_core_and_link_of_each_step() -> None:
    """Of ten cores and links: seven by name, the rest together."""
    pytest.importorskip("matplotlib")
    steps, rng = 30, np.random.default_rng(0)
    cores, links = np.zeros((steps, 10)), np.zeros((steps, 4, 2, 3), np.int64)
    for step in range(steps):
        cores[step, step % 10] = 1000.0 + step
        links[step, step % 4, step % 2, step % 3] = 50 + step
    run = MeshRun(cores.max(axis=1), cores, links, rng.random(steps), np.ones(steps, bool))
    assert run.slowest.tolist() == [step % 10 for step in range(steps)]
    assert run.busiest.tolist() == [[i % 4, i % 2, i % 3, 50 + i] for i in range(steps)]
    report = MeshReport(
        profile="davies2018",
        samples=1,
        steps=steps,
        step_ns=1015.0,
        longest_ns=1029.0,
        barrier_ns=0.0,
        slowest_core=0,
        slowest_share=0.1,
        link_tile=(2, 1),
        link_way="south",
        link_messages=79,
        waited_ns=0.0,
        samples_per_second=1.0,
    )
    above, middle, *_ = draw_mesh(report, run, "model").axes
    for axes, name in ((above, "0: 3"), (middle, "(0, 0) east: 3")):
        told = [text.get_text() for text in axes.get_legend().get_texts()]
        assert told[0] == name and len(told) == 8
        assert told[-1].endswith("others: 9" if axes is above else "others: 10"), told
        shown = sum(len(points.get_offsets()) for points in axes.collections)
        assert shown == steps, "each step once"


@pytest.mark.slow
def test_a_bad_placement_shows_congestion(digits_program, digits_data) -> None:
    """Cores of the digits model on a tile each, row by row: its links carry four times as much in a
    step and messages wait for them (measured: 337 and 1,379 messages, 118 and 9,199 ns). Synapses take
    longer than links here, so steps last hardly longer.
    """
    profile, x = load_profile("davies2018"), np.tile(digits_data.x[:4], (7, 1, 1, 1))
    good, _ = mesh_of(digits_program, x, profile)
    columns = digits_program.target.mesh.columns.value
    moved = tuple(
        msgspec.structs.replace(core, x=i % columns, y=i // columns, core=0)
        for i, core in enumerate(digits_program.mapping.cores)
    )
    spread = msgspec.structs.replace(digits_program.mapping, cores=moved)
    bad, _ = mesh_of(dataclasses.replace(digits_program, mapping=spread), x, profile)
    assert bad.link_messages > 2 * good.link_messages and bad.waited_ns > 10 * good.waited_ns
    assert bad.step_ns - bad.barrier_ns >= good.step_ns - good.barrier_ns
