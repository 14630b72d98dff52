"""Folds through the front door: options, the artifact, energy, pictures and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import neurocompile
from neurocompile.artifact.verify import verify
from neurocompile.backends.emulator import Emulator, emulate_cycles
from neurocompile.backends.encoding import encode
from neurocompile.backends.plan import make_plan
from neurocompile.backends.weights import make_weights
from neurocompile.energy.activity import measured_activity
from neurocompile.errors import NeurocompileError
from neurocompile.folding.schedules import Fold
from neurocompile.folding.search import choice_of, fold_circuit, folder_for
from neurocompile.ir.circuit import HostInput
from neurocompile.ir.text import TensorRef
from neurocompile.ir.windows import valid_windows
from neurocompile.mapping.grants import parts_used
from neurocompile.report.schedule import schedule_rows, schedule_table
from neurocompile.zoo import find_model, list_models


@pytest.fixture(scope="module")
def program(digits_model):
    return neurocompile.compile(digits_model, target="loihi2", T=4, fold="2x8")


def test_an_artifact_keeps_its_fold(program, digits_data, tmp_path):
    path = tmp_path / "a.nca"
    program.save(path)
    loaded = neurocompile.load(path)
    assert loaded.fold == program.fold and loaded.fold.fold == "2x8"
    assert loaded.fold.steps == loaded.circuit.sample_period == 4 * loaded.circuit.windows
    assert verify(path).cycles == 3 * loaded.circuit.sample_period + loaded.circuit.depth
    x = digits_data.x[:4]
    np.testing.assert_array_equal(loaded.run(x).logits, program.run(x).logits)


def test_parity_reads_layers_across_windows(program, digits_data):
    report = program.parity(digits_data.x[:3], against=("emulator",))
    assert report.exact and report.backends[0].values > 10_000


def test_messages_are_counted_in_every_window(program, digits_data):
    x = digits_data.x[:2]
    activity = measured_activity(program.circuit, x)
    trace = program.trace(x)
    for name, sent in activity.messages.items():
        assert sent.sum() == np.count_nonzero(trace[name])


def test_what_no_sample_changes_is_computed_once_and_relays_share_places(program, digits_data):
    circuit, weights = program.circuit, make_weights(program.circuit)
    out = circuit.readouts[0].src
    plan = make_plan(circuit, weights, [out])
    clocks = [p.name for p in circuit.populations if p.name in weights.silence.known]
    assert len(clocks) > 10 and len(plan.ops) < 0.7 * len(circuit.populations)
    for name in clocks:  # asked for, they are there
        sent = Emulator(1).open(circuit).run(encode(circuit, digits_data.x[:2]), [name])[name]
        known = weights.silence.known[name].reshape(sent[0].shape)
        np.testing.assert_array_equal(sent, np.broadcast_to(known, sent.shape))


def test_folding_asks_fewer_cores_for_more_steps(program, digits_program):
    assert program.mapping.cores_used < digits_program.mapping.cores_used
    assert program.circuit.sample_period > digits_program.circuit.sample_period
    summary = program.summary()
    assert summary.fold is not None and summary.period == program.circuit.sample_period


def test_the_front_falls_in_cores_as_it_rises_in_steps(digits_model):
    front = neurocompile.folds(digits_model, target="loihi2")
    assert front[0].fold == "none" and len(front) > 2
    steps = [c.steps for c in front]
    cores = [c.cores_at_least for c in front]
    assert steps == sorted(steps) and cores == sorted(cores, reverse=True)


@pytest.mark.slow
def test_auto_folds_what_does_not_fit(digits_model):
    front = neurocompile.folds(digits_model, target="loihi2")
    most = front[0].cores_at_least - 1
    program = neurocompile.compile(digits_model, target="loihi2", max_cores=most)
    assert program.mapping.cores_used <= most and program.circuit.windows > 1
    assert program.fold.fold == program.manifest.options.fold != "auto"
    assert program.folds


@pytest.mark.parametrize(
    "options, code",
    [
        ({"fold": "3x8"}, "NC3104"),
        ({"fold": "2x4"}, "NC3104"),
        ({"fold": "wide"}, "NC1015"),
        ({"fold": 4}, "NC1015"),
        ({"fold": "1x8", "max_steps": 8}, "NC3104"),
        ({"max_steps": 0}, "NC1015"),
    ],
)
def test_wrong_folds_are_refused_by_name(digits_model, options, code):
    with pytest.raises(NeurocompileError) as caught:
        neurocompile.compile(digits_model, target="loihi2", **options)
    assert caught.value.code == code
    if options.get("fold") == "3x8":
        assert "fold 3x8 does not divide the input of 8 x 8: rows 1, 2, 4, 8" in str(caught.value)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"fold": "none", "max_cores": 5}, "was asked for unrolled: `fold='auto'`"),
        ({"fold": "8x8", "max_cores": 5}, "was asked for folded 8x8: `fold='auto'`"),
        ({"max_steps": 8, "max_cores": 5}, "no fold of at most 8 steps a sample fits"),
    ],
)
def test_what_does_not_fit_names_what_was_not_searched(digits_model, options, says):
    found = neurocompile.estimate(digits_model, target="loihi2", **options)
    assert not found.fits and says in found.violations[-1][1]


def test_a_schedule_shows_each_population_in_its_windows(program):
    names, table = schedule_table(program.circuit)
    assert len(names) == len(table) and table.any(axis=1).all()
    assert not table.all()


def test_the_page_draws_the_schedule_and_tells_the_cost(program):
    pytest.importorskip("jinja2", reason="needs the extra report")
    from neurocompile.energy.report import count_program
    from neurocompile.report.page import render_page

    page = render_page(program, count_program(program), [])
    names, table = schedule_table(program.circuit)
    rows = schedule_rows(program.circuit)
    assert page.count("<rect x=") == sum(len(row.runs) for row in rows)
    assert "times the messages" in page and "20 steps a sample for 4" in page
    for row in rows:  # no window is lost or invented
        windows = sum(length * share for _, length, share in row.runs)
        assert windows == pytest.approx(table[names.index(row.name)].sum())


def test_folding_tells_what_it_sends(program, digits_model):
    unrolled, *folded = neurocompile.folds(digits_model, target="loihi2")
    assert unrolled.messages > 0 and all(f.operations > 0 for f in folded)
    assert program.fold.messages > 0
    text = folded[-1].beside(unrolled)
    assert f"{folded[-1].messages / unrolled.messages:.2f} times the messages" in text


def test_modelled_packets_are_near_those_of_the_mapping(program, digits_program):
    """The front has them before anything is mapped: within a quarter, unrolled and folded."""
    for one in (program, digits_program):
        traffic, modelled = one.mapping.traffic, one.fold.packets
        counted = traffic.packets + traffic.local + traffic.from_host
        assert modelled == pytest.approx(counted * one.circuit.sample_steps, rel=0.25)
        assert modelled >= one.fold.messages
        assert one.fold.host_clocks == sum(
            one.circuit.windows * p.size for p in one.circuit.inputs if p.pattern is not None
        )


def test_clocks_are_made_on_the_chip_from_one_tick_a_sample(program, digits_program):
    """A line of a neuron a window and one synapse a pattern and window: hardly a core more."""
    folder = folder_for(digits_program.quantized, 4, 8, program.target)
    for fold in ("2x8", "1x4s"):
        host, chip = (
            fold_circuit(digits_program.quantized, 4, 8, program.target, Fold.parse(f), folder)
            for f in (fold, fold + "c")
        )
        first, second = (choice_of(c, program.target, fold) for c in (host, chip))
        assert first.host_clocks > second.host_clocks == chip.windows  # one neuron's
        table = chip.tensors[chip.population["clock"].pattern]
        assert table.sum() == 1 and table[0] == 1
        assert second.cores_at_least <= first.cores_at_least + 1
        assert 0 <= second.latency - first.latency <= 2
        assert second.neurons <= first.neurons + chip.windows


def test_energy_stands_beside_the_unrolled_model_under_every_profile(program, digits_program):
    from neurocompile.energy.beside import beside_unrolled, idle_updates, modelled_totals
    from neurocompile.energy.counts import COLUMNS
    from neurocompile.energy.price import priced
    from neurocompile.energy.profile import list_profiles, load_profile
    from neurocompile.energy.report import count_program

    found = beside_unrolled(program)
    assert beside_unrolled(digits_program) is None
    names = {name for name in list_profiles() if priced(load_profile(name))}
    assert names <= {cost.profile for cost in found.costs}
    assert found.folded.steps == program.circuit.sample_period and found.unrolled.fold == "none"
    for cost in found.costs:  # more work is never priced as less
        assert (cost.folded_pj > cost.unrolled_pj) == (
            found.folded.operations > found.unrolled.operations
        )
    odd = fold_circuit(digits_program.quantized, 3, 8, program.target, Fold.parse("4x8"))
    for circuit in (program.circuit, digits_program.circuit, odd):  # window by window
        resting = 0
        for p in circuit.populations:
            if not isinstance(p, HostInput):
                own = valid_windows(circuit.windows, p.slots).sum() if p.slots else circuit.windows
                resting += p.size * (circuit.sample_period - circuit.steps * int(own))
        assert idle_updates(circuit) == resting
    assert idle_updates(digits_program.circuit) == 0 < idle_updates(program.circuit)
    assert odd.sample_period - odd.sample_steps == odd.windows
    for cost in found.costs:
        assert cost.unrolled_idle_pj in (0, None) and cost.unrolled_idle_us in (0, None)
        if cost.folded_idle_pj is not None:
            assert 0 < cost.folded_idle_pj < cost.folded_pj
        if cost.folded_idle_us is not None:
            assert 0 < cost.folded_idle_us < cost.folded_us
    for one in (program, digits_program):  # the totals are those of counting neuron by neuron
        counts, totals = count_program(one), modelled_totals(one.circuit, one.manifest.rates)
        exact = ("neurons", "spikes", "graded_messages", "updates", "synops_dense", "synops_sparse")
        for name in exact:
            assert totals[COLUMNS.index(name)] == pytest.approx(counts.total(name)), name
        for name in ("synops_convolution", "active"):  # borders; a mean of shares
            total = totals[COLUMNS.index(name)]
            assert counts.total(name) <= total <= 1.25 * counts.total(name), name


def test_a_budget_is_kept_by_a_folded_program(program, digits_model):
    built = neurocompile.compile(digits_model, T=4, fold="2x8", budget="spikes=1e4")
    budget, circuit = built.manifest.budget, built.circuit
    steps = circuit.sample_steps
    assert steps == circuit.windows * 4 > 4
    granted = budget.per_core_step * budget.cores_without * steps
    assert granted == pytest.approx(budget.messages, rel=1e-6)

    grants = built.mapping.spikes_per_core_step
    assert grants == {k.layer: k.per_core_step for k in budget.layers if k.per_core_step}

    def most(one):
        """Of the core that sends most of what its layers grant it, the part."""
        tiles = (core.tiles for core in one.mapping.cores)
        return parts_used(one.circuit, tiles, one.manifest.rates, grants).max()

    assert most(built) <= 1 + 1e-9 < most(program) and budget.binds
    for view in circuit.views:  # expected of all windows
        share = next(s for s in budget.layers if s.layer == view.layer)
        p = circuit.population[view.src]
        assert share.expected == pytest.approx(built.manifest.rates[p.name] * p.size * steps)


def test_a_schedule_is_drawn(program, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    from neurocompile.report.figure import save_figure
    from neurocompile.report.schedule import draw_schedule

    path = tmp_path / "schedule.png"
    save_figure(draw_schedule(program), path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_thresholds_by_channel_fold_exactly(digits_data) -> None:
    """Few bits give channels of uneven weights thresholds of their own: parts of a relay, gathered."""
    path = Path(__file__).parents[2] / "models" / "zoo" / "digits" / "spikformer.onnx"
    x = digits_data.x[:8]
    program = neurocompile.compile(path, T=4, weight_bits=3, fold="1x8", calibration=x)
    assert any(isinstance(getattr(n, "vth", 0), TensorRef) for n in program.quantized.nodes)
    assert program.parity(x, against=("emulator",)).exact
    integers = encode(program.circuit, x[:3])
    depth_free = Emulator().open(program.circuit).run(integers)
    stepped = emulate_cycles(program.circuit, integers)
    for name, values in depth_free.items():
        np.testing.assert_array_equal(values, stepped[name], err_msg=name)
    silent = make_weights(program.circuit).silence.silent  # what is skipped in the depth-free run
    assert np.mean([windows.any() for windows in silent.values()]) > 0.2
    for name, windows in silent.items():
        values = stepped[name].reshape(3, program.circuit.windows, -1)
        assert not values[:, windows].any()


@pytest.mark.slow
@pytest.mark.parametrize(  # the ViT computes by digits, which do not fold (test_operators.py)
    "name",
    sorted(m.name for m in list_models() if m.name.startswith("digits/") and "vit" not in m.name),
)
def test_a_fold_tells_the_spikes_of_the_layers_once(name) -> None:
    """What a fold computes in several windows is still one spike of the model."""
    model = find_model(name)
    plain, folded = (neurocompile.compile(model.path, fold=fold) for fold in ("none", "1x8"))
    low, high = plain.circuit.inputs[0].low, plain.circuit.inputs[0].high
    integers = np.random.default_rng(0).integers(low, high + 1, (3, *plain.input_shape))
    x = (integers * plain.circuit.inputs[0].scale).astype(np.float32)
    one, other = plain.run(x), folded.run(x, rasters=True)
    assert (one.logits == other.logits).all()
    assert one.spikes == other.spikes and one.neuron_steps == other.neuron_steps
    rates = {row["layer"]: row["rate"] for row in folded.energy(x).layers}
    for row in other.layers:
        assert rates[row["layer"]] in (None, pytest.approx(row["rate"]))
        assert np.count_nonzero(other.rasters[row["layer"]]) == row["spikes"]
