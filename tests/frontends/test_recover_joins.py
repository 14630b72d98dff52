"""What an unrolled file makes of the spikes of all steps: one tensor over time, a mean, a weighted
sum, or one step of them, in each form that exporters and people write.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from recover_checks import PLAIN, check, lifs
from recover_files import charge, model

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.recover import recover_lif

STEPS = 3


def joined(tail: str, output: str, steps: int = STEPS, opset: int = 17, **more) -> onnx.ModelProto:
    """(T, B, 6) to n0s, n1s, ..., the spikes (B, 8) of a neuron at each step, and ``tail``, lines that
    make y of them.
    """
    lines = ["x1 = MatMul (x, w1)", "i = Add (x1, b1)"]
    for t in range(steps):
        lines.append(f"i{t} = Gather <axis: int = 0> (i, t{t})")
        lines.append(charge(f"n{t - 1}v" if t else "zero", f"i{t}", f"n{t}"))
    lines += [line.strip() for line in tail.split(";")]
    numbers = {f"t{t}": np.int64(t) for t in range(steps)}
    text = "\n".join(lines)
    graph = f"g (float[{steps}, B, 6] x) => (float[{output}] y) {{ {text} }}"
    return model(graph, opset, ax=np.asarray([0]), **numbers, **more)


ALL = "n0s, n1s, n2s"
FRONT = "; ".join(f"u{t} = Unsqueeze (n{t}s, ax)" for t in range(STEPS))
SUM = "a = Add (n0s, n1s); b = Add (a, n2s)"
MEMBRANE = "f1 = Mul ({0}, {1}); e1 = Add (f1, {2}); f2 = Mul (half, e1); e2 = Add (f2, {3}); a = Add ({1}, e1); y = Add (a, e2)"
NUMBERS = {
    "two": 2.0,
    "three": 3.0,
    "half": 0.5,
    "first": 0.0,
    "second": np.asarray([1]),
    "p0": np.asarray([[0]]),
    "p1": np.asarray([[1]]),
    "p2": np.asarray([[2]]),
    "blank": np.zeros((3, 2, 8)),
    "row": np.linspace(0.5, 2, 8),
}
FORMS: dict[str, tuple[str, str]] = {
    "a list, stacked": (
        f"q = SequenceConstruct ({ALL}); y = ConcatFromSequence <axis: int = 0, new_axis: int = 1> (q)",
        "3, B, 8",
    ),
    "a list that grows": (
        "q0 = SequenceConstruct (n0s); q1 = SequenceInsert (q0, n1s); q = SequenceInsert (q1, n2s); y = ConcatFromSequence <axis: int = 0, new_axis: int = 1> (q)",
        "3, B, 8",
    ),
    "a list, as rows": (
        f"q = SequenceConstruct ({ALL}); y = ConcatFromSequence <axis: int = 0> (q)",
        "R, 8",
    ),
    "a list behind the batch": (
        f"q = SequenceConstruct ({ALL}); y = ConcatFromSequence <axis: int = 1, new_axis: int = 1> (q)",
        "B, 3, 8",
    ),
    "rows": (f"y = Concat <axis: int = 0> ({ALL})", "R, 8"),
    "a tensor that is written": (
        "z0 = ScatterND (blank, p0, u0); z1 = ScatterND (z0, p1, u1); y = ScatterND (z1, p2, u2)",
        "3, 2, 8",
    ),
    "written backwards": (
        "z0 = ScatterND (blank, p2, u2); z1 = ScatterND (z0, p0, u0); y = ScatterND (z1, p1, u1)",
        "3, 2, 8",
    ),
    "a mean of three": (f"y = Mean ({ALL})", "B, 8"),
    "a sum": (f"y = Sum ({ALL})", "B, 8"),
    "a sum of nothing first": (
        "z = Add (n0s, zero); a = Add (z, n1s); b = Add (a, n2s); y = Div (b, three)",
        "B, 8",
    ),
    "less": (f"{SUM}; y = Neg (b)", "B, 8"),
    "less, and halved": (f"{SUM}; c = Neg (b); y = Mul (half, c)", "B, 8"),
    "later steps count more": (
        "a = Mul (n0s, half); b = Mul (n2s, two); c = Add (a, n1s); y = Add (c, b)",
        "B, 8",
    ),
    "each row its own weight": (
        "a = Mul (n0s, row); b = Div (n1s, row); c = Add (a, b); y = Add (c, n2s)",
        "B, 8",
    ),
    "some count less": ("a = Sub (n0s, n1s); y = Add (a, n2s)", "B, 8"),
    "with what is of no step": (
        f"m = ReduceMean <axes: ints = [0], keepdims: int = 0> (i); {SUM}; y = Add (b, m)",
        "B, 8",
    ),
    "twice what is of no step": (
        f"m = ReduceMean <axes: ints = [0], keepdims: int = 0> (i); {SUM}; d = Mul (m, two); e = Add (b, m); y = Sub (e, d)",
        "B, 8",
    ),
    "a sum with what is of no step": (
        f"m = ReduceMean <axes: ints = [0], keepdims: int = 0> (i); y = Sum ({ALL}, m)",
        "B, 8",
    ),
    "a sum that takes away what is of no step": (
        "m = ReduceMean <axes: ints = [0], keepdims: int = 0> (i); a = Sub (n0s, m); b = Add (a, n1s); y = Add (b, n2s)",
        "B, 8",
    ),
    "two values of each step": (
        "; ".join(f"d{t} = Mul (n{t}s, row)" for t in range(STEPS))
        + f"; y = Sum ({ALL}, d0, d1, d2)",
        "B, 8",
    ),
    "the current of a step": ("y = Add (n2s, i2)", "B, 8"),
    "a layer of a step's current": ("c = Relu (i1); d = Add (c, n2s); y = MatMul (d, w2)", "B, 5"),
    "a membrane behind": (MEMBRANE.format("half", "n0s", "n1s", "n2s"), "B, 8"),
    "a membrane whose leak changes": (
        MEMBRANE.format("half", "n0s", "n1s", "n2s").replace("half, e1", "two, e1"),
        "B, 8",
    ),
    "a membrane of a scaled current": (
        "; ".join(f"s{t} = Mul (two, n{t}s)" for t in range(STEPS))
        + "; "
        + MEMBRANE.format("half", "s0", "s1", "s2"),
        "B, 8",
    ),
    "a membrane that starts late": (
        "e1 = Mul (half, n0s); e2 = Add (e1, n1s); y = Add (e2, n2s)",
        "B, 8",
    ),
    "silence": (
        "; ".join(f"m{t} = Sub (one, n{t}s); v{t} = Unsqueeze (m{t}, ax)" for t in range(STEPS))
        + "; y = Concat <axis: int = 0> (v0, v1, v2)",
        "3, B, 8",
    ),
    "silence by a choice": (
        "; ".join(
            f"m{t} = Where (n{t}g, zero, one); v{t} = Unsqueeze (m{t}, ax)" for t in range(STEPS)
        )
        + "; y = Concat <axis: int = 0> (v0, v1, v2)",
        "3, B, 8",
    ),
    "the last step": ("y = Identity (n2s)", "B, 8"),
    "a layer of the last step": ("y = MatMul (n2s, w2)", "B, 5"),
    "two steps of three": ("a = Add (n0s, n2s); y = Mul (a, half)", "B, 8"),
    "a layer at each step": (
        "; ".join(f"m{t} = MatMul (n{t}s, w2)" for t in range(STEPS))
        + "; a = Add (m0, m1); y = Add (a, m2)",
        "B, 5",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_spikes_of_all_steps(form: str) -> None:
    tail, output = FORMS[form]
    if "u0" in tail:
        tail = f"{FRONT}; {tail}"
    proto = joined(tail, output, **NUMBERS)
    assert lifs(check(proto, STEPS, 2, 6)) == [PLAIN]


@pytest.mark.parametrize("opset", [12, 13, 18])
@pytest.mark.parametrize("form", ["a sum", "later steps count more", "less, and halved"])
def test_sums_in_every_version_of_reductions(form: str, opset: int) -> None:
    proto = joined(*FORMS[form], opset=opset, **NUMBERS)
    assert lifs(check(proto, STEPS, 2, 6)) == [PLAIN]


ONE = {
    "a new axis": ("u = Unsqueeze (n0s, ax); y = Concat <axis: int = 0> (u)", "1, B, 8"),
    "a new axis that is written": (
        "u = Unsqueeze (n0s, ax); y = ScatterND (blank1, p0, u)",
        "1, 2, 8",
    ),
    "a shape": ("y = Reshape (n0s, shape1)", "1, B, 8"),
    "itself": ("y = Identity (n0s)", "B, 8"),
}


@pytest.mark.parametrize("form", ONE)
@pytest.mark.parametrize(
    "vth", [1.0, np.linspace(0.5, 1.0, 8)], ids=["one threshold", "of channels"]
)
def test_a_file_of_one_step(form: str, vth: float | np.ndarray) -> None:
    more = {"blank1": np.zeros((1, 2, 8)), "shape1": np.asarray([1, -1, 8]), "vth": vth}
    found = check(joined(*ONE[form], steps=1, **NUMBERS, **more), 1, 2, 6)
    assert sum(node.op_type.endswith("LIF") for node in found.graph.node) == 1


def test_a_neuron_that_reads_some_steps_alone_is_named() -> None:
    """In front of a neuron no host can pick steps."""
    tail = f"{SUM}; s0 = Add (n0s, n2s); j = MatMul (s0, w2); g = GreaterOrEqual (j, one); s = Cast <to: int = 1> (g); y = Identity (s)"
    with pytest.raises(NeurocompileError) as caught:
        recover_lif(joined(tail, "B, 5", **NUMBERS))
    assert caught.value.code in ("NC1003", "NC1008"), caught.value
