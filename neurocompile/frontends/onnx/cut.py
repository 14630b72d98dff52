"""Where a model is cut between chip and host: the values that the chip gives, joined to one."""

from __future__ import annotations

from math import frexp, prod
from typing import Any

import numpy as np
import onnx

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.behind import Behind
from neurocompile.frontends.onnx.context import Importer, Traced
from neurocompile.frontends.onnx.host_graph import Cut, HostGraph, output_dims, read_by_host
from neurocompile.host.check import CUT, ONNX_ERRORS
from neurocompile.host.part import HostPart
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Atom, Layout, shown
from neurocompile.ir.text import Ref

__all__ = ["cut_model"]

_LARGEST_JOIN = 1 << 24
"""Weights of a layer that puts one of several values in its place."""

_LOOKED_THROUGH = (s.Rearrange, s.TimeMean, s.Scale, s.Offset, s.Sum, s.SumPool2d)
"""Kinds of node that leave the size of values about as it is, but for a factor."""


def cut_model(im: Importer, behind: Behind, outputs: list[str]) -> HostPart:
    """Emit the Output of the SpikingGraph, and give the host's part.

    Args:
        outputs: tensors that the model returns.

    NC1008 for an output that mixes samples or time with features, NC1009 for what cannot be joined.
    """
    _fewer(im, behind, outputs)
    cuts = _cuts(im, behind, outputs)
    timed = any(c.timed for c in cuts)
    whole, shape = _join(im, cuts)
    im.emit(s.Output, CUT, shape, x=whole, per_step=timed)
    im.outputs = [_lies(im, name) for name in outputs]
    content = HostGraph(im, behind, outputs, cuts, timed).content()
    try:
        return HostPart.of(content)
    except (ValueError, *ONNX_ERRORS) as error:
        raise NeurocompileError(
            "NC1009", f"what lies behind the last neurons cannot be run by the host: {error}"
        ) from error


def _lies(im: Importer, name: str) -> tuple[Layout, tuple[int, ...]]:
    """How the output ``name`` lies over its features, in order, and their sizes."""
    dims = output_dims(im, name)
    _check_apart(im, name, dims)
    sizes = tuple(prod(a.size for a in run) for d in dims for run in im.runs(d))
    pattern = im.pattern(Traced(Ref(""), Layout(dims)))
    return im.filled(pattern, Layout.contiguous(sizes).dims), sizes


def _fewer(im: Importer, behind: Behind, outputs: list[str]) -> None:
    """Give the host views, sums and factors in front of what it reads, where the chip has to give
    no more elements then: of ``x - mean(x)`` and ``x`` the chip need not give both, nor make the first.
    """
    made = {o: n for n in im.graph.node for o in n.output if o}
    place = {id(n): k for k, n in enumerate(im.graph.node)}
    fixed: set[str] = set()
    while True:
        by_host = {i for i in read_by_host(behind) if i in im.traced and i not in behind.values}
        read = by_host | {o for o in outputs if o not in behind.values}
        for name in sorted(read - fixed):
            fixed.add(name)
            cone, base = _cone(im, behind, made, name)
            fresh = sum(_elements(im, b) for b in base - read)
            if cone and fresh <= (_elements(im, name) if name in by_host else 0):
                for node in sorted(cone, key=lambda n: place[id(n)]):
                    behind.adopt(im, node)
                break
        else:
            return


def _cone(
    im: Importer, behind: Behind, made: dict[str, onnx.NodeProto], name: str
) -> tuple[list[onnx.NodeProto], set[str]]:
    """Nodes in front of ``name`` that move, add or scale, and the tensors in front of them."""
    cone, base, stack, seen = [], set(), [name], {name}
    while stack:
        tensor = stack.pop()
        node = made.get(tensor)
        operands = [i for i in node.input if i in im.traced] if node is not None else []
        if node is None or not operands or not behind.adopts(im, node, operands):
            base.add(tensor)
            continue
        cone.append(node)
        stack += [i for i in operands if i not in seen]
        seen.update(operands)
    return cone, base


def _elements(im: Importer, name: str) -> int:
    """Of a sample, at all steps."""
    return prod(a.size for d in im.traced[name].dims for a in d if a.axis != "B")


def _cuts(im: Importer, behind: Behind, outputs: list[str]) -> list[Cut]:
    names = dict.fromkeys([*outputs, *read_by_host(behind)])
    wanted = [n for n in names if n in im.traced and n not in behind.values]
    found, refs = [], {}
    for name in wanted:
        refs[name] = im.features(im.traced[name])
    largest = {name: _magnitude(im, ref) for name, ref in refs.items()}
    top = max(largest.values())
    start = 0
    for name in wanted:
        shape = im.shapes[refs[name]]
        _, power = frexp(top / largest[name])
        factor = 1.0 if len(wanted) == 1 else 2.0 ** (power - 1)
        found.append(Cut(name, im.traced[name], refs[name], shape, start, factor))
        start += prod(shape)
    return found


