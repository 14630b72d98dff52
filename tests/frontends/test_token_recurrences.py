"""RWKV's weighted mean and token shift, read off files that write their steps out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from neurocompile.frontends.onnx.importer import import_onnx
from neurocompile.frontends.onnx.load import load_onnx
from neurocompile.frontends.onnx.recover import recover_lif
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate

B, T, C = 2, 5, 3
DECAY = np.array([-0.1, -1.5, -0.4], np.float32)
FIRST = np.array([0.3, -0.5, 1.2], np.float32)


class File:
    """Nodes of a file, one operator a call."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def __call__(self, kind: str, *inputs: str | np.ndarray | float, **fields) -> str:
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        out = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, names, [out], name=f"n{len(self.nodes)}", **fields)
        )
        return out

    def constant(self, value) -> str:
        array = np.asarray(value, np.int64 if isinstance(value, int) else np.float32)
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def model(self, lanes: list[str]) -> onnx.ModelProto:
        """Each lane in front of a LIF (tau 2, hard reset); the mean of its spikes."""
        v, total = "", ""
        for x in lanes:
            over = self("Sub", x, v) if v else x
            h = self("Mul", over, 0.5)
            h = self("Add", v, h) if v else h
            spike = self("Cast", self("GreaterOrEqual", h, 0.25), to=TensorProto.FLOAT)
            v = self("Mul", h, self("Sub", 1.0, spike))
            total = self("Add", total, spike) if total else spike
        mean = self("Div", total, float(len(lanes)))
        graph = helper.make_graph(
            self.nodes,
            "tokens",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [B, T, 2 * C])],
            [helper.make_tensor_value_info(mean, TensorProto.FLOAT, [B, C])],
            [numpy_helper.from_array(v, k) for k, v in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def signals(f: File) -> list[tuple[str, str]]:
    """k and v of every step, each behind a matrix."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.7, (2 * C, C)).astype(np.float32) for _ in range(2)]
    names = [f.constant(w) for w in weights]
    steps = [f("Gather", "x", t, axis=1) for t in range(T)]
    return [tuple(f("MatMul", x, w) for w in names) for x in steps]  # type: ignore[misc]


def below_maximum(f: File, kv, zeros: bool) -> list[str]:
    """As RWKV's authors write it, from zeros or from the first value."""
    found = []
    zero, far = np.zeros((B, C), np.float32), np.full((B, C), -1e30, np.float32)
    aa, bb, pp = f.constant(zero), f.constant(zero), f.constant(far)
    for t, (k, v) in enumerate(kv):
        if not t and not zeros:
            found.append(v)
            aa, bb, pp = v, f.constant(np.ones((B, C), np.float32)), k
            continue
        ww = f("Add", FIRST, k)
        p = f("Max", pp, ww)
        e1, e2 = (f("Exp", f("Sub", i, p)) for i in (pp, ww))
        a = f("Add", f("Mul", e1, aa), f("Mul", e2, v))
        found.append(f("Div", a, f("Add", f("Mul", e1, bb), e2)))
        ww = f("Add", pp, DECAY)
        p = f("Max", ww, k)
        e1, e2 = (f("Exp", f("Sub", i, p)) for i in (ww, k))
        aa = f("Add", f("Mul", e1, aa), f("Mul", e2, v))
        bb = f("Add", f("Mul", e1, bb), e2)
        pp = p
    return found


def plain(f: File, kv, zeros: bool) -> list[str]:
    """Without a maximum; sums in another order."""
    found, a, b = [], "", ""
    for t, (k, v) in enumerate(kv):
        e, own = f("Exp", k), f("Exp", f("Add", k, FIRST))
        if not t:
            found.append(f("Div", f("Mul", v, own), own) if zeros else v)
            a, b = f("Mul", v, e), e
            continue
        found.append(f("Div", f("Add", f("Mul", v, own), a), f("Add", own, b)))
        kept = np.exp(DECAY)
        a = f("Add", f("Mul", v, e), f("Mul", a, kept))
        b = f("Add", e, f("Mul", kept, b))
    return found


def imported(model: onnx.ModelProto, tmp_path) -> s.SpikingGraph:
    onnx.checker.check_model(model)
    path = tmp_path / "m.onnx"
    onnx.save(recover_lif(model), path)
    return import_onnx(load_onnx(path), "m").graph


def same_spikes(model: onnx.ModelProto, graph: s.SpikingGraph) -> None:
    import onnxruntime

    x = np.random.default_rng(1).normal(0, 1.5, (B, T, 2 * C)).astype(np.float32)
    (wanted,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    found = evaluate(graph, x, T)[graph.output.name]
    np.testing.assert_allclose(found.reshape(B, C), wanted, atol=1e-6)
    assert 0.1 < wanted.mean() < 0.9


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("form", [below_maximum, plain])
def test_a_weighted_mean_is_one_whatever_its_form(form, zeros, tmp_path):
    f = File()
    model = f.model(form(f, signals(f), zeros))
    graph = imported(model, tmp_path)
    assert not any(isinstance(n, (s.Function, s.Quotient)) for n in graph.nodes)
    (mean,) = (n for n in graph.nodes if isinstance(n, s.TokenMean))
    np.testing.assert_allclose(graph.tensors[mean.decay], np.exp(DECAY), rtol=1e-5)
    np.testing.assert_allclose(graph.tensors[mean.first], np.exp(FIRST), rtol=1e-5)
    same_spikes(model, graph)


def test_the_token_before_is_a_delay(tmp_path):
    f = File()
    share = np.array([0.2, 0.7, 1.0], np.float32)
    values = [v for _, v in signals(f)]
    mixed = [f("Add", f("Mul", values[0], share), np.zeros((B, C), np.float32))]
    for before, now in zip(values, values[1:]):
        mixed.append(f("Add", f("Mul", now, share), f("Mul", before, 1 - share)))
    square = f.constant(np.random.default_rng(2).normal(0, 0.8, (C, C)))
    model = f.model([f("MatMul", x, square) for x in mixed])
    graph = imported(model, tmp_path)
    assert sum(isinstance(n, s.Delay) for n in graph.nodes) == 1
    same_spikes(model, graph)


def test_weights_of_another_law_are_no_such_mean(tmp_path):
    f = File()
    lanes, a, b = [], "", ""
    for t, (k, v) in enumerate(signals(f)):
        e = f("Exp", k)
        a = f("Add", f("Mul", a, 0.5), f("Mul", e, v)) if a else f("Mul", e, v)
        b = f("Add", f("Mul", b, 0.25 + 0.1 * t), e) if b else e
        lanes.append(f("Div", a, b) if t else v)
    with pytest.raises(Exception, match="NC1003|NC1009"):
        imported(f.model(lanes), tmp_path)
