"""Find the neurons in ONNX files that others wrote, and write each as one ``ai.neurocompile::LIF``
node over time.

Exporters know no spiking neuron: they write its arithmetic, once a step. :func:`recover_lif` takes
the arithmetic for what it is, a polynomial, and needs no pattern of any exporter:

1. :mod:`~neurocompile.frontends.recover.unroll` writes out the steps of loops, and
   :mod:`~neurocompile.frontends.recover.states` those of a file that holds one step;
   :mod:`~neurocompile.frontends.recover.selects` tells indices of features from those of time;
2. :mod:`~neurocompile.frontends.recover.steps` reads every comparison with a constant as one step
   of a neuron, :mod:`~neurocompile.frontends.recover.chains` puts the steps in order, and
   :mod:`~neurocompile.frontends.recover.equations` reads leak, threshold and reset from them;
3. :mod:`~neurocompile.frontends.recover.roll` makes a new graph from the outputs backwards, in
   which what was done once a step is done once for all steps.
"""

from __future__ import annotations

import contextlib

import onnx
from onnx import helper, version_converter

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx import lif as onnx_lif
from neurocompile.frontends.onnx.load import with_head
from neurocompile.frontends.recover.feedback import name_feedback
from neurocompile.frontends.recover.forms import Neuron
from neurocompile.frontends.recover.graph import Graph
from neurocompile.frontends.recover.guarded import settle_guarded
from neurocompile.frontends.recover.heavisides import settle_heavisides
from neurocompile.frontends.recover.neurons import find_neurons
from neurocompile.frontends.recover.pointwise import with_pointwise
from neurocompile.frontends.recover.repeated import merged
from neurocompile.frontends.recover.roll import Roller
from neurocompile.frontends.recover.selects import settle_selects, turn_steps
from neurocompile.frontends.recover.states import unroll_states
from neurocompile.frontends.recover.steps import COMPARISONS
from neurocompile.frontends.recover.truths import settle_truths
from neurocompile.frontends.recover.unroll import copy_renamed, unroll_loops
from neurocompile.reference.large import check_proto

__all__ = ["recover_lif", "rolled"]

_STEPS_KEY = "neurocompile.T"
_RELABELLED = 13
"""From this opset to the needed one, every operator that inference uses only gained types and
attributes...
"""
_NEEDED = 16
_CHANGED = frozenset({"RoiAlign", "GridSample"})
"""... but these."""


def recover_lif(
    proto: onnx.ModelProto, T: int | None = None, *, head: int | str | None = None
) -> onnx.ModelProto:
    """A model that computes what ``proto`` computes, every neuron of which is one
    ``ai.neurocompile::LIF`` node.

    Understood are neurons over several steps that an exporter unrolled; neurons that are a ``Loop``
    or ``Scan`` each; models of single-step neurons, called once a step; and files of one step, with
    the membranes as inputs and outputs, which become ``T`` steps on the same input and the mean of
    their outputs. ``proto`` is not modified. A model that has LIF nodes already, or no comparison,
    comes back as it is.

    Args:
        proto: a model that the ONNX checker accepts, external data loaded.
        T: steps, for a file of one step; for others it must agree with the file, or be None.
        head: the output to keep, by name or number, if there are several besides membranes.

    Raises:
        NeurocompileError: NC1003 a comparison that is no neuron's, or steps that are not alike
            (named); NC1007 a missing or disagreeing T; NC1008 a neuron that does not run over all
            of time; NC1009 a neuron that LIF cannot express.
    """
    if any(n.domain == onnx_lif.DOMAIN for n in proto.graph.node):
        return proto
    if T is not None and T < 1:
        raise NeurocompileError("NC1007", f"T is {T}; it is at least 1")
    try:
        return _recover(proto, T, head)
    except NeurocompileError:
        raise
    # attributes and operands that the ONNX checker lets pass are of any type and number
    except Exception as error:
        raise NeurocompileError(
            "NC1009",
            f"no neurons could be read from the file: {type(error).__name__}: {str(error)[:160]}. If it is valid "
            "ONNX, please report it",
        ) from error


def _recover(proto: onnx.ModelProto, T: int | None, head: int | str | None) -> onnx.ModelProto:
    proto = with_head(unroll_states(unroll_loops(_modern(proto)), T), head)
    proto = settle_truths(settle_heavisides(settle_guarded(settle_selects(proto))))
    turned = turn_steps(proto)
    if turned is not None:  # (batch, T, ..), unless these are selects of features
        with contextlib.suppress(NeurocompileError):
            return _rolled(turned, T)
    try:
        return _rolled(proto, T)
    except NeurocompileError as error:
        if error.code in ("NC1003", "NC1009") and (once := merged(proto)) is not None:
            with contextlib.suppress(NeurocompileError):
                return _rolled(once, T)
        if error.code == "NC1003":  # the membrane of a last neuron, for the host to run
            with contextlib.suppress(NeurocompileError):
                return _without_last(proto, T)
        named = name_feedback(error, Graph(proto))
        if named is error:
            raise
        raise named from error


