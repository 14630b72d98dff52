"""Five more operators of ``ai.neurocompile``, version 1, for neurons that ``LIF`` does not say; all
run over axis 0, from 0 at the first step.

``SoftLIF``: inputs ``X`` (T, ...) float32, ``tau``, float32, one or an array that broadcasts
against one step of X, and ``thresholds`` (K,) float32, rising; output ``S``, numbers of spikes,
float32, 0..K::

    decay_input = 1:   h = v + (x - v) / tau
    decay_input = 0:   h = v - v / tau + x
    s = number of thresholds that h reaches
    v = h - subtract * s

So a spike takes ``subtract`` from the membrane, whatever the threshold: ``threshold / (1 - 1/tau)`` for a neuron that takes its threshold after the leak, one step later (snnTorch), 0 for one
that is never reset. One threshold is one spike a step at most.

``Integrator``: ``y = decay * y + x``, the synaptic current of a neuron, or a membrane that never
fires.

``TokenMean``: inputs ``K``, ``V``, ``decay`` and ``factor``, float32, the last two of which broadcast against
one step of K. With sums a and b of 0 at first, kept below a running maximum p::

    y = (a + factor e^k v) / (b + factor e^k);  a = decay * a + e^k v;  b = decay * b + e^k

``Delay``: X one step before, 0 in the first step.

``Previous``: what the neuron ``of``, a node's name, sent one step before, float32 (``steps``, batch,
*``shape``), 0 at first. It has no input and no body, for a file holds no cycle: whoever runs the file feeds the
neuron's output back, one step later, until nothing changes
(:func:`neurocompile.reference.runtime.open_session`).
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from neurocompile.reference.runtime import PREVIOUS

__all__ = [
    "BODIES",
    "TOKEN_MEAN",
    "DELAY",
    "INTEGRATOR",
    "NO_LEAK",
    "PREVIOUS",
    "SOFT_ATTRIBUTES",
    "SOFT_TYPE",
    "register_general_schema",
]

SOFT_TYPE, INTEGRATOR = "SoftLIF", "Integrator"
TOKEN_MEAN, DELAY = "TokenMean", "Delay"
NO_LEAK = float(np.finfo(np.float32).max)
"""``tau`` of a SoftLIF without leak: files hold finite numbers, and v / NO_LEAK is lost in float32."""

_FLOAT, _INT = onnx.AttributeProto.FLOAT, onnx.AttributeProto.INT
SOFT_ATTRIBUTES: dict[str, onnx.AttributeProto.AttributeType] = {
    "subtract": _FLOAT,
    "decay_input": _INT,
}
"""Attributes of SoftLIF, all required."""
_INTEGRATOR_ATTRIBUTES = {"decay": _FLOAT}


def register_general_schema() -> None:
    """Tell the ``onnx`` package the operators' signatures, once a process."""
    for kind, inputs, attributes in (
        (SOFT_TYPE, ("X", "tau", "thresholds"), SOFT_ATTRIBUTES),
        (INTEGRATOR, ("X",), _INTEGRATOR_ATTRIBUTES),
        (TOKEN_MEAN, ("K", "V", "decay", "factor"), {}),
        (DELAY, ("X",), {}),
    ):
        if onnx.defs.has(kind, "ai.neurocompile"):
            continue
        schema = onnx.defs.OpSchema
        types = {_FLOAT: schema.AttrType.FLOAT, _INT: schema.AttrType.INT}
        onnx.defs.register_schema(
            schema(
                kind,
                "ai.neurocompile",
                1,
                "A neuron over axis 0.",
                inputs=[schema.FormalParameter(name, "T") for name in inputs],
                outputs=[schema.FormalParameter("S", "T")],
                type_constraints=[("T", ["tensor(float)"], "")],
                attributes=[
                    schema.Attribute(name, types[t], "", required=True)
                    for name, t in attributes.items()
                ],
            )
        )


def _attribute(name: str, kind: int, output: str = "") -> onnx.NodeProto:
    """A scalar with the value of the function's attribute ``name``."""
    node = helper.make_node("Constant", [], [output or name])
    field = "value_float" if kind == _FLOAT else "value_int"
    node.attribute.add(name=field, ref_attr_name=name, type=kind)
    return node


