"""ONNX file -> SpikingGraph: follow time and batch through the file's reshapes, keep one node a
layer.

Time is born where the file repeats its input. Whatever depends on the input is understood or named
in an error; everything else is folded to constants. :mod:`neurocompile.frontends.onnx.context` says
how tensors are followed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import onnx

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.diagnosis import OWN_TIME, NotSupportedError
from neurocompile.frontends.onnx.composed import composed
from neurocompile.frontends.onnx.context import Importer, Traced
from neurocompile.frontends.onnx.cut import cut_model
from neurocompile.frontends.onnx.feedback import close_loops
from neurocompile.frontends.onnx.load import LoadedModel
from neurocompile.frontends.onnx.shapes import LARGEST_T
from neurocompile.frontends.onnx.values import has_time
from neurocompile.frontends.onnx.walk import Walk
from neurocompile.host.part import HostPart
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.ir.layout import OPEN, Atom, Layout, shown

__all__ = ["ImportedModel", "import_onnx"]


@dataclass(frozen=True)
class ImportedModel:
    """A SpikingGraph of stage ``imported``, and where its values are in the file."""

    graph: s.SpikingGraph
    layer_values: dict[str, str]
    """The file's tensor name of each spiking layer."""
    layouts: dict[str, Layout] = field(default_factory=dict)
    """How that tensor lies over the layer's value; and, by its name, how the output's does."""
    leaking: tuple[str, ...] = ()
    """Layers that run over samples in the file, and for each sample alone in the graph."""
    time_first: bool = False
    """The file takes (T, samples, ...), samples that bring their own steps; everything else here
    has samples first.
    """
    outputs: tuple[tuple[Layout, tuple[int, ...]], ...] = ()
    """Of each of the file's outputs: how it lies over its value, and that one's shape."""
    host: HostPart | None = None
    """What the host computes behind the graph's output; None if the model returns that itself."""


def import_onnx(model: LoadedModel, name: str, *, per_sample_lif: bool = False) -> ImportedModel:
    """Import a checked file.

    Args:
        per_sample_lif: a LIF over time and batch runs for each sample alone; otherwise it is
            refused.

    Raises:
        NeurocompileError: NC1003, NC1006, NC1008, NC1009 or NC1010 for what is not supported; all
            reasons at once as
            :class:`~neurocompile.frontends.diagnosis.NotSupportedError`.
    """
    try:
        return _import(Importer(model, per_sample_lif), name)
    except NotSupportedError as error:
        if all(problem.code != "NC1020" for problem in error.problems):
            raise
        try:  # nothing makes an axis of time: perhaps the input has one
            return _import(Importer(model, per_sample_lif), name, frames=True)
        except NeurocompileError as second:
            # With that axis nothing but operators may stand in the way.
            operators = isinstance(second, NotSupportedError) and all(
                p.code in ("NC1003", "NC2012") for p in second.problems
            )
            raise (second if operators else error) from None


def _import(importer: Importer, name: str, frames: bool = False) -> ImportedModel:
    try:
        time_first, host = _run(importer, frames)
        close_loops(importer)
        _sweep(importer)
        graph = s.SpikingGraph(
            name, "imported", tuple(importer.nodes), importer.tensors, importer.exported_T
        )
        importer.where = "the imported graph"
        if shapes(graph) != importer.shapes:
            raise ValueError("shapes are not consistent")
    except NeurocompileError:
        raise
    # attributes and operands that the ONNX checker lets pass are of any type and number
    except Exception as error:
        raise NeurocompileError(
            "NC1009",
            f"{importer.where}: attributes or operands that ONNX does not define here "
            f"({type(error).__name__}: {_masked(str(error)[:160])})",
        ) from error
    return ImportedModel(
        graph,
        importer.layer_values,
        importer.layouts,
        tuple(importer.leaking),
        time_first,
        tuple(importer.outputs),
        host,
    )


def _run(im: Importer, frames: bool) -> tuple[bool, HostPart | None]:
    """Follow all nodes; whether the input's first axis is time, and what the host computes.
    ``frames``: the input has an axis of time beside that of samples.
    """
    inputs = [i for i in im.graph.input if i.name not in im.constants]
    if len(inputs) != 1 or not im.graph.output:
        raise NeurocompileError(
            "NC1009",
            f"the model has {len(inputs)} inputs and {len(im.graph.output)} outputs; one input, and one output or more, are supported",
        )
    im.graph = composed(im.graph, im.constants, im.model.proto.opset_import)
    walk, time_first = Walk(im, inputs[0].name), False
    try:
        time_first = _input(im, inputs[0], frames)
    except NeurocompileError as error:
        walk.lose_input(error)
    walk.follow()
    open_borders = [name for name, border in im.borders.items() if not border.done]
    if open_borders:
        raise NeurocompileError(
            "NC1009", f"'{open_borders[0]}': only some sides of its border are written"
        )
    if not any(isinstance(n, s.LIF) for n in im.nodes):
        raise NeurocompileError("NC1010", f"'{im.model.path}' holds no spiking neuron")
    im.where = "the output"
    outputs = [o.name for o in im.graph.output]
    for name in outputs:
        if name not in im.traced:
            raise NeurocompileError("NC1009", f"output '{name}' does not depend on the input")
    if len(outputs) > 1 or walk.behind.nodes:
        return time_first, cut_model(im, walk.behind, outputs)
    _output(im, outputs[0])
    return time_first, None


