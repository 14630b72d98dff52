"""ONNX files of spiking networks as strangers write them, built by hand, for test_onnx_recover."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper, parser

RNG = np.random.default_rng(7)
WEIGHTS = {
    "w1": RNG.normal(0.3, 0.6, (6, 8)),
    "b1": RNG.normal(0.2, 0.2, 8),
    "w2": RNG.normal(0.2, 0.6, (8, 5)),
}


def model(text: str, opset: int = 17, **scalars: float | np.ndarray) -> onnx.ModelProto:
    """The graph ``text``, in ONNX's text form, with the weights and ``scalars`` that it reads as
    initializers.
    """
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    constants = {"one": 1.0, "tau": 2.0, "vth": 1.0, "zero": 0.0, **WEIGHTS, **scalars}
    for name, value in constants.items():
        array = np.asarray(value)
        array = array.astype(
            np.int64 if array.dtype.kind == "i" else bool if array.dtype.kind == "b" else np.float32
        )
        if f"{name}," in text.replace(")", ",").replace(" ,", ","):
            proto.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(proto)
    return proto


def charge(v: str, x: str, name: str, vth: str = "vth", tau: str = "tau") -> str:
    """h, spike and next potential of a LIF with decay_input, hard reset to 0: ``{name}h, {name}s,
    {name}v``.
    """
    return f"""
    {name}e = Sub ({x}, {v})
    {name}f = Div ({name}e, {tau})
    {name}h = Add ({v}, {name}f)
    {name}g = GreaterOrEqual ({name}h, {vth})
    {name}s = Cast <to: int = 1> ({name}g)
    {name}r = Sub (one, {name}s)
    {name}v = Mul ({name}r, {name}h)
"""


def unrolled(
    steps: int = 3, step: str | None = None, **scalars: float | np.ndarray
) -> onnx.ModelProto:
    """(T, B, 6) to the spikes of one neuron, (T, B, 8), written out; ``step`` makes n{t}s and n{t}v
    of i{t} and {v}.
    """
    lines = ["x1 = MatMul (x, w1)", "i = Add (x1, b1)"]
    for t in range(steps):
        lines.append(f"i{t} = Gather <axis: int = 0> (i, t{t})")
        before = f"n{t - 1}v" if t else "zero"
        lines.append(
            charge(before, f"i{t}", f"n{t}") if step is None else step.format(t=t, v=before)
        )
    lines += [f"u{t} = Unsqueeze (n{t}s, ax)" for t in range(steps)]
    lines.append(f"y = Concat <axis: int = 0> ({', '.join(f'u{t}' for t in range(steps))})")
    text = "\n".join(lines)
    numbers = {f"t{t}": np.int64(t) for t in range(steps)}
    return model(
        f"g (float[{steps}, B, 6] x) => (float[{steps}, B, 8] y) {{ {text} }}",
        ax=np.asarray([0]),
        **numbers,
        **scalars,
    )


def loop(steps: int = 4, qtau: float | np.ndarray = 2.0) -> onnx.ModelProto:
    """Two neurons, each a Loop with a scan output; ``qtau`` is the second's tau."""
    parts = []
    for name, current, shape in (("p", "i", 8), ("q", "j", 5)):
        parts.append(f"""
    {name}v0 = Expand (zero, {name}shape)
    {name}last, {name}all = Loop (count, true, {name}v0) <body = {name}body (int64 t, bool go, float[B, {shape}] v)
        => (bool go2, float[B, {shape}] {name}v, float[B, {shape}] {name}s) {{
        go2 = Identity (go)
        x_t = Gather <axis: int = 0> ({current}, t)
        {charge("v", "x_t", name, tau="tau" if name == "p" else "qtau")} }}>
""")
    text = f"""x1 = MatMul (x, w1)
    i = Add (x1, b1)
    {parts[0]}
    j = MatMul (pall, w2)
    {parts[1]}
    y = ReduceMean <axes: ints = [0], keepdims: int = 0> (qall)"""
    return model(
        f"g (float[{steps}, 2, 6] x) => (float[2, 5] y) {{ {text} }}",
        count=np.int64(steps),
        true=np.True_,
        pshape=np.asarray([2, 8]),
        qshape=np.asarray([2, 5]),
        qtau=qtau,
    )