def _number(name: str, value: float) -> onnx.NodeProto:
    tensor = helper.make_tensor("", TensorProto.FLOAT, [], [value])
    return helper.make_node("Constant", [], [name], value=tensor)


def _over_time(body: onnx.GraphProto) -> list[onnx.NodeProto]:
    """A loop over axis 0 of X, whose state starts at 0 and has the shape of one step."""
    one_axis = helper.make_tensor("", TensorProto.INT64, [1], [0])
    true = helper.make_tensor("", TensorProto.BOOL, [], [True])
    return [
        _number("zero", 0.0),
        helper.make_node("Constant", [], ["axis"], value=one_axis),
        helper.make_node("Constant", [], ["always"], value=true),
        helper.make_node("Shape", ["X"], ["step_shape"], start=1),
        helper.make_node("Expand", ["zero", "step_shape"], ["first"]),
        helper.make_node("Shape", ["X"], ["steps_1d"], start=0, end=1),
        helper.make_node("Squeeze", ["steps_1d", "axis"], ["steps"]),
        helper.make_node("Loop", ["steps", "always", "first"], ["last", "S"], body=body),
    ]


def _body(nodes: list[onnx.NodeProto], state: str, output: str) -> onnx.GraphProto:
    inputs = [
        helper.make_tensor_value_info("t", TensorProto.INT64, []),
        helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
    ]
    outputs = [
        helper.make_tensor_value_info("goes_on_out", TensorProto.BOOL, []),
        helper.make_tensor_value_info(state, TensorProto.FLOAT, None),
        helper.make_tensor_value_info(output, TensorProto.FLOAT, None),
    ]
    first = [
        helper.make_node("Identity", ["goes_on"], ["goes_on_out"]),
        helper.make_node("Gather", ["X", "t"], ["x"], axis=0),
    ]
    return helper.make_graph([*first, *nodes], "neuron_step", inputs, outputs)


