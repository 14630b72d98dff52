"""What an unrolled file makes of the spikes of all steps: one tensor over time, a mean, a weighted
sum, or one step of them, in each form that exporters and people write.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from recover_checks import PLAIN, check, lifs
from recover_files import charge, model

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
