"""Fits with known answers, margins, shares, and the budget on its way to the mapper."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import neurocompile
from neurocompile.errors import NeurocompileError
from neurocompile.mapping import map_circuit
from neurocompile.mapping.budget import SpikeBudget, apply_budget, parse_budget
from neurocompile.theory.bounds.margin import epsilon_for_accuracy
from neurocompile.theory.bounds.shares import layer_demand, layer_size, shares
from neurocompile.theory.measure.budget import plan_budget
from neurocompile.theory.measure.calibrate import fit_constant
from neurocompile.theory.measure.examine import examine
from neurocompile.theory.measure.subject import Subject, open_subject
from neurocompile.theory.measure.sweep import Point, run_at, smallest, synaptic_operations


@given(st.floats(0.1, 100), st.floats(0.5, 50))
def test_fit_finds_the_constant(constant: float, scale: float) -> None:
    eps = np.geomspace(0.01, 1, 9)
    fit = fit_constant(eps, constant * scale / eps**2, scale)
    assert fit.constant == pytest.approx(constant) and fit.low == pytest.approx(
        constant
    ) == pytest.approx(fit.high)
    assert (
        fit.exponent == pytest.approx(-2)
        and fit.r == pytest.approx(1)
        and fit.r_squared == pytest.approx(1)
    )
    assert (fit.points, fit.resamples) == (9, 1000)


def test_fit_with_noise_covers_the_constant() -> None:
    rng, covered = np.random.default_rng(0), 0
    eps = np.geomspace(0.01, 1, 20)
    for _ in range(100):
        fit = fit_constant(eps, 2.3 / eps**2 * np.exp(0.2 * rng.standard_normal(20)))
        covered += fit.low <= 2.3 <= fit.high
        assert fit.low < fit.constant < fit.high and fit.r_squared == fit.r**2
    assert (
        85 <= covered <= 100
    )  # 95 % nominally; a percentile bootstrap of 20 points covers a little less


def test_fit_of_another_law_shows_its_exponent() -> None:
    eps = np.geomspace(0.01, 1, 9)
    assert fit_constant(eps, 5 / eps).exponent == pytest.approx(-1)


@pytest.mark.parametrize("eps", [[0.1, 0.2], [0.1, 0.1, 0.1], [0.1, 0.2, 0.0], [0.1, 0.2, np.nan]])
def test_too_few_points(eps: list[float]) -> None:
    with pytest.raises(NeurocompileError, match="NC8007"):
        fit_constant(np.array(eps), np.ones(len(eps)))


def test_margin_is_certain() -> None:
    rng = np.random.default_rng(0)
    logits, y = rng.standard_normal((200, 5)), rng.integers(0, 5, 200)
    y[:150] = logits[:150].argmax(axis=1)
    eps = epsilon_for_accuracy(logits, y, 0.6)
    noise = rng.standard_normal((500, 200, 5))
    noise *= 0.999 * eps / np.linalg.norm(noise, axis=2, keepdims=True)
    assert ((logits + noise).argmax(axis=2) == y).mean(axis=1).min() >= 0.6
    assert epsilon_for_accuracy(logits, y, 0.3) > eps
    with pytest.raises(NeurocompileError, match="NC8006 .*lower `accuracy`"):
        epsilon_for_accuracy(logits, y, 0.99)
    with pytest.raises(NeurocompileError, match="NC8006 labels"):
        epsilon_for_accuracy(logits, y + 9, 0.5)
    with pytest.raises(NeurocompileError, match="NC8003"):
        epsilon_for_accuracy(logits, y, 1.5)


def test_margin_by_hand() -> None:
    logits = np.array([[3.0, 1.0], [0.0, 5.0], [1.0, 0.0], [2.0, 0.0]])
    assert epsilon_for_accuracy(logits, np.zeros(4, int), 0.5) == pytest.approx(2 / np.sqrt(2))
    assert epsilon_for_accuracy(logits, np.zeros(4, int), 0.75) == pytest.approx(1 / np.sqrt(2))


def test_smallest_of_a_sweep() -> None:
    points = [Point(4, 0.2, 40, 0.9), Point(1, 0.9, 10, 0.95), Point(8, 0.1, 80, 0.99)]
    assert smallest(points, eps=0.2).T == 4 and smallest(points, accuracy=0.9).T == 1
    assert smallest(points, 0.5, 0.95).T == 8 and smallest(points, eps=0.01) is None
    assert smallest([Point(1, 0.1, 1, None)], accuracy=0.1) is None


def test_layer_sizes_and_demand() -> None:
    assert [layer_size(shape) for shape in ((16, 8, 8), (49, 32), (10,), ())] == [
        (64, 16),
        (49, 32),
        (1, 10),
        (1, 1),
    ]
    assert layer_demand(16, 64, 2.0, 4, 0.1) == pytest.approx(4 * 1024 * (4 / 0.1) ** 2)
    assert layer_demand(16, 64, 2.0, 8, 0.1) == pytest.approx(4 * layer_demand(16, 64, 2.0, 4, 0.1))
    assert layer_demand(16, 64, 0.0, 4, 0.1) == 0


def test_parse() -> None:
    assert parse_budget("epsilon=0.05").text == "epsilon=0.05"
    text = "spikes=10000,constant=2,lipschitz=3,dimension=29"
    assert parse_budget("lipschitz=3, spikes=1e4,dimension=29,constant=2").text == text
    for text in (
        "",
        "epsilon",
        "epsilon=x",
        "epsilon=-1",
        "epsilon=0",
        "spikes=inf",
        "spikes=nan",
        "epsilon=1,spikes=2",
        "epsilon=1,epsilon=2",
        "watts=3",
        "constant=2",
    ):
        with pytest.raises(NeurocompileError) as error:
            parse_budget(text)
        assert error.value.code == "NC8008" and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "epsilon=1e-200",
        "epsilon=1e300",
        "spikes=1e-300",
        "spikes=1e300",
        "epsilon=1,constant=1e-320",
    ],
)
def test_budgets_beyond_every_chip_are_refused(text: str) -> None:
    with pytest.raises(NeurocompileError, match="NC8008 .*1e-100 to 1e"):
        parse_budget(text)


def test_shares_sum_to_the_total(digits_program) -> None:
    circuit = digits_program.circuit
    found = shares(circuit, 5000.0, {v.layer: 2.0 for v in circuit.views}, {})
    assert sum(k.share for k in found) == pytest.approx(1) and sum(
        k.spikes for k in found
    ) == pytest.approx(5000)
    sizes = np.array([k.n * k.d for k in found])
    assert np.allclose([k.share for k in found], sizes / sizes.sum())  # alike sensitive: by size
    assert sorted(int(np.prod(v.shape)) for v in circuit.views) == sorted(sizes)
    with pytest.raises(NeurocompileError, match="NC8003"):
        shares(circuit, 5000.0, {v.layer: 0.0 for v in circuit.views}, {})


def plan(program, text: str, samples: np.ndarray | None = None) -> SpikeBudget:
    rates = program.manifest.rates
    cores = program.mapping.cores_used
    return plan_budget(
        parse_budget(text), program.quantized, program.circuit, rates, samples, cores
    )


def test_plan_by_spikes(digits_program) -> None:
    a, b = plan(digits_program, "spikes=3000"), plan(digits_program, "spikes=6000")
    assert (a.total, a.basis, a.epsilon) == (3000, "given", None)
    excess = [k.excess for k in a.exceeding]
    assert len(a.exceeding) >= len(b.exceeding) and excess == sorted(excess, reverse=True)
    assert b.per_core_step > a.per_core_step > 0
    assert a.per_core_step == pytest.approx(a.messages / 4 / digits_program.mapping.cores_used)
    assert a.messages < b.messages < 2 * a.messages  # the readout's messages do not scale


def test_a_budget_of_just_what_is_expected_grants_all_messages(digits_program) -> None:
    """One layer with its gates: as many messages as it takes today, if its share is what it spends."""
    rates, circuit = digits_program.manifest.rates, digits_program.circuit
    everything = sum(
        rates[p.name] * p.size * 4 for p in circuit.populations if p not in circuit.inputs
    )
    a, b = plan(digits_program, "spikes=1"), plan(digits_program, "spikes=2")
    readout = a.messages - (b.messages - a.messages)
    per_layer: dict[str, float] = {}
    for p in circuit.populations:
        if p not in circuit.inputs:
            per_layer[p.layer] = per_layer.get(p.layer, 0.0) + rates[p.name] * p.size * 4
    layers = {k.layer for k in a.layers}
    assert readout == pytest.approx(
        everything - sum(n for layer, n in per_layer.items() if layer in layers)
    )
    assert b.messages - a.messages == pytest.approx(
        sum(k.share * per_layer[k.layer] / k.expected for k in a.layers)
    )


def test_plan_by_epsilon(digits_program, digits_data) -> None:
    data = plan(digits_program, "epsilon=1", digits_data.x[:60])
    blind = plan(digits_program, "epsilon=1")
    assert (
        data.basis.startswith("Theorem 10")
        and "60 samples" in data.basis
        and data.dimension is not None
        and data.dimension < 64
    )
    assert (
        blind.basis.startswith("Theorem 8")
        and blind.dimension == 64
        and "pseudo-random" in blind.basis
    )
    given = plan(digits_program, "epsilon=0.5,lipschitz=3,dimension=29,constant=2")
    assert given.total == pytest.approx(2 * 9 * 29 / 0.25)
    assert plan(digits_program, "epsilon=1") == blind


@pytest.mark.slow
def test_apply_tells_the_cores_that_hold_other_tiles(digits_program) -> None:
    """A mapping for another chip stands for what a budget would move."""
    program = digits_program
    budget = plan(program, "spikes=3000")

    def again(*, spikes_per_core_step: dict[str, float]):
        assert set(spikes_per_core_step) <= {k.layer for k in budget.layers}
        return map_circuit(program.circuit, program.target, program.manifest.rates)

    given = program.circuit, program.manifest.rates
    same, mapping = apply_budget(budget, *given, program.mapping, program.target, again)
    assert same.moved == () and mapping.cores_used == program.mapping.cores_used
    import msgspec

    first, second, *rest = mapping.cores
    swapped = msgspec.structs.replace(
        mapping, cores=(msgspec.structs.replace(first, tiles=first.tiles + second.tiles), *rest)
    )
    moved, _ = apply_budget(budget, *given, swapped, program.target, again)
    assert [m.core for m in moved.moved] == [0, 1] and all(
        m.layers and m.messages >= 0 for m in moved.moved
    )
    with pytest.raises(NeurocompileError, match="NC8009"):
        apply_budget(budget, *given, program.mapping, program.target, lambda **_: mapping)


@pytest.mark.slow
def test_build_with_a_budget(digits_model: Path, digits_data, tmp_path: Path) -> None:
    plain = neurocompile.compile(digits_model, calibration=digits_data.x[:64])
    spikes = 0.8 * sum(k.expected for k in plan(plain, "spikes=1").layers)
    program = neurocompile.compile(
        digits_model, calibration=digits_data.x[:64], budget=f"spikes={spikes:.0f}"
    )
    budget = program.manifest.budget
    assert budget is not None and program.manifest.options.budget == f"spikes={spikes:.0f}"
    assert (
        budget.cores_without == plain.mapping.cores_used < program.mapping.cores_used
        and budget.moved
    )
    rates, layer = program.manifest.rates, {p.name: p.layer for p in program.circuit.populations}
    grants = {k.layer: k.per_core_step for k in budget.layers if k.per_core_step}
    assert grants == program.mapping.spikes_per_core_step and len(grants) == len(budget.layers)
    for core in program.mapping.cores:
        used = [
            rates[t.population] * t.size / grants.get(layer[t.population], np.inf)
            for t in core.tiles
        ]
        assert sum(used) <= 1 + 1e-9
    program.save(tmp_path / "a.nca")
    assert neurocompile.load(tmp_path / "a.nca").summary().budget == budget


@pytest.fixture(scope="module")
def subject(digits_model: Path) -> Subject:
    return open_subject(digits_model)


def test_run_at_is_the_program(subject: Subject, digits_program, digits_data) -> None:
    run, program = run_at(subject, digits_data.x[:20], 4), digits_program.run(digits_data.x[:20])
    assert np.array_equal(run.logits, program.logits)
    assert run.spikes == {k: n / 20 for k, n in program.spikes.items()}
    operations = synaptic_operations(subject.at(4)[1], run.messages)
    assert operations > run.total


def test_an_artifact_runs_at_other_steps(digits_program, digits_data, tmp_path: Path) -> None:
    digits_program.save(tmp_path / "a.nca")
    subject = open_subject(tmp_path / "a.nca")
    assert (subject.T, subject.canonical) == (4, None)
    assert np.array_equal(
        run_at(subject, digits_data.x[:8], 4).logits, digits_program.run(digits_data.x[:8]).logits
    )
    assert run_at(subject, digits_data.x[:8], 8).total > run_at(subject, digits_data.x[:8], 4).total


def test_examine_is_consistent(subject: Subject, digits_data) -> None:
    from neurocompile.theory.measure.data_rows import rows_of

    x, y = digits_data.x[:24], digits_data.y[:24]
    found = examine(
        subject,
        x,
        y,
        origin="24 images",
        rows=rows_of(digits_data.x),
        steps=(1, 2, 8),
        calibrate=True,
    )
    assert (
        [p.T for p in found.sweep] == [1, 2, 4, 8]
        and found.reached is not None
        and found.reached.T == 4
    )
    assert found.eps == found.sweep[2].eps
    eight, ten = (
        next(b for b in found.beside if b.statement == name) for name in ("Theorem 8", "Theorem 10")
    )
    assert found.dimension is not None
    assert ten.theory / eight.theory == pytest.approx(found.dimension.mean / 64)
    assert eight.theory == pytest.approx(found.local.largest**2 * 64 / found.eps**2)
    assert ten.measured == found.run.total == pytest.approx(sum(k.expected for k in found.layers))
    assert sum(k.spikes for k in found.layers) == pytest.approx(ten.theory)
    assert found.fit is not None and found.fit.low <= found.fit.constant <= found.fit.high
    closer = examine(subject, x, y, origin="24 images", accuracy=0.5, steps=(1, 2, 8))
    assert closer.eps_basis.startswith("certainly leaves 50.00%") and closer.dimension is None
    assert next(s for s in closer.steps if s.rule == "measured").T == 1
    with pytest.raises(NeurocompileError, match="NC8006"):
        examine(subject, x, None, origin="", accuracy=0.5, steps=(1,))
    with pytest.raises(NeurocompileError, match="NC8003"):
        examine(subject, x, y, origin="", accuracy=0.5, eps=1, steps=(1,))


@pytest.mark.slow
def test_the_budget_that_an_error_names_fits(digits_data) -> None:
    zoo = Path(__file__).parents[2] / "models" / "zoo"
    path, x = zoo / "digits" / "spikformer.onnx", digits_data.x[:16]
    with pytest.raises(NeurocompileError, match="NC3114.*grants that") as error:
        neurocompile.compile(path, calibration=x, budget="spikes=200")
    (wish,) = re.findall(r"`budget='(spikes=\S+)'` grants that", str(error.value))
    program = neurocompile.compile(path, calibration=x, budget=wish)
    assert program.manifest.budget is not None and program.manifest.budget.binds


def test_a_budget_that_binds_nowhere_changes_nothing(digits_program) -> None:
    circuit, rates = digits_program.circuit, digits_program.manifest.rates
    request = parse_budget("spikes=1e6")
    planned = plan_budget(request, digits_program.quantized, circuit, rates, None, 15)

    def again(*, spikes_per_core_step: dict[str, float]):
        raise AssertionError("mapped again")

    before, target = digits_program.mapping, digits_program.target
    found, mapping = apply_budget(planned, circuit, rates, before, target, again)
    assert not found.binds and not found.moved
    assert mapping.cores == digits_program.mapping.cores
    assert mapping.spikes_per_core_step == {
        k.layer: k.per_core_step for k in found.layers if k.per_core_step
    }