def scan(steps: int = 4, qtau: float | np.ndarray = 2.0) -> onnx.ModelProto:
    """One neuron, a Scan."""
    text = f"""x1 = MatMul (x, w1)
    i = Add (x1, b1)
    v0 = Expand (zero, shape)
    last, all = Scan <num_scan_inputs: int = 1, body = body (float[B, 8] v, float[B, 8] x_t)
        => (float[B, 8] nv, float[B, 8] ns) {{ {charge("v", "x_t", "n", tau="qtau")} }}> (v0, i)
    y = ReduceMean <axes: ints = [0], keepdims: int = 0> (all)"""
    return model(
        f"g (float[{steps}, 2, 6] x) => (float[2, 8] y) {{ {text} }}",
        shape=np.asarray([2, 8]),
        qtau=qtau,
    )


def network_loop(steps: int = 4) -> onnx.ModelProto:
    """A whole network of single-step neurons in one Loop, its output summed up on the way."""
    text = f"""v0 = Expand (zero, pshape)
    w0 = Expand (zero, qshape)
    last, mast, total = Loop (count, true, v0, w0, w0) <body = body
        (int64 t, bool go, float[B, 8] v, float[B, 5] w, float[B, 5] sum)
        => (bool go2, float[B, 8] pv, float[B, 5] qv, float[B, 5] sum2) {{
        go2 = Identity (go)
        x1 = MatMul (x, w1)
        i = Add (x1, b1)
        {charge("v", "i", "p")}
        j = MatMul (ps, w2)
        {charge("w", "j", "q")}
        sum2 = Add (sum, qs) }}>
    y = Div (total, number)"""
    return model(
        f"g (float[2, 6] x) => (float[2, 5] y) {{ {text} }}",
        count=np.int64(steps),
        true=np.True_,
        number=float(steps),
        pshape=np.asarray([2, 8]),
        qshape=np.asarray([2, 5]),
    )


def stateful() -> onnx.ModelProto:
    """One step of two neurons, membranes in and out."""
    text = f"""x1 = MatMul (x, w1)
    i = Add (x1, b1)
    {charge("v", "i", "p")}
    j = MatMul (ps, w2)
    {charge("w", "j", "q")}"""
    inputs, outputs = (
        "float[B, 6] x, float[B, 8] v, float[B, 5] w",
        "float[B, 5] qs, float[B, 8] pv, float[B, 5] qv",
    )
    return model(f"g ({inputs}) => ({outputs}) {{ {text} }}")


def shared_current(steps: int, scaled: bool) -> onnx.ModelProto:
    """One neuron whose current, the same at every step, is made once, and is its first potential;
    the spikes' sum.

    Args:
        scaled: h = v / 2 + x / 2, otherwise h = v + x.
    """
    lines = [
        "x1 = MatMul (x, w1)",
        "i = Add (x1, b1)",
        "p = Mul (i, half)" if scaled else "p = Identity (i)",
    ]
    for t in range(steps):
        if t:
            lines.append(
                f"n{t}a = Mul (n{t - 1}v, half)" if scaled else f"n{t}a = Identity (n{t - 1}v)"
            )
            lines.append(f"n{t}h = Add (n{t}a, p)")
        h = f"n{t}h" if t else "p"
        lines.append(f"n{t}g = GreaterOrEqual ({h}, vth)")
        lines.append(f"n{t}s = Cast <to: int = 1> (n{t}g)")
        lines.append(f"n{t}v = Where (n{t}g, zero, {h})")
        lines.append(f"y{t} = Add ({f'y{t - 1}' if t else 'zero'}, n{t}s)")
    text = "\n".join(lines)
    return model(f"g (float[B, 6] x) => (float[B, 8] y{steps - 1}) {{ {text} }}", half=0.5)
