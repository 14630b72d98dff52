"""A program's network as a NIR file: the integers of the quantized model as NIR's numbers.

NIR says differential equations. The file means the definition's step where it is run by Euler's rule
with dt = 1 and a hard reset (``--discretize euler`` of ours): ``tau = 4096 / dv``, ``r`` the rest of the
neuron's gain. Its input is what the chip gets, integers: :func:`neurocompile.ir.evaluate.encode_input`
makes them of samples. NIR's membranes do not round; the definition's round to 2^-6 of an input's unit,
so that with leaks of 2^-k and few steps every spike is the same, and otherwise nearly all are.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError, not_importable
from neurocompile.files import write_output
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.ir.fields import ALL
from neurocompile.ir.tables import KindTable

__all__ = ["export_nir", "nir_nodes"]

Fields = dict[str, Any]
Part = tuple[str, Fields]

NIR_FORMS: KindTable[Callable[[_Writer, Any], None]] = KindTable(
    "export nir", (), "which NIR node it is"
)
"""(writer, node): adds what the node is; NC5009 where NIR has no such node."""


def export_nir(graph: s.SpikingGraph, path: str | Path) -> Path:
    """Write a quantized ``graph`` as a NIR file (HDF5, extra ``nir``).

    Raises:
        NeurocompileError: NC5009 for a layer that NIR cannot say; NC4001 without h5py; NC5005 where the
            file cannot be written.
    """
    try:
        import h5py
    except ImportError as error:
        raise not_importable("a NIR file", error, "nir") from error
    nodes, edges = nir_nodes(graph)
    held = BytesIO()
    with h5py.File(held, "w") as file:
        file["version"] = b"1.0"
        top = file.create_group("node")
        top["type"] = b"NIRGraph"
        top["edges"] = np.array([[a.encode(), b.encode()] for a, b in edges])
        for name, (kind, fields) in nodes.items():
            group = top.create_group(f"nodes/{name}")
            group["type"] = kind.encode()
            for field, value in fields.items():
                group[field] = np.asarray(value)
    write_output(path, held.getvalue())
    return Path(path)


def nir_nodes(graph: s.SpikingGraph) -> tuple[dict[str, Part], list[tuple[str, str]]]:
    """NIR's nodes by name (kind, fields), sources first, and the edges between them."""
    writer = _Writer(graph)
    for node in graph.nodes:
        form = NIR_FORMS.get(node)
        if form is None:
            raise writer.refuse(node, "a layer beyond sums, weights and neurons")
        form(writer, node)
    return writer.nodes, writer.edges


class _Writer:
    def __init__(self, graph: s.SpikingGraph) -> None:
        self.graph, self.size = graph, shapes(graph)
        self.nodes: dict[str, Part] = {}
        self.edges: list[tuple[str, str]] = []
        self.sources: dict[str, tuple[str, ...]] = {}
        """Value -> the nodes whose sum it is."""

    def add(self, node: s.Node, x: str, kind: str, **fields: Any) -> None:
        """A NIR node of the value of ``node``, which reads the value ``x``."""
        label = node.name.replace("/", "_")
        self.nodes[label] = kind, fields
        self.edges += [(source, label) for source in self.sources.get(x, ())]
        self.sources[node.name] = (label,)

    def refuse(self, node: s.Node, why: str) -> NeurocompileError:
        return NeurocompileError(
            "NC5009",
            f"layer '{node.name}' ({type(node).__name__}): {why}; NIR has no such node. Export to Lava instead",
            layer=node.name,
        )

    def tensor(self, name: str | None) -> np.ndarray:
        return np.zeros(()) if name is None else self.graph.tensors[name].astype(np.float64)


@NIR_FORMS.rule(s.Input)
def _input(at: _Writer, node: s.Input) -> None:
    at.add(node, "", "Input", shape=np.array(node.shape))


def _weights(at: _Writer, node: s.Conv2d | s.Linear) -> tuple[np.ndarray, np.ndarray | None]:
    """Of the layer, in units of its sum; those of the last one in units of the logits."""
    weight = at.tensor(node.weight) * 2.0**node.exponent
    bias = None if node.bias is None else at.tensor(node.bias)
    mean = next((u for u in at.graph.users[node.name] if isinstance(u, s.TimeMean)), None)
    for out in at.graph.users[mean.name] if mean is not None else ():
        assert isinstance(out, s.Output)
        last = at.tensor(out.bias)
        weight = weight * out.unit
        if bias is not None or np.any(last):
            bias = out.unit * (last if bias is None else bias + last)
    return weight.astype(np.float32), bias


