"""The ONNX operator ``ai.neurocompile::LIF`` version 1: a multi-step spiking neuron over axis 0.

Input ``X``: currents (T, ...) float32, time first. Output ``S``: spikes, 0 or 1, shape and type of
``X``. For every element, from v = v_r at the first step, with v_r = ``v_reset`` for a hard and 0
for a soft reset::

    decay_input = 1:   h = v + (x - (v - v_r)) / tau
    decay_input = 0:   h = v - (v - v_r) / tau + x
    s = 1 if h >= v_threshold else 0
    soft_reset = 0:    v = v_reset if s else h
    soft_reset = 1:    v = h - v_threshold if s else h          (v_reset is not read; write 0)

These are the equations of SpikingJelly's LIFNode (Fang et al. 2023, doi:10.1126/sciadv.adi1480), in
its order of float32 operations. Equal up to float32 rounding only: a parametric LIF, ``tau = 1 /
sigmoid(w)``, where SpikingJelly multiplies by sigmoid(w); and ``decay_input = 0``, which
SpikingJelly before 2.0 computes in some modes, where v_r is 0, as ``v * (1 - 1 / tau) + x``.

Integrate-and-fire has no leak: it is written ``decay_input = 0, tau = inf`` (:data:`IF_TAU`), for
which ``(v - v_r) / tau`` is exactly 0, so that ``h = v + x``.

``ai.neurocompile::ChannelLIF`` is the same with ``tau`` for a second input, float32, which
broadcasts against one step of X: a tau for each channel.

The operators are model-local functions: their bodies, a ``Loop`` over time, travel in the file, and
any runtime runs them.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import TensorProto, helper

from neurocompile.frontends.onnx.general import BODIES, PREVIOUS

__all__ = [
    "ATTRIBUTES",
    "CHANNEL_TYPE",
    "DOMAIN",
    "IF_TAU",
    "NEURONS",
    "OP_TYPE",
    "STEPS",
    "VERSION",
    "lif_function",
    "lif_functions",
    "register_schema",
    "register_step_schema",
]

DOMAIN = "ai.neurocompile"
OP_TYPE, CHANNEL_TYPE = "LIF", "ChannelLIF"
NEURONS = frozenset({OP_TYPE, CHANNEL_TYPE, PREVIOUS, *BODIES})
STEPS = {"Step": OP_TYPE, "ChannelStep": CHANNEL_TYPE}
"""What stands for one call of a single-step neuron, in no finished file, and what the neuron
becomes.
"""
VERSION = 1

IF_TAU = float("inf")
"""``tau`` of a neuron without leak, together with ``decay_input = 0``."""

ATTRIBUTES: dict[str, onnx.AttributeProto.AttributeType] = {
    "tau": onnx.AttributeProto.FLOAT,
    "v_threshold": onnx.AttributeProto.FLOAT,
    "v_reset": onnx.AttributeProto.FLOAT,
    "decay_input": onnx.AttributeProto.INT,
    "soft_reset": onnx.AttributeProto.INT,
}
"""Attributes, all required: name to ``AttributeProto`` type. tau in steps, v_* in the unit of X,
the INTs 0 or 1. ChannelLIF has no attribute tau."""


def register_schema() -> None:
    """Tell the ``onnx`` package the operators' signatures, once a process; exporters look them up
    there.
    """
    for kind in (OP_TYPE, CHANNEL_TYPE):
        _register(kind, "Multi-step leaky integrate-and-fire over axis 0.", {})


def register_step_schema() -> None:
    """The same for ``ai.neurocompile::Step`` and ``ChannelStep``."""
    types = onnx.defs.OpSchema.AttrType
    for kind in STEPS:
        _register(
            kind,
            "Call 'index' of the single-step neuron 'path'.",
            {"path": types.STRING, "index": types.INT},
        )


def _register(kind: str, doc: str, more: dict[str, onnx.defs.OpSchema.AttrType]) -> None:
    if onnx.defs.has(kind, DOMAIN):
        return
    schema, channels = onnx.defs.OpSchema, kind.startswith("Channel")
    types = {
        onnx.AttributeProto.FLOAT: schema.AttrType.FLOAT,
        onnx.AttributeProto.INT: schema.AttrType.INT,
    }
    attributes = {
        **more,
        **{name: types[t] for name, t in ATTRIBUTES.items() if not (channels and name == "tau")},
    }
    onnx.defs.register_schema(
        schema(
            kind,
            DOMAIN,
            VERSION,
            doc,
            inputs=[schema.FormalParameter(name, "T") for name in ("X", "tau")[: 1 + channels]],
            outputs=[schema.FormalParameter("S", "T")],
            type_constraints=[("T", ["tensor(float)"], "")],
            attributes=[
                schema.Attribute(name, t, "", required=True) for name, t in attributes.items()
            ],
        )
    )


def lif_functions(nodes: Iterable[onnx.NodeProto], opset: int) -> list[onnx.FunctionProto]:
    """The bodies of the operators that ``nodes`` have."""
    used = {n.op_type for n in nodes if n.domain == DOMAIN} - {PREVIOUS}
    return [
        BODIES[kind](opset) if kind in BODIES else lif_function(opset, kind)
        for kind in sorted(used, reverse=True)
    ]


def lif_function(opset: int, kind: str = OP_TYPE) -> onnx.FunctionProto:
    """The body of an operator, as a function to append to ``ModelProto.functions``.

    Args:
        opset: version of the default ONNX domain that the model imports, at least 16.
    """
    inputs = ["X", "tau"] if kind == CHANNEL_TYPE else ["X"]
    attributes = {name: t for name, t in ATTRIBUTES.items() if name not in inputs}
    nodes = [
        *(_attribute_constant(name, t) for name, t in attributes.items()),
        helper.make_node("Cast", ["decay_input"], ["decays_input"], to=TensorProto.BOOL),
        helper.make_node("Cast", ["soft_reset"], ["resets_soft"], to=TensorProto.BOOL),
        helper.make_node(
            "Constant", [], ["zero"], value=helper.make_tensor("", TensorProto.FLOAT, [], [0.0])
        ),
        helper.make_node(
            "Constant", [], ["axis"], value=helper.make_tensor("", TensorProto.INT64, [1], [0])
        ),
        helper.make_node(
            "Constant", [], ["always"], value=helper.make_tensor("", TensorProto.BOOL, [], [True])
        ),
        helper.make_node("Where", ["resets_soft", "zero", "v_reset"], ["v_r"]),
        helper.make_node("Shape", ["X"], ["step_shape"], start=1),
        helper.make_node("Expand", ["v_r", "step_shape"], ["v_first"]),
        helper.make_node("Shape", ["X"], ["steps_1d"], start=0, end=1),
        helper.make_node("Squeeze", ["steps_1d", "axis"], ["steps"]),
        # Loop and not Scan: onnxruntime refuses a Scan whose body reads a value of the function
        # around it.
        helper.make_node(
            "Loop", ["steps", "always", "v_first"], ["v_last", "S"], body=_step_graph()
        ),
    ]
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function(DOMAIN, kind, inputs, ["S"], nodes, opsets, list(attributes))


def _attribute_constant(name: str, kind: int) -> onnx.NodeProto:
    """A scalar tensor ``name`` with the value of the function's attribute ``name``."""
    node = helper.make_node("Constant", [], [name])
    field = "value_float" if kind == onnx.AttributeProto.FLOAT else "value_int"
    node.attribute.add(name=field, ref_attr_name=name, type=kind)
    return node


