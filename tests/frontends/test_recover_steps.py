"""What a step of an unrolled neuron may compute, and what makes it none: one line each."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from recover_checks import check
from recover_files import charge, model, unrolled

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.recover import recover_lif

FIRE = "n{t}g = GreaterOrEqual (n{t}h, vth); n{t}s = Cast <to: int = 1> (n{t}g)"
HARD = f"{FIRE}; n{{t}}v = Where (n{{t}}g, zero, n{{t}}h)"
LEAK = "n{t}a = Mul (decay, {v}); n{t}h = Add (n{t}a, i{t})"
UP, MIXED = np.linspace(0.5, 1.0, 8), np.asarray([0.0, 1, 1, 0, 1, 1, 0, 1])
ACCEPTED: dict[str, tuple[str, dict]] = {
    "two currents of one weight": (
        f"n{{t}}a = Mul (decay, {{v}}); n{{t}}m = Abs (i{{t}}); n{{t}}b = Add (i{{t}}, n{{t}}m); n{{t}}h = Add (n{{t}}a, n{{t}}b); {HARD}",
        {"decay": 0.75},
    ),
    "compared twice": (
        f"{LEAK}; {FIRE}; n{{t}}k = GreaterOrEqual (n{{t}}h, vth); n{{t}}v = Where (n{{t}}k, zero, n{{t}}h)",
        {"decay": 0.75},
    ),
    "compared twice, for silence": (
        f"{LEAK}; {FIRE}; n{{t}}k = Less (n{{t}}h, vth); n{{t}}v = Where (n{{t}}k, n{{t}}h, zero)",
        {"decay": 0.75},
    ),
    "the leak as a difference": (
        f"n{{t}}a = Neg ({{v}}); n{{t}}b = Mul (n{{t}}a, decay); n{{t}}h = Sub (i{{t}}, n{{t}}b); {HARD}",
        {"decay": 0.75},
    ),
    "a threshold taken from the input": (
        f"n{{t}}a = Mul (decay, {{v}}); n{{t}}b = Sub (n{{t}}a, zero); n{{t}}h = Add (n{{t}}b, i{{t}}); {HARD}",
        {"decay": 0.75},
    ),
    "a current that is scaled": (
        f"n{{t}}x = Mul (i{{t}}, three); n{{t}}a = Mul (decay, {{v}}); n{{t}}h = Add (n{{t}}a, n{{t}}x); {HARD}",
        {"decay": 0.5, "three": 3.0},
    ),
    "a spike that adds": (
        f"{LEAK}; {FIRE}; n{{t}}m = Mul (n{{t}}s, vth); n{{t}}v = Add (n{{t}}h, n{{t}}m)",
        {"decay": 0.5},
    ),
    "currents of two weights": (
        f"n{{t}}a = Mul (decay, {{v}}); n{{t}}m = Abs (i{{t}}); n{{t}}k = Mul (n{{t}}m, third); n{{t}}b = Add (i{{t}}, n{{t}}k); n{{t}}h = Add (n{{t}}a, n{{t}}b); {HARD}",
        {"decay": 0.5, "third": 0.3},
    ),
    "an amount a channel": (
        f"{LEAK}; {FIRE}; n{{t}}m = Mul (n{{t}}s, some); n{{t}}v = Sub (n{{t}}h, n{{t}}m)",
        {"decay": 0.5, "some": 3 * UP},
    ),
    "a threshold below the reset": (
        f"{LEAK}; {FIRE}; n{{t}}v = Where (n{{t}}g, rest, n{{t}}h)",
        {"decay": 1.0, "vth": UP, "rest": 2.0},
    ),
}
REFUSED: dict[str, tuple[str, dict, str, str]] = {
    "a leak below 0": (
        f"{LEAK}; {HARD}",
        {"decay": -0.5},
        "NC1009",
        "the membrane is multiplied by -0.5",
    ),
    "a membrane that grows": (
        f"{LEAK}; {HARD}",
        {"decay": 1.5},
        "NC1009",
        "the membrane is multiplied by 1.5",
    ),
    "a threshold a step": (
        f"{LEAK}; {HARD}".replace("vth", "vth{t}"),
        {"decay": 0.5, "vth0": 1.0, "vth1": 1.0, "vth2": 2.0, "vth3": 1.0},
        "NC1009",
        "differ between steps",
    ),
    "a drive at one step": (
        f"n{{t}}a = Mul (decay, {{v}}); n{{t}}b = Add (n{{t}}a, d{{t}}); n{{t}}h = Add (n{{t}}b, i{{t}}); {HARD}",
        {"decay": 0.5, "d0": 0.0, "d1": 0.5, "d2": 0.0, "d3": 0.0},
        "NC1009",
        "the membrane leaks towards 1, not towards v_reset 0",
    ),
    "a bound below": (
        f"n{{t}}a = Mul (decay, {{v}}); n{{t}}b = Relu (n{{t}}a); n{{t}}h = Add (n{{t}}b, i{{t}}); {HARD}",
        {"decay": 0.5},
        "NC1009",
        "bounds a membrane from below",
    ),
    "some channels reset": (
        f"{LEAK}; {FIRE}; n{{t}}m = Mul (n{{t}}s, some); n{{t}}r = Sub (one, n{{t}}m); n{{t}}v = Mul (n{{t}}r, n{{t}}h)",
        {"decay": 0.5, "some": MIXED},
        "NC1009",
        "some channels are reset hard, others keep nothing",
    ),
    "a square": (
        f"n{{t}}q = Mul ({{v}}, {{v}}); n{{t}}h = Add (n{{t}}q, i{{t}}); {HARD}",
        {},
        "NC1003",
        "its potential is no LIF's",
    ),
    "two thresholds": (
        f"{LEAK}; {FIRE}; n{{t}}k = GreaterOrEqual (n{{t}}h, half); n{{t}}v = Where (n{{t}}k, zero, n{{t}}h)",
        {"decay": 0.5, "half": 0.5},
        "NC1009",
        ".",
    ),
    "nothing of the membrane is kept": (
        f"n{{t}}h = Identity (i{{t}}); {FIRE}; n{{t}}v = Where (n{{t}}g, zero, n{{t}}h)",
        {},
        "NC1008",
        "a neuron runs for 1 of the 4 steps",
    ),
}


def neurons(proto: onnx.ModelProto) -> int:
    """Neurons over time; no comparison is left."""
    kinds = [n.op_type for n in proto.graph.node]
    assert not {"GreaterOrEqual", "Greater", "Less"}.intersection(kinds)
    return sum(kind in ("LIF", "ChannelLIF", "SoftLIF") for kind in kinds)


@pytest.mark.parametrize("form", ACCEPTED)
def test_a_neuron_in_other_words(form: str) -> None:
    step, numbers = ACCEPTED[form]
    assert neurons(check(unrolled(4, step.replace("; ", "\n"), **numbers), 4, 3, 6)) == 1


@pytest.mark.parametrize("form", REFUSED)
def test_a_step_that_is_no_neurons_is_named(form: str) -> None:
    step, numbers, code, why = REFUSED[form]
    with pytest.raises(NeurocompileError, match=why) as caught:
        recover_lif(unrolled(4, step.replace("; ", "\n"), **numbers))
    assert caught.value.code == code, caught.value


def between(lines: str, shape: int = 5, steps: int = 3, opset: int = 17, **more) -> onnx.ModelProto:
    """Two neurons, and at each step ``lines`` from the spikes n{t}s of the first, (B, 8), to the current
    j{t} of the second.
    """
    text = ["x1 = MatMul (x, w1)", "i = Add (x1, b1)"]
    for t in range(steps):
        text.append(f"i{t} = Gather <axis: int = 0> (i, t{t})")
        text.append(charge(f"n{t - 1}v" if t else "zero", f"i{t}", f"n{t}"))
        text += [line.strip().format(t=t) for line in lines.split(";")]
        text.append(charge(f"q{t - 1}v" if t else "zero", f"j{t}", f"q{t}", "low"))
    text.append("y = Sum (" + ", ".join(f"q{t}s" for t in range(steps)) + ")")
    whole = "\n".join(text)
    numbers = {f"t{t}": np.int64(t) for t in range(steps)}
    graph = f"g (float[{steps}, 2, 6] x) => (float[2, N] y) {{ {whole} }}"
    return model(graph, opset, low=0.2, **numbers, **more)


SHAPES = {"origin": np.asarray([0]), "unit": np.asarray([1]), "four": np.asarray([4])}
ALIKE: dict[str, tuple[str, dict]] = {
    "a layer": ("j{t} = MatMul (n{t}s, w2)", {}),
    "of the same weights, stored twice": (
        "j{t} = MatMul (n{t}s, k{t})",
        {f"k{t}": np.eye(8, 5) + 0.3 for t in range(3)},
    ),
    "a constant that is stored a sample": (
        "m{t} = MatMul (n{t}s, w2); j{t} = Add (m{t}, twice)",
        {"twice": np.tile(np.linspace(0, 1, 5), (2, 1))},
    ),
    "an einsum": ('j{t} = Einsum <equation: string = "bi,ij->bj"> (n{t}s, w2)', {}),
    "a piece of each": (
        "m{t} = Slice (n{t}s, from, to, last); j{t} = Identity (m{t})",
        {"from": np.asarray([2]), "to": np.asarray([7]), "last": np.asarray([1])},
    ),
    "zeros behind each": ("j{t} = Pad (n{t}s, pads)", {"pads": np.asarray([0, 1, 0, 2])}),
    "a map of each": (
        "m{t} = Reshape (n{t}s, square); k{t} = Flatten (m{t}); j{t} = MatMul (k{t}, w2)",
        {"square": np.asarray([2, 2, 4])},
    ),
    "a map of as many": (
        "m{t} = Reshape (n{t}s, open); k{t} = Flatten (m{t}); j{t} = MatMul (k{t}, w2)",
        {"open": np.asarray([2, -1, 4])},
    ),
    "of a computed shape": (
        "h{t} = Shape (n{t}s); z{t}s = Gather (h{t}, origin); c{t} = Gather (h{t}, unit); d{t} = Div (c{t}, four); k{t} = Concat <axis: int = 0> (z{t}s, d{t}, four); m{t} = Reshape (n{t}s, k{t}); e{t} = Flatten (m{t}); j{t} = MatMul (e{t}, w2)",
        SHAPES,
    ),
    "of a shape with a constant in it": (
        "h{t} = Shape <end: int = 1> (n{t}s); c{t} = Constant <value_ints: ints = [2, 4]> (); k{t} = Concat <axis: int = 0> (h{t}, c{t}); m{t} = Reshape (n{t}s, k{t}); e{t} = Flatten (m{t}); j{t} = MatMul (e{t}, w2)",
        {},
    ),
    "of a shape that is cast": (
        "h{t} = Shape (n{t}s); f{t} = Cast <to: int = 1> (h{t}); c{t} = Cast <to: int = 7> (f{t}); m{t} = Reshape (n{t}s, c{t}); j{t} = MatMul (m{t}, w2)",
        {},
    ),
    "of a sliced shape": (
        "h{t} = Shape (n{t}s); z{t}s = Slice (h{t}, origin, unit, origin); k{t} = Concat <axis: int = 0> (z{t}s, rest); m{t} = Reshape (n{t}s, k{t}); e{t} = Flatten (m{t}); j{t} = MatMul (e{t}, w2)",
        SHAPES | {"rest": np.asarray([2, 4])},
    ),
    "of a shape of ones": (
        "h{t} = Shape (n{t}s); z{t} = ConstantOfShape (h{t}); m{t} = Add (n{t}s, z{t}); j{t} = MatMul (m{t}, w2)",
        {},
    ),
    "wider": (
        "m{t} = Unsqueeze (n{t}s, last); e{t} = Expand (m{t}, three); j{t} = Flatten (e{t})",
        {"last": np.asarray([1]), "three": np.asarray([2, 3, 8])},
    ),
    "the largest of two": (
        "m{t} = Neg (n{t}s); k{t} = Add (m{t}, one); j{t} = Max (n{t}s, k{t})",
        {},
    ),
    "the sum of a map": (
        "m{t} = Reshape (n{t}s, square); j{t} = ReduceSum <keepdims: int = 0> (m{t}, last)",
        {"square": np.asarray([2, 2, 4]), "last": np.asarray([1])},
    ),
}
UNLIKE: dict[str, tuple[str, dict, str, str]] = {
    "a constant a sample": (
        "m{t} = MatMul (n{t}s, w2); j{t} = Add (m{t}, own)",
        {"own": np.arange(10.0).reshape(2, 5)},
        "NC1009",
        "differs between samples",
    ),
    "a sum over samples": (
        "m{t} = ReduceSum <keepdims: int = 1> (n{t}s, front); k{t} = Add (m{t}, n{t}s); j{t} = MatMul (k{t}, w2)",
        {"front": np.asarray([0])},
        "NC1009",
        "it works along the first axis",
    ),
    "samples joined with a constant": (
        "m{t} = Concat <axis: int = 1> (n{t}s, own); j{t} = MatMul (m{t}, wide)",
        {"own": np.ones((2, 1)), "wide": np.ones((9, 5))},
        "NC1009",
        "it joins a signal with a constant",
    ),
    "samples turned": (
        "m{t} = Transpose <perm: ints = [1, 0]> (n{t}s); k{t} = Transpose <perm: ints = [1, 0]> (m{t}); j{t} = MatMul (k{t}, w2)",
        {},
        "NC1009",
        "may mix steps or samples",
    ),
    "columns times samples": (
        "m{t} = MatMul (square, n{t}s); j{t} = MatMul (m{t}, w2)",
        {"square": np.eye(2)},
        "NC1009",
        "a product of operands",
    ),
    "Gemm of columns": (
        "m{t} = Gemm <transA: int = 1> (n{t}s, n{t}s); j{t} = MatMul (m{t}, w2)",
        {},
        "NC1009",
        ".",
    ),
    "an einsum over samples": (
        'm{t} = Einsum <equation: string = "bi,cj->ci"> (n{t}s, n{t}s); j{t} = MatMul (m{t}, w2)',
        {},
        "NC1009",
        "the first index of its result",
    ),
    "a step beside all": (
        "k{t} = Add (n{t}s, n0s); j{t} = MatMul (k{t}, w2)",
        {},
        "NC1009",
        "'n0s' feeds back to itself",
    ),
    "rows before samples": (
        "e{t} = Expand (n{t}s, three); j{t} = ReduceMax <axes: ints = [1], keepdims: int = 0> (e{t})",
        {"three": np.asarray([3, 2, 8])},
        "NC1009",
        "it adds axes in front",
    ),
}


@pytest.mark.parametrize("form", ALIKE)
def test_layers_that_are_alike_at_all_steps_are_one(form: str) -> None:
    lines, more = ALIKE[form]
    recovered = check(between(lines, **more), 3, 2, 6)
    assert neurons(recovered) == 2
    assert sum(n.op_type == "MatMul" for n in recovered.graph.node) <= 2


@pytest.mark.parametrize("form", UNLIKE)
def test_layers_that_mix_steps_or_samples_are_named(form: str) -> None:
    lines, more, code, why = UNLIKE[form]
    with pytest.raises(NeurocompileError, match=why) as caught:
        recover_lif(between(lines, **more))
    assert caught.value.code == code, caught.value
