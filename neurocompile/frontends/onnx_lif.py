"""The ONNX operator ``ai.neurocompile::LIF`` version 1: a multi-step spiking neuron over axis 0.

Input ``X``: currents (T, ...) float32, time first. Output ``S``: spikes, 0 or 1, shape and type of ``X``. For every
element, from v = v_r at the first step, with v_r = ``v_reset`` for a hard and 0 for a soft reset::

    decay_input = 1:   h = v + (x - (v - v_r)) / tau
    decay_input = 0:   h = v - (v - v_r) / tau + x
    s = 1 if h >= v_threshold else 0
    soft_reset = 0:    v = v_reset if s else h
    soft_reset = 1:    v = h - v_threshold if s else h          (v_reset is not read; write 0)

These are the equations of SpikingJelly's LIFNode (Fang et al. 2023, doi:10.1126/sciadv.adi1480), in its order of
float32 operations. Equal up to float32 rounding only: a parametric LIF, ``tau = 1 / sigmoid(w)``, where SpikingJelly
multiplies by sigmoid(w); and ``decay_input = 0``, which SpikingJelly before 2.0 computes in some modes, where v_r is 0,
as ``v * (1 - 1 / tau) + x``.

Integrate-and-fire has no leak: it is written ``decay_input = 0, tau = inf`` (:data:`IF_TAU`), for which
``(v - v_r) / tau`` is exactly 0, so that ``h = v + x``.

The operator is a model-local function: its body, a ``Loop`` over time, travels in the file, and any runtime runs it.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

__all__ = ["ATTRIBUTES", "DOMAIN", "IF_TAU", "OP_TYPE", "VERSION", "lif_function", "register_schema", "register_step_schema"]

DOMAIN = "ai.neurocompile"
OP_TYPE = "LIF"
VERSION = 1

IF_TAU = float("inf")
"""``tau`` of a neuron without leak, together with ``decay_input = 0``."""

ATTRIBUTES: dict[str, int] = {
    "tau": onnx.AttributeProto.FLOAT,
    "v_threshold": onnx.AttributeProto.FLOAT,
    "v_reset": onnx.AttributeProto.FLOAT,
    "decay_input": onnx.AttributeProto.INT,
    "soft_reset": onnx.AttributeProto.INT,
}
"""Attributes, all required: name to ``AttributeProto`` type. tau in steps, v_* in the unit of X, the INTs 0 or 1."""


def register_schema() -> None:
    """Tell the ``onnx`` package the operator's signature, once a process; exporters look it up there."""
    if onnx.defs.has(OP_TYPE, DOMAIN):
        return
    schema = onnx.defs.OpSchema
    attribute_type = {onnx.AttributeProto.FLOAT: schema.AttrType.FLOAT, onnx.AttributeProto.INT: schema.AttrType.INT}
    onnx.defs.register_schema(
        schema(
            OP_TYPE,
            DOMAIN,
            VERSION,
            "Multi-step leaky integrate-and-fire over axis 0.",
            inputs=[schema.FormalParameter("X", "T")],
            outputs=[schema.FormalParameter("S", "T")],
            type_constraints=[("T", ["tensor(float)"], "")],
            attributes=[
                schema.Attribute(name, attribute_type[kind], "", required=True) for name, kind in ATTRIBUTES.items()
            ],
        )
    )


def register_step_schema() -> None:
    """The same for ``ai.neurocompile::Step``, one call of a single-step neuron, which no finished file holds."""
    if onnx.defs.has("Step", DOMAIN):
        return
    schema = onnx.defs.OpSchema
    types = {onnx.AttributeProto.FLOAT: schema.AttrType.FLOAT, onnx.AttributeProto.INT: schema.AttrType.INT}
    attributes = [("path", schema.AttrType.STRING), ("index", schema.AttrType.INT)]
    attributes += [(name, types[kind]) for name, kind in ATTRIBUTES.items()]
    onnx.defs.register_schema(
        schema(
            "Step",
            DOMAIN,
            VERSION,
            "Call 'index' of the single-step neuron 'path'.",
            inputs=[schema.FormalParameter("X", "T")],
            outputs=[schema.FormalParameter("S", "T")],
            type_constraints=[("T", ["tensor(float)"], "")],
            attributes=[schema.Attribute(name, kind, "", required=True) for name, kind in attributes],
        )
    )


def lif_function(opset: int) -> onnx.FunctionProto:
    """The operator's body, as a function to append to ``ModelProto.functions``.

    Args:
        opset: version of the default ONNX domain that the model imports, at least 16.
    """
    nodes = [
        *(_attribute_constant(name, kind) for name, kind in ATTRIBUTES.items()),
        helper.make_node("Cast", ["decay_input"], ["decays_input"], to=TensorProto.BOOL),
        helper.make_node("Cast", ["soft_reset"], ["resets_soft"], to=TensorProto.BOOL),
        helper.make_node("Constant", [], ["zero"], value=helper.make_tensor("", TensorProto.FLOAT, [], [0.0])),
        helper.make_node("Constant", [], ["axis"], value=helper.make_tensor("", TensorProto.INT64, [1], [0])),
        helper.make_node("Constant", [], ["always"], value=helper.make_tensor("", TensorProto.BOOL, [], [True])),
        helper.make_node("Where", ["resets_soft", "zero", "v_reset"], ["v_r"]),
        helper.make_node("Shape", ["X"], ["step_shape"], start=1),
        helper.make_node("Expand", ["v_r", "step_shape"], ["v_first"]),
        helper.make_node("Shape", ["X"], ["steps_1d"], start=0, end=1),
        helper.make_node("Squeeze", ["steps_1d", "axis"], ["steps"]),
        # Loop and not Scan: onnxruntime refuses a Scan whose body reads a value of the function around it.
        helper.make_node("Loop", ["steps", "always", "v_first"], ["v_last", "S"], body=_step_graph()),
    ]
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function(DOMAIN, OP_TYPE, ["X"], ["S"], nodes, opsets, list(ATTRIBUTES))


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