def _sweep(im: Importer) -> None:
    """Remove nodes that nothing reads, and their tensors."""
    wanted: set[str] = set()
    kept: list[s.Node] = []
    for node in reversed(im.nodes):
        if node.name in wanted or isinstance(node, (s.Input, s.Output, s.LIF)):
            wanted.update(node.inputs)
            kept.append(node)
    im.nodes = kept[::-1]
    names = {n.name for n in im.nodes}
    im.shapes = {k: v for k, v in im.shapes.items() if k in names}
    used = {t for n in im.nodes for t in n.tensors}
    im.tensors = {k: v for k, v in im.tensors.items() if k in used}


def _masked(text: str) -> str:
    """``text`` of an exception without the number that stands for the batch."""
    return re.sub(r"\d+", lambda m: m[0] if int(m[0]) % OPEN or not int(m[0]) else "batch", text)


def _input(im: Importer, value: onnx.ValueInfoProto, frames: bool) -> bool:
    """Whether its first axis is time."""
    kind = value.type.tensor_type
    if kind.elem_type != onnx.TensorProto.FLOAT:
        found = onnx.TensorProto.DataType.Name(kind.elem_type)
        ids = ": token ids? Look their embedding up on the host, and let the file take what the embedding makes"
        hint = ids if found.startswith(("INT", "UINT")) else ""
        raise NeurocompileError(
            "NC1006", f"input '{value.name}' is {found}; float32 is supported{hint}"
        )
    sizes = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
    time_first = len(sizes) > 2 and sizes[0] > 0 and not sizes[1] and min(sizes[2:]) > 0
    if time_first and not frames:
        shown = ", ".join(map(str, [sizes[0], "batch", *sizes[2:]]))
        raise NeurocompileError("NC1020", f"input '{value.name}' is ({shown}): {OWN_TIME}")
    if time_first:
        sizes[:2] = sizes[1::-1]
    if len(sizes) < 2 + frames or min(sizes[1:]) < 1:
        raise NeurocompileError(
            "NC1006",
            f"input '{value.name}' has shape {sizes}; (batch, features...) with fixed features is supported",
        )
    batch, steps, shape = sizes[0] or OPEN, sizes[1] if frames else 0, tuple(sizes[1 + frames :])
    ref = im.emit(s.Input, value.name, shape, shape=shape, steps=steps)
    lead = [(Atom(batch, 1, "B"),)]
    if frames:
        if not 1 < steps <= LARGEST_T:
            raise NeurocompileError(
                "NC1007", f"input '{value.name}' has {steps:,} steps; T is 2 to {LARGEST_T:,}"
            )
        im.exported_T = steps
        lead.insert(0 if time_first else 1, (Atom(steps, 1, "T"),))
    im.batch = batch
    im.traced[value.name] = Traced(ref, Layout((*lead, *Layout.contiguous(shape).dims)))
    return time_first


def _output(im: Importer, name: str) -> None:
    t = im.traced[name]
    features = [any(not a.axis for a in d) for d in t.dims]
    dims = [  # a batch of 1 that was flattened away is no axis of the output
        tuple(a for a in d if a.size > 1) if mixed else d for d, mixed in zip(t.dims, features)
    ]
    t = Traced(t.ref, Layout(tuple(dims)))
    if any(a.axis for d, mixed in zip(t.dims, features) if mixed for a in d):
        raise im.error(
            "NC1008",
            f"an axis of {shown(t.layout.shape)} holds samples or time beside features: take them apart, x.unflatten(0, (-1, n))",
        )
    if all(a.axis != "B" for d in t.dims for a in d) and t.dims and not t.dims[0]:
        t = Traced(
            t.ref, Layout(((Atom(1, 1, "B"),), *t.dims[1:]))
        )  # a batch of 1, whose label is lost
    # one number a sample: values of the graph have an axis
    single = all(any(a.axis for a in d) for d in t.dims)
    ref = im.features(Traced(t.ref, Layout((*t.dims, ()))) if single else t)
    y = im.emit(
        s.Output,
        "logits" if name in im.shapes else name,
        () if single else im.shapes[ref],
        x=ref,
        per_step=has_time(t.layout),
        shape=() if single else None,
    )
    im.layouts[y] = im.fresh(y, im.pattern(t)).layout
    im.outputs = [(im.layouts[y], im.shapes[y])]