def _step_graph() -> onnx.GraphProto:
    """One step: (t, condition, v) to (condition, next v, spikes)."""
    nodes = [
        helper.make_node("Identity", ["goes_on"], ["goes_on_out"]),
        helper.make_node("Gather", ["X", "t"], ["x"], axis=0),
        helper.make_node("Sub", ["v", "v_r"], ["excess"]),
        helper.make_node("Sub", ["x", "excess"], ["drive"]),
        helper.make_node("Div", ["drive", "tau"], ["charge"]),
        helper.make_node("Add", ["v", "charge"], ["h_decaying"]),
        helper.make_node("Div", ["excess", "tau"], ["leak"]),
        helper.make_node("Sub", ["v", "leak"], ["v_leaked"]),
        helper.make_node("Add", ["v_leaked", "x"], ["h_plain"]),
        helper.make_node("Where", ["decays_input", "h_decaying", "h_plain"], ["h"]),
        helper.make_node("GreaterOrEqual", ["h", "v_threshold"], ["fires"]),
        helper.make_node("Cast", ["fires"], ["s"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["h", "v_threshold"], ["h_reduced"]),
        helper.make_node("Where", ["resets_soft", "h_reduced", "v_reset"], ["v_after_spike"]),
        helper.make_node("Where", ["fires", "v_after_spike", "h"], ["v_next"]),
    ]
    inputs = [
        helper.make_tensor_value_info("t", TensorProto.INT64, []),
        helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
    ]
    outputs = [
        helper.make_tensor_value_info("goes_on_out", TensorProto.BOOL, []),
        helper.make_tensor_value_info("v_next", TensorProto.FLOAT, None),
        helper.make_tensor_value_info("s", TensorProto.FLOAT, None),
    ]
    return helper.make_graph(nodes, "lif_step", inputs, outputs)