def _soft(opset: int) -> onnx.FunctionProto:
    step = _body(
        [
            helper.make_node("Sub", ["x", "v"], ["drive"]),
            helper.make_node("Div", ["drive", "tau"], ["charge"]),
            helper.make_node("Add", ["v", "charge"], ["h_decaying"]),
            helper.make_node("Div", ["v", "tau"], ["leak"]),
            helper.make_node("Sub", ["v", "leak"], ["v_leaked"]),
            helper.make_node("Add", ["v_leaked", "x"], ["h_plain"]),
            helper.make_node("Where", ["decays_input", "h_decaying", "h_plain"], ["h"]),
            helper.make_node("Unsqueeze", ["h", "last_axis"], ["h_each"]),
            helper.make_node("GreaterOrEqual", ["h_each", "thresholds"], ["reached"]),
            helper.make_node("Cast", ["reached"], ["counted"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["counted", "last_axis"], ["s"], keepdims=0),
            helper.make_node("Mul", ["s", "subtract"], ["loss"]),
            helper.make_node("Sub", ["h", "loss"], ["v_next"]),
        ],
        "v_next",
        "s",
    )
    last = helper.make_tensor("", TensorProto.INT64, [1], [-1])
    nodes = [
        *(_attribute(name, kind) for name, kind in SOFT_ATTRIBUTES.items()),
        helper.make_node("Cast", ["decay_input"], ["decays_input"], to=TensorProto.BOOL),
        helper.make_node("Constant", [], ["last_axis"], value=last),
        *_over_time(step),
    ]
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function(
        "ai.neurocompile",
        SOFT_TYPE,
        ["X", "tau", "thresholds"],
        ["S"],
        nodes,
        opsets,
        list(SOFT_ATTRIBUTES),
    )


def _integrator(opset: int) -> onnx.FunctionProto:
    step = _body(
        [
            helper.make_node("Mul", ["v", "decay"], ["kept"]),
            helper.make_node("Add", ["kept", "x"], ["v_next"]),
            helper.make_node("Identity", ["v_next"], ["y"]),
        ],
        "v_next",
        "y",
    )
    nodes = [_attribute("decay", _FLOAT), *_over_time(step)]
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function(
        "ai.neurocompile", INTEGRATOR, ["X"], ["S"], nodes, opsets, ["decay"]
    )


def _token_mean(opset: int) -> onnx.FunctionProto:
    states = ("a", "b", "p")
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in (*states, "a_next", "b_next", "p_next", "y")
    ]
    go = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("goes_on", "going_on")]
    lines = """
        k=Gather(K,t) v=Gather(V,t) own=Add(k,log_factor) q=Max(p,own) was=Sub(p,q) is=Sub(own,q)
        e1=Exp(was) e2=Exp(is) old_a=Mul(e1,a) new_a=Mul(e2,v) old_b=Mul(e1,b) top=Add(old_a,new_a)
        low=Add(old_b,e2) y=Div(top,low) faded=Add(p,log_decay) p_next=Max(faded,k) was2=Sub(faded,p_next)
        is2=Sub(k,p_next) e3=Exp(was2) e4=Exp(is2) kept_a=Mul(e3,a) more_a=Mul(e4,v) a_next=Add(kept_a,more_a)
        kept_b=Mul(e3,b) b_next=Add(kept_b,e4)"""
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["going_on"]), *_lines(lines)],
        "mean_step",
        [helper.make_tensor_value_info("t", TensorProto.INT64, []), go[0], *values[:3]],
        [go[1], *values[3:]],
    )
    one_axis = helper.make_tensor("", TensorProto.INT64, [1], [0])
    true = helper.make_tensor("", TensorProto.BOOL, [], [True])
    nodes = [
        _number("zero", 0.0),
        _number("far", -1e30),
        _number("least", 1e-38),
        helper.make_node("Constant", [], ["axis"], value=one_axis),
        helper.make_node("Constant", [], ["always"], value=true),
        *_lines("kept=Max(decay,least) log_decay=Log(kept) log_factor=Log(factor)"),
        helper.make_node("Shape", ["K"], ["step_shape"], start=1),
        *_lines("none=Expand(zero,step_shape) lowest=Expand(far,step_shape)"),
        helper.make_node("Shape", ["K"], ["steps_1d"], start=0, end=1),
        helper.make_node("Squeeze", ["steps_1d", "axis"], ["steps"]),
        helper.make_node(
            "Loop",
            ["steps", "always", "none", "none", "lowest"],
            ["last_a", "last_b", "last_p", "S"],
            body=body,
        ),
    ]
    opsets = [helper.make_opsetid("", opset)]
    inputs = ["K", "V", "decay", "factor"]
    return helper.make_function("ai.neurocompile", TOKEN_MEAN, inputs, ["S"], nodes, opsets)


def _lines(text: str) -> list[onnx.NodeProto]:
    """Nodes of ``output=Operator(input,input)``, separated by space."""
    found = []
    for line in text.split():
        output, _, rest = line.partition("=")
        kind, _, inputs = rest.rstrip(")").partition("(")
        found.append(helper.make_node(kind, inputs.split(","), [output]))
    return found


def _delay(opset: int) -> onnx.FunctionProto:
    def number(name: str, value: int) -> onnx.NodeProto:
        tensor = helper.make_tensor("", TensorProto.INT64, [1], [value])
        return helper.make_node("Constant", [], [name], value=tensor)

    nodes = [
        number("none", 0),
        number("one", 1),
        number("last", -1),
        helper.make_node("Slice", ["X", "none", "one", "none"], ["step"]),
        helper.make_node("Sub", ["step", "step"], ["zero"]),
        helper.make_node("Slice", ["X", "none", "last", "none"], ["rest"]),
        helper.make_node("Concat", ["zero", "rest"], ["S"], axis=0),
    ]
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function("ai.neurocompile", DELAY, ["X"], ["S"], nodes, opsets)


BODIES = {SOFT_TYPE: _soft, INTEGRATOR: _integrator, TOKEN_MEAN: _token_mean, DELAY: _delay}
"""The function of each operator, for a version of the default ONNX domain, at least 16."""