@NIR_FORMS.rule(s.Conv2d)
def _conv(at: _Writer, node: s.Conv2d) -> None:
    weight, bias = _weights(at, node)
    bias = np.zeros(len(weight)) if bias is None else np.broadcast_to(bias.reshape(-1), len(weight))
    at.add(
        node,
        node.x,
        "Conv2d",
        weight=weight,
        bias=bias.astype(np.float32),
        stride=np.array(node.stride),
        padding=np.array(node.padding),
        dilation=np.array(node.dilation),
        groups=node.groups,
        input_shape=np.array(at.size[node.x][1:]),
    )


@NIR_FORMS.rule(s.Linear)
def _linear(at: _Writer, node: s.Linear) -> None:
    if len(at.size[node.x]) != 1:
        raise at.refuse(node, f"a Linear over {at.size[node.x]}, several tokens")
    weight, bias = _weights(at, node)
    if bias is None:
        return at.add(node, node.x, "Linear", weight=weight)
    full = np.broadcast_to(bias.reshape(-1), len(weight)).astype(np.float32)
    return at.add(node, node.x, "Affine", weight=weight, bias=full)


@NIR_FORMS.rule(s.SumPool2d)
def _sum_pool(at: _Writer, node: s.SumPool2d) -> None:
    if any(getattr(node, "more", (0, 0))):
        raise at.refuse(node, "a pool with a longer border on one side")
    fields = {"kernel_size": node.kernel, "stride": node.stride, "padding": node.padding}
    at.add(node, node.x, "SumPool2d", **{k: np.array(v) for k, v in fields.items()})


@NIR_FORMS.rule(s.Rearrange)
def _flatten(at: _Writer, node: s.Rearrange) -> None:
    before, size = at.size[node.x], int(np.prod(node.shape))
    order = np.arange(int(np.prod(before)))
    taken = np.zeros(node.sizes, np.int64)
    for axis, (n, stride) in enumerate(zip(node.sizes, node.strides, strict=True)):
        taken += (np.arange(n) * stride).reshape(-1, *[1] * (len(node.sizes) - axis - 1))
    if len(node.shape) != 1 or size != order.size or not np.array_equal(taken.reshape(-1), order):
        raise at.refuse(node, f"{before} in another order, or as {node.shape}")
    # axis 0 is one sample, as torch counts
    at.add(node, node.x, "Flatten", start_dim=0, end_dim=len(before) - 1)


@NIR_FORMS.rule(s.Add)
def _add(at: _Writer, node: s.Add) -> None:
    a, b = at.sources[node.a], at.sources[node.b]
    if at.size[node.a] != at.size[node.b]:
        raise at.refuse(node, f"a sum of {at.size[node.a]} and {at.size[node.b]}")
    if set(a) & set(b):  # a reader counts an edge once
        raise at.refuse(node, "a sum of a value and itself")
    at.sources[node.name] = (*a, *b)


@NIR_FORMS.rule(s.Or)
def _or(at: _Writer, node: s.Or) -> None:
    threshold = np.full(at.size[node.name], 0.5, np.float32)
    at.add(node, node.x, "Threshold", threshold=threshold)


@NIR_FORMS.rule(s.IntegerLIF)
def _lif(at: _Writer, node: s.IntegerLIF) -> None:
    shape = at.size[node.name]

    def full(value: Any) -> np.ndarray:
        return np.ascontiguousarray(np.broadcast_to(value, shape), np.float32)

    vth, dv = (
        at.tensor(str(v)) if isinstance(v, str) else np.float64(v) for v in (node.vth, node.dv)
    )
    kept = dv / ALL
    bias = at.tensor(node.bias) * 2.0**node.bias_exp / 64
    if np.any(dv == 0) and (np.any(bias) or np.any(dv)):
        raise at.refuse(node, "neurons without a leak and with a bias, or beside some with a leak")
    fields = {"v_threshold": full(vth)}
    if not np.any(dv) and node.current == ALL:
        return at.add(node, node.x, "IF", r=full(node.gain), **fields)
    if not np.any(dv):
        raise at.refuse(node, "a synaptic current in front of neurons without a leak")
    fields |= {"r": full(node.gain / kept), "v_leak": full(bias / kept)}
    if node.current == ALL:
        return at.add(node, node.x, "LIF", tau=full(1 / kept), **fields)
    taken = node.current / ALL
    fields |= {"tau_syn": full(1 / taken), "w_in": full(1 / taken)}
    return at.add(node, node.x, "CubaLIF", tau_mem=full(1 / kept), **fields)


@NIR_FORMS.rule(s.TimeMean)
def _mean(at: _Writer, node: s.TimeMean) -> None:
    at.sources[node.name] = at.sources[node.x]  # whoever reads the output takes the mean


@NIR_FORMS.rule(s.Output)
def _output(at: _Writer, node: s.Output) -> None:
    head = at.graph.node[node.x]
    head = at.graph.node[head.x] if isinstance(head, s.TimeMean) else head
    if not isinstance(head, (s.Linear, s.Conv2d)):
        raise at.refuse(node, "logits that are no layer's")
    at.add(node, node.x, "Output", shape=np.array(at.size[head.name]))
