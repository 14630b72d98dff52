"""Neurons in ONNX files of strangers: what is rewritten computes the same in onnxruntime; what is
no LIF is named.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import recover_files as files
from recover_checks import PLAIN, check, imported_layers, lifs, run

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.recover import recover_lif
from neurocompile.pipeline import import_model


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_unrolled(steps: int) -> None:
    assert lifs(check(files.unrolled(steps), steps, 3, 6)) == [PLAIN]


@pytest.mark.parametrize("steps", [2, 4])
@pytest.mark.parametrize("scaled", [False, True])
def test_current_that_is_the_same_at_every_step(steps: int, scaled: bool, tmp_path: Path) -> None:
    recovered = check(files.shared_current(steps, scaled), 3, 6)
    expected = {**PLAIN, "tau": 2.0 if scaled else float("inf"), "decay_input": float(scaled)}
    assert lifs(recovered) == [expected]
    assert imported_layers(recovered, tmp_path) == 1


def test_many_steps_take_linear_time() -> None:
    """Four times the steps: four times the work, not sixteen; CPU time, the best of three."""
    spent = {}
    for steps in (64, 256):
        proto, times = files.unrolled(steps), []
        for _ in range(3):
            start = time.process_time()
            recovered = recover_lif(proto)
            times.append(time.process_time() - start)
        assert [n.op_type for n in recovered.graph.node] == ["MatMul", "Add", "LIF"]
        spent[steps] = min(times)
    assert len(proto.graph.node) > 2000 and spent[256] < 8 * spent[64], spent


def test_one_loop_a_neuron() -> None:
    assert lifs(check(files.loop(), 4, 2, 6)) == [PLAIN, PLAIN]


def test_scan() -> None:
    assert lifs(check(files.scan(), 4, 2, 6)) == [PLAIN]


def test_loop_around_the_network(tmp_path: Path) -> None:
    recovered = check(files.network_loop(), 2, 6)
    assert lifs(recovered) == [PLAIN, PLAIN]
    assert imported_layers(recovered, tmp_path) == 2
    assert sum(n.op_type == "MatMul" for n in recovered.graph.node) == 2


@pytest.mark.parametrize("T", [1, 2, 5])
def test_membranes_as_inputs_and_outputs(T: int, tmp_path: Path) -> None:
    proto = files.stateful()
    x = np.random.default_rng(1).normal(0.6, 1.0, (3, 6)).astype(np.float32)
    v, w, spikes = np.zeros((3, 8), np.float32), np.zeros((3, 5), np.float32), []
    for _ in range(T):
        s, v, w = run(proto, x=x, v=v, w=w)
        spikes.append(s)
    recovered = recover_lif(proto, T)
    (found,) = run(recovered, x=x)
    np.testing.assert_allclose(found, np.mean(spikes, axis=0), atol=1e-6)
    assert len(lifs(recovered)) == 2 and [i.name for i in recovered.graph.input] == ["x"]
    assert imported_layers(recovered, tmp_path) == 2
    if T > 1:
        assert lifs(recovered) == [PLAIN, PLAIN]


def test_membranes_need_a_number_of_steps() -> None:
    with pytest.raises(NeurocompileError, match="NC1007 .*'v' is a membrane"):
        recover_lif(files.stateful())


def test_T_must_agree() -> None:
    assert len(lifs(recover_lif(files.unrolled(3), T=3))) == 1
    with pytest.raises(NeurocompileError, match="NC1007 the file holds 3 steps, T is 4"):
        recover_lif(files.unrolled(3), T=4)


FORMS = {
    # normalized potential, strict comparison, Where instead of arithmetic
    "normalized": (
        "n{t}a = Mul (decay, {v}) n{t}h = Add (n{t}a, i{t}) n{t}q = Div (n{t}h, vth) n{t}p = Sub (n{t}q, one) "
        "n{t}g = GreaterOrEqual (n{t}p, zero) n{t}s = Where (n{t}g, one, zero) n{t}v = Where (n{t}g, zero, n{t}h)",
        {"tau": 4.0, "v_threshold": 0.5, "v_reset": 0.0, "decay_input": 0.0, "soft_reset": 0.0},
        {"decay": 0.75, "vth": 0.5},
    ),
    # the comparison is of no spike, the reset of both forms at once, x scaled before
    "inverted": (
        "n{t}b = Mul (i{t}, quarter) n{t}a = Mul (decay, {v}) n{t}h = Add (n{t}a, n{t}b) n{t}n = Greater (vth, n{t}h) "
        "n{t}g = Not (n{t}n) n{t}s = Cast <to: int = 1> (n{t}g) n{t}m = Mul (n{t}s, vth) n{t}v = Sub (n{t}h, n{t}m)",
        {"tau": 4.0, "v_threshold": 0.5, "v_reset": 0.0, "decay_input": 1.0, "soft_reset": 1.0},
        {"decay": 0.75, "quarter": 0.25, "vth": 0.5},
    ),
    "integrate_and_fire": (
        "n{t}h = Add ({v}, i{t}) n{t}g = GreaterOrEqual (n{t}h, vth) n{t}s = Cast <to: int = 1> (n{t}g) "
        "n{t}v = Where (n{t}g, zero, n{t}h)",
        {
            "tau": float("inf"),
            "v_threshold": 1.0,
            "v_reset": 0.0,
            "decay_input": 0.0,
            "soft_reset": 0.0,
        },
        {},
    ),
    # v + (x - v) a, as sums in another order: x stands twice in it
    "parametric": (
        "n{t}b = Mul (i{t}, rate) n{t}a = Mul ({v}, rate) n{t}d = Sub ({v}, n{t}a) n{t}h = Add (n{t}d, n{t}b) "
        "n{t}g = LessOrEqual (vth, n{t}h) n{t}s = Cast <to: int = 1> (n{t}g) n{t}v = Where (n{t}g, zero, n{t}h)",
        {"tau": 2.5, "v_threshold": 1.0, "v_reset": 0.0, "decay_input": 1.0, "soft_reset": 0.0},
        {"rate": 0.4},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_other_arithmetic(form: str) -> None:
    step, expected, scalars = FORMS[form]
    assert lifs(check(files.unrolled(4, step.replace(") ", ")\n"), **scalars), 4, 3, 6)) == [
        expected
    ]


def test_strict_comparison_spares_a_potential_at_the_threshold() -> None:
    step = FORMS["integrate_and_fire"][0].replace("GreaterOrEqual", "Greater").replace(") ", ")\n")
    proto = files.unrolled(2, step, w1=np.eye(6, 8), b1=np.zeros(8))
    x = np.full((2, 1, 6), 0.5, np.float32)
    np.testing.assert_array_equal(run(recover_lif(proto), x=x)[0], run(proto, x=x)[0])


@pytest.mark.parametrize("form", ["decay_input", "normalized", "inverted", "integrate_and_fire"])
def test_a_threshold_per_channel_is_divided_out_of_the_current(form: str, tmp_path: Path) -> None:
    step, scalars = None, {}
    if form != "decay_input":
        step, _, scalars = FORMS[form]
        step = step.replace(") ", ")\n")
    proto = files.unrolled(3, step, **{**scalars, "vth": np.linspace(0.5, 1.0, 8)})
    recovered = check(proto, 3, 3, 6)
    (found,) = lifs(recovered)
    assert found["v_threshold"] == 1.0 and any(n.op_type == "Mul" for n in recovered.graph.node)


def test_a_threshold_and_a_reset_per_channel(tmp_path: Path) -> None:
    step = (
        FORMS["integrate_and_fire"][0]
        .replace("Where (n{t}g, zero,", "Where (n{t}g, rest,")
        .replace(") ", ")\n")
    )
    for rest in (-0.2, np.linspace(-0.3, 0.2, 8)):
        proto = files.unrolled(3, step, rest=rest, vth=np.linspace(0.5, 1.0, 8))
        first = next(n for n in proto.graph.node if n.output[0] == "n0h")
        first.input[0] = "rest"  # the membrane starts where it is reset to
        (found,) = lifs(check(proto, 3, 3, 6))
        assert (found["v_threshold"], found["v_reset"], found["tau"]) == (1.0, 0.0, np.inf)


def test_a_start_elsewhere_than_the_reset_is_a_spike_that_feeds_back() -> None:
    """A reset to -0.2 of a membrane that starts at 0 is one to 0, and -0.2 one step later."""
    step = (
        FORMS["integrate_and_fire"][0]
        .replace("Where (n{t}g, zero,", "Where (n{t}g, rest,")
        .replace(") ", ")\n")
    )
    proto = files.unrolled(3, step, rest=-0.2, vth=np.linspace(0.5, 1.0, 8))
    assert any(n.op_type == "Previous" for n in check(proto, 3, 3, 6).graph.node)


CHANNELS = np.linspace(0.4, 0.9, 8)[[3, 1, 7, 0, 5, 2, 6, 4]]


@pytest.mark.parametrize(
    ("form", "changes"),
    [
        ("plain", {"tau": 1 / CHANNELS}),
        ("plain", {"tau": 1 / CHANNELS, "vth": CHANNELS}),
        ("normalized", {"decay": CHANNELS}),
        ("normalized", {"decay": CHANNELS, "vth": CHANNELS[::-1].copy()}),
        ("inverted", {"decay": CHANNELS}),
        ("inverted", {"decay": CHANNELS, "quarter": 1 - CHANNELS, "vth": CHANNELS}),
        ("inverted", {"quarter": CHANNELS}),
        ("parametric", {"rate": CHANNELS}),
    ],
)
def test_a_tau_per_channel(form: str, changes: dict[str, np.ndarray], tmp_path: Path) -> None:
    step, _, scalars = FORMS.get(form, (None, None, {}))
    step = step and step.replace(") ", ")\n")
    recovered = check(files.unrolled(3, step, **{**scalars, **changes}), 3, 3, 6)
    (found,) = lifs(recovered)
    assert ("tau" in found) == (set(changes) == {"quarter"})
    if "quarter" in changes and "decay" in changes:
        assert found["decay_input"] == 1


def test_a_tau_per_channel_in_a_loop_and_a_scan() -> None:
    for proto, count in (
        (files.loop(qtau=1 / CHANNELS[:5]), 2),
        (files.scan(qtau=1 / CHANNELS), 1),
    ):
        found = lifs(check(proto, 4, 2, 6))
        assert (
            len(found) == count and "tau" not in found[-1] and all("tau" in f for f in found[:-1])
        )


def test_one_of_several_outputs(tmp_path: Path) -> None:
    proto = files.stateful()
    with pytest.raises(
        NeurocompileError, match="NC1009 there is no output 'nothing'; the file has 'qs'"
    ):
        recover_lif(proto, 2, head="nothing")
    assert [o.name for o in recover_lif(proto, 2, head="qs").graph.output] == ["qs"]
    two = files.network_loop()
    two.graph.output.append(
        onnx.helper.make_tensor_value_info("total", onnx.TensorProto.FLOAT, [2, 5])
    )
    onnx.save(two, tmp_path / "two.onnx")
    both = import_model(tmp_path / "two.onnx")[1].host.outputs
    assert [o.name for o in both] == ["y", "total"]
    assert import_model(tmp_path / "two.onnx", head="y")[1].graph.output.name == "y"
    assert import_model(tmp_path / "two.onnx", head=0)[1].graph.output.name == "y"


def test_a_tau_for_each_position_is_refused() -> None:
    with pytest.raises(
        NeurocompileError, match=r"NC1009 .*tau of constant 'tau' \[3, 8\] makes no LIF"
    ):
        recover_lif(files.unrolled(3, tau=np.linspace(2.0, 3.0, 24).reshape(3, 8)))


def test_leak_towards_another_rest() -> None:
    step = (
        FORMS["normalized"][0]
        .replace("Where (n{t}g, zero, n{t}h)", "Where (n{t}g, rest, n{t}h)")
        .replace(") ", ")\n")
    )
    proto = files.unrolled(3, step, decay=0.75, vth=0.5, rest=-0.2)
    assert any(n.op_type == "Previous" for n in check(proto, 3, 3, 6).graph.node)


def test_soft_reset_by_something_else() -> None:
    step = (
        FORMS["inverted"][0]
        .replace("Mul (n{t}s, vth)", "Mul (n{t}s, quarter)")
        .replace(") ", ")\n")
    )
    found = check(files.unrolled(3, step, decay=0.75, quarter=0.25, vth=0.5), 3, 2, 6)
    (neuron,) = [n for n in found.graph.node if n.domain]
    assert neuron.op_type == "SoftLIF"
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in neuron.attribute}
    assert attributes["subtract"] == 0.25


def test_coefficients_that_change() -> None:
    step = FORMS["normalized"][0].replace("decay", "decay{t}").replace(") ", ")\n")
    with pytest.raises(
        NeurocompileError, match="NC1003 .*step 2 computes with other coefficients than step 1"
    ):
        recover_lif(files.unrolled(3, step, decay0=0.75, decay1=0.75, decay2=0.7, vth=0.5))


def test_spikes_stacked_in_another_order() -> None:
    proto = files.unrolled(3)
    stack = proto.graph.node[-1]
    stack.input[:] = [stack.input[k] for k in (1, 0, 2)]
    check(proto, 3, 3, 6)  # the host has all steps, in any order


def test_comparison_that_is_no_neuron() -> None:
    proto = files.model(
        "g (float[B, 6] x) => (float[B, 5] y) { q = MatMul (x, w1)\nb = Neg (q)\n"
        "g = GreaterOrEqual (q, b)\ns = Cast <to: int = 1> (g)\ny = MatMul (s, w2) }"
    )
    proto.graph.node[2].name = "/head/GreaterOrEqual"
    with pytest.raises(
        NeurocompileError, match="NC1003 node '/head/GreaterOrEqual' .* compares two signals"
    ):
        recover_lif(proto)


def test_file_without_neurons_comes_back() -> None:
    proto = files.model("g (float[B, 6] x) => (float[B, 8] y) { y = MatMul (x, w1) }")
    assert not lifs(recover_lif(proto))