def _magnitude(im: Importer, ref: Ref) -> float:
    """About how large the weights of the layer are that makes the value ``ref``; 1 for spikes."""
    factor = 1.0
    while (node := im.made(ref)) and type(node) in _LOOKED_THROUGH:
        factor *= abs(getattr(node, "factor", 1.0))
        ref = node.inputs[0]
    weight = getattr(node, "weight", None)
    if weight is not None:
        factor *= float(np.abs(im.tensors[weight]).max())
    return factor if 1e-30 < factor < 1e30 else 1.0


def _join(im: Importer, cuts: list[Cut]) -> tuple[Ref, tuple[int, ...]]:
    """One value whose elements, row-major, are those of all ``cuts``, each behind the other."""
    _average_late(im, cuts)
    if len(cuts) == 1:
        return cuts[0].ref, im.shapes[cuts[0].ref]
    maps = len({c.shape[1:] for c in cuts}) == 1 and all(len(c.shape) == 3 for c in cuts)
    counts = [c.shape[0] if maps else c.size for c in cuts]
    total, start = sum(counts), 0
    placed: dict[Ref, list[tuple[str, np.ndarray, np.ndarray]]] = {}
    for cut, count in zip(cuts, counts):
        if total * count > _LARGEST_JOIN:
            sizes = ", ".join(f"{c.size:,}" for c in cuts)
            raise NeurocompileError(
                "NC1009", f"outputs of {sizes} elements cannot be had at once; choose one (`head`)"
            )
        place = cut.factor * np.eye(total, count, -start)
        x, weight, bias = _layer(im, cut, maps)
        placed.setdefault(x, []).append((cut.name, place @ weight, place @ bias))
        start += count
    whole: Ref | None = None
    for x, layers in placed.items():  # those that read the same value are one layer
        name = f"{layers[0][0]}.place"
        weight = np.sum([w for _, w, _ in layers], axis=0)
        bias = np.sum([b for _, _, b in layers], axis=0)
        fields: dict[str, Any] = {"x": x}
        if np.any(bias):
            fields["bias"] = im.store(f"{name}.bias", bias)
        fields["weight"] = im.store(name, weight[:, :, None, None] if maps else weight)
        shape = (total, *cuts[0].shape[1:]) if maps else (total,)
        ref = im.emit(s.Conv2d if maps else s.Linear, name, shape, **fields)
        whole = ref if whole is None else im.emit(s.Add, CUT, shape, a=whole, b=ref)
    assert whole is not None
    return whole, im.shapes[whole]


def _layer(im: Importer, cut: Cut, maps: bool) -> tuple[Ref, np.ndarray, np.ndarray]:
    """What makes ``cut`` as a matrix and a bias on a value: the layer itself, if nothing else reads
    it, or the identity.
    """
    made = im.made(cut.ref)
    count = cut.shape[0] if maps else cut.size
    if isinstance(made, s.Linear) and not any(cut.ref in n.inputs for n in im.nodes):
        weight = im.tensors[made.weight].astype(np.float64)
        bias = np.zeros(count) if made.bias is None else im.tensors[made.bias].astype(np.float64)
        return made.x, weight, bias
    return cut.ref if maps else _flat(im, cut), np.eye(count), np.zeros(count)


def _flat(im: Importer, cut: Cut) -> Ref:
    if len(cut.shape) == 1:
        return cut.ref
    n = (cut.size,)
    return im.emit(s.Rearrange, f"{cut.name}.flat", n, x=cut.ref, shape=n, sizes=n, strides=(1,))


def _average_late(im: Importer, cuts: list[Cut]) -> None:
    """Where the host reads steps, it averages what is a mean itself: all values of the whole have
    steps.
    """
    if not any(c.timed for c in cuts) or all(c.timed for c in cuts):
        return
    inner = {i for n in im.nodes if isinstance(n, (s.LIF, s.Softmax)) for i in _below(im, n)}
    means = {n.name: n.x for n in im.nodes if isinstance(n, s.TimeMean) and n.name not in inner}

    def passed(value: Any) -> Any:
        while isinstance(value, Ref) and value in means:
            value = means[value]
        return value

    im.nodes[:] = [
        n if n.name in means else type(n)(**{k: passed(v) for k, v in vars(n).items()})
        for n in im.nodes
    ]
    for k, cut in enumerate(cuts):
        cuts[k] = Cut(cut.name, cut.traced, passed(cut.ref), cut.shape, cut.start, cut.factor)


def _below(im: Importer, node: s.Node) -> set[str]:
    """Everything that ``node`` depends on."""
    nodes = {n.name: n for n in im.nodes}
    found: set[str] = set()
    stack: list[str] = list(node.inputs)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack += nodes[name].inputs
    return found


def _check_apart(im: Importer, name: str, dims: tuple[tuple[Atom, ...], ...]) -> None:
    for dim in dims:
        kinds = {a.axis for a in dim if a.size > 1}
        if "" in kinds and len(kinds) > 1:
            raise im.error(
                "NC1008",
                f"an axis of {shown(Layout(dims).shape)} holds samples or time beside features: take them apart, x.unflatten(0, (-1, n))",
            )