def _rolled(proto: onnx.ModelProto, T: int | None) -> onnx.ModelProto:
    error: NeurocompileError | None = None
    graph = Graph(proto)
    neurons: list[Neuron] = []
    try:
        graph, neurons = _neurons(proto, unreset=False)
    except NeurocompileError as caught:
        error = caught
    if error is None and not neurons:
        return proto
    if graph.suspects or error is not None:
        # a neuron that is never reset; or the potential of one is a current of another
        with contextlib.suppress(NeurocompileError):
            other, unreset = _neurons(proto, unreset=True)
            _check_steps(unreset, T)
            return rolled(proto, other, unreset)
        if error is not None:
            raise error
        graph, neurons = _neurons(proto, unreset=False)
    _check_steps(neurons, T)
    try:
        return rolled(proto, graph, neurons)
    except NeurocompileError as caught:
        one_step = caught.code == "NC1009" and len(neurons[0].spikes) == 1
        if one_step and (counted := _without_memory(proto)) is not None:
            return counted
        raise


def _without_last(proto: onnx.ModelProto, T: int | None) -> onnx.ModelProto:
    """Neurons that no other neuron reads left as the arithmetic that they are: it lies behind the
    last neurons. NC1003 if no neuron is left.
    """
    graph = Graph(proto)
    neurons = find_neurons(graph, last=False)
    if not neurons:
        raise NeurocompileError("NC1003", "no neuron is left")
    _check_steps(neurons, T)
    return rolled(proto, graph, neurons)


def _without_memory(proto: onnx.ModelProto) -> onnx.ModelProto | None:
    """The neurons of a file that all lack a memory, where they stand: of one that has an axis of
    steps itself, for nothing else says how many there are. None if another neuron is left.
    """
    found = with_pointwise(proto)
    compared = any(n.op_type in COMPARISONS and not n.domain for n in found.graph.node)
    return None if found is proto or compared else found


def _check_steps(neurons: list[Neuron], T: int | None) -> None:
    """NC1007 if ``T`` is given and not the neurons'."""
    steps = len(neurons[0].spikes)
    if T is not None and T != steps:
        raise NeurocompileError("NC1007", f"the file holds {steps} steps, T is {T}")


def _neurons(proto: onnx.ModelProto, unreset: bool) -> tuple[Graph, list[Neuron]]:
    graph = Graph(proto)
    try:
        return graph, find_neurons(graph, unreset)
    except NeurocompileError as error:
        # with a number for each channel, where one for all makes no neuron
        graph = Graph(proto, vectors=True)
        if not graph.vectors:
            raise
        try:
            return graph, find_neurons(graph, unreset)
        except NeurocompileError as second:
            raise (second if second.code == error.code == "NC1009" else error) from None


def rolled(proto: onnx.ModelProto, graph: Graph, neurons: list[Neuron]) -> onnx.ModelProto:
    """A model with one LIF node for each of the ``neurons`` of ``graph``, what is done once a step
    done for all at once.
    """
    steps = len(neurons[0].spikes)
    opset = next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
    roller = Roller(graph, neurons, opset)
    outputs = [roller.resolve(("one", name)) for name in graph.outputs]
    _name_outputs(roller, outputs)
    return _model(proto, roller, opset, steps)


def _name_outputs(roller: Roller, made: list[str]) -> None:
    """Give the values ``made`` for the graph's outputs the outputs' names."""
    wanted = roller.graph.outputs
    own = {o for n in roller.nodes for o in n.output}
    names: dict[str, str] = {}
    for value, name in zip(made, wanted):
        if value == name:
            continue
        if value in names or value in wanted or value not in own:  # read under another name as well
            roller.nodes.append(
                helper.make_node("Identity", [value], [name], name=f"{name}.output")
            )
        else:
            names[value] = name
    names |= {name: f"{name}.inner" for name in names.values() if name in own}
    roller.nodes[:] = [copy_renamed(n, names) for n in roller.nodes]


def _modern(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with an opset that the body of LIF can be used with."""
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    if opset >= _NEEDED:
        return copy
    if opset < _RELABELLED or any(n.op_type in _CHANGED for n in proto.graph.node):
        try:
            return version_converter.convert_version(copy, _NEEDED)
        except (
            Exception
        ) as error:  # the converter raises RuntimeError and others for what it has no adapter for
            raise NeurocompileError(
                "NC1009",
                f"opset {opset} cannot be raised to {_NEEDED}: {str(error)[:160]}; export with opset 13 or later",
            ) from error
    for entry in copy.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = _NEEDED
    return copy


def _model(proto: onnx.ModelProto, roller: Roller, opset: int, steps: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        roller.nodes,
        proto.graph.name or "recovered",
        [i for i in proto.graph.input if i.name not in roller.graph.initializers],
        proto.graph.output,
        initializer=list(roller.tensors.values()),
    )
    model = helper.make_model(
        graph,
        producer_name=proto.producer_name,
        opset_imports=[*proto.opset_import, helper.make_opsetid(onnx_lif.DOMAIN, onnx_lif.VERSION)],
        functions=[*proto.functions, *onnx_lif.lif_functions(roller.nodes, opset)],
        ir_version=max(proto.ir_version, 8),
    )
    known = {p.key: p.value for p in proto.metadata_props}
    helper.set_model_props(model, {**known, _STEPS_KEY: str(steps)})
    check_proto(model)
    return model
