"""Walk through a file's nodes: import each by its rule, collect what stands in the way."""

from __future__ import annotations

import numpy as np
import onnx

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.diagnosis import (
    OWN_TIME,
    NotSupportedError,
    Problem,
    of_known_modules,
    over_time,
    problem_of,
    unsupported,
)
from neurocompile.frontends.onnx.behind import Behind
from neurocompile.frontends.onnx.composed import behind_neurons
from neurocompile.frontends.onnx.constants import uniform
from neurocompile.frontends.onnx.context import Importer
from neurocompile.frontends.onnx.fold import fold
from neurocompile.frontends.onnx.general import PREVIOUS
from neurocompile.frontends.onnx.layers import LAYER_RULES
from neurocompile.frontends.onnx.lif import DOMAIN, NEURONS
from neurocompile.frontends.onnx.shapes import SHAPE_RULES
from neurocompile.host.operators import HOST_OPERATORS
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import LayoutError

__all__ = ["Walk"]

_RULES = LAYER_RULES | SHAPE_RULES
_KEEPS_SHAPE = frozenset(
    "Abs Acos Atan Ceil Celu Clip Cos CumSum Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual GroupNormalization HardSigmoid "
    "HardSwish InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Max Min Mish Mod Neg Not PRelu "
    "Pow RMSNormalization Reciprocal Relu Round Selu Sigmoid Sign SimplifiedLayerNormalization Sin Softplus Softsign Sqrt Swish "
    "Tan Tanh ThresholdedRelu Where".split()
)
"""Operators without a rule whose output has the shape of an operand."""
_DATA_FREE = frozenset({"Shape", "Size"})
"""Operators whose output depends on the shape of their input only."""


class Walk:
    """Through all nodes that the outputs depend on, also behind those that are refused, so that one
    error names everything.

    Attributes:
        behind: what no neuron computes behind the last ones.
    """

    def __init__(self, im: Importer, source: str) -> None:
        self.im, self.source = im, source
        self.nodes = _live(im.graph)
        self.behind = Behind(behind_neurons(self.nodes), _by_rule)
        self._problems = _unknown(im, self.nodes, source, self.behind)
        self._refused = {p.node for p in self._problems}
        self._lost: set[str] = set()
        """Values that depend on what was refused."""
        self._guessed: set[str] = set()
        """Those whose shape was guessed behind it, of which nothing said would be sure."""
        self._doubtful: set[str] = set()
        """What has only the shape of what it would be."""

    def lose_input(self, error: NeurocompileError) -> None:
        """Go on without an input, which is refused for ``error``."""
        self._problems.insert(0, Problem(error.code, "", "", "", "", error.message, ""))
        self._lost.add(self.source)

    def follow(self) -> None:
        """All nodes in order.

        Raises:
            NotSupportedError: every reason.
        """
        for node in self.nodes:
            self.im.where = f"node '{node.name or node.output[0]}' ({node.op_type})"
            if node.op_type == "Constant" and not node.domain:
                continue
            if self._lost.intersection(node.input):
                self._lost.update(node.output)
            else:
                self._import(node)
        self._raise_problems()

    def _import(self, node: onnx.NodeProto) -> None:
        im, refused = self.im, _name(node) in self._refused
        sure = not self._guessed.intersection(node.input)
        if refused or self._doubtful.intersection(node.input):
            self._doubtful.update(node.output)
        try:
            if any(i in im.traced for i in node.input):
                _check_samples(im, node)
            if self.behind.takes(node) and _depends(im, node) and not refused:
                self.behind.place(im, node)
            else:
                _one(im, node, self._refused)
        except NeurocompileError as error:
            if sure or error.code == "NC2012":  # of the operator, whatever its operands
                self._problems.append(problem_of(error, node, im.where))
        except Exception:
            if sure:
                raise
        if not sure or refused and node.op_type not in _KEEPS_SHAPE:
            self._guessed.update(node.output)
        self._lost.update(
            name for name in node.output if name not in im.traced and name not in im.constants
        )

    def _raise_problems(self) -> None:
        im, problems = self.im, self._problems
        timeless = (
            not im.exported_T
            and im.model.metadata.get("neurocompile.T") != "1"
            and self.source in im.traced
        )
        if timeless and any(p.code == "NC1008" for p in problems):
            kept = (p for p in problems if p.code != "NC1008")
            problems = [_own_time(im, self.source), *kept]
        if problems:
            place = {_name(node): i for i, node in enumerate(self.nodes)}
            problems.sort(key=lambda p: place.get(p.node, -1))
            raise NotSupportedError(of_known_modules(problems))


def _name(node: onnx.NodeProto) -> str:
    """As problems call it."""
    return node.name or node.output[0]


def _by_rule(im: Importer, node: onnx.NodeProto) -> None:
    if node.op_type not in _RULES:
        raise im.error("NC1003", f"operator {node.op_type} is not one of the chip's")
    _one(im, node, set())


def _depends(im: Importer, node: onnx.NodeProto) -> bool:
    """Whether ``node`` reads values that depend on the input, and not their shapes alone."""
    return node.op_type not in _DATA_FREE and any(i in im.traced for i in node.input)


def _own_time(im: Importer, name: str) -> Problem:
    """Nothing repeats the input over time, and neurons want time; what follows from that goes
    unsaid.
    """
    sizes = next(n.shape for n in im.nodes if isinstance(n, s.Input))
    why = f"input '{name}' is (batch, {', '.join(map(str, sizes))}): {OWN_TIME}"
    return Problem("NC1020", "", "", "", "", why, "")


def _one(im: Importer, node: onnx.NodeProto, refused: set[str]) -> None:
    if node.op_type != PREVIOUS and all(i in im.constants or not i for i in node.input):
        _fold(im, node)
        return
    if (node.name or node.output[0]) in refused:
        # Listed already. What follows is looked at as if the operator kept shapes, as most of them
        # do.
        shown = max(
            (im.traced[i] for i in node.input if i in im.traced),
            key=lambda t: len(t.dims),
            default=None,
        )
        for output in filter(None, node.output):
            if shown is not None and node.op_type != "OneHot":
                im.traced[output] = shown
        return
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    try:
        _RULES[node.op_type](im, node, attributes)
    except LayoutError as error:
        raise NeurocompileError("NC1009", f"{im.where}: {error}") from error


def _live(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes that the outputs depend on."""
    wanted, live = {o.name for o in graph.output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            live.append(node)
    return live[::-1]


def _unknown(
    im: Importer, nodes: list[onnx.NodeProto], source: str, behind: Behind
) -> list[Problem]:
    """Every unsupported node that depends on the input."""
    dynamic, problems = {source}, []
    for node in nodes:
        if not dynamic.intersection(node.input) and node.op_type != PREVIOUS:
            continue
        known = node.op_type in _RULES and node.domain in ("", "ai.onnx", DOMAIN)
        if known and (node.op_type in NEURONS) == (node.domain == DOMAIN):
            if node.op_type not in _DATA_FREE:
                dynamic.update(node.output)
            continue
        dynamic.update(node.output)
        if behind.takes(node) and node.op_type in HOST_OPERATORS and node.domain in ("", "ai.onnx"):
            continue
        problems.append(over_time(node) if _leading(im, node) else unsupported(node))
    return problems


def _leading(im: Importer, node: onnx.NodeProto) -> bool:
    """Whether a maximum runs over the leading axis, which is that of time."""
    if node.op_type not in ("ReduceMax", "ReduceMin"):
        return False
    axes = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
    if axes is None and len(node.input) > 1:
        found = im.constants.get(node.input[1])
        axes = None if found is None else found.reshape(-1).tolist()
    return axes == [0]


def _fold(im: Importer, node: onnx.NodeProto) -> None:
    feeds = {i: im.constants[i] for i in node.input if i}
    values = fold(node, feeds, im.model.proto.opset_import, im.where)
    made = dict(zip(filter(None, node.output), values))
    if im.otherwise.keys() & feeds.keys():
        feeds = {i: im.otherwise.get(i, value) for i, value in feeds.items()}
        others = fold(node, feeds, im.model.proto.opset_import, im.where)
        im.otherwise |= {
            name: other
            for (name, value), other in zip(made.items(), others)
            if not np.array_equal(value, other)
        }
    im.constants.update(made)


def _check_samples(im: Importer, node: onnx.NodeProto) -> None:
    """NC1009 where a signal meets a real number that the file computes of how many samples there are."""
    for name in im.otherwise.keys() & set(node.input):
        value, other = uniform(im.constants[name]), uniform(im.otherwise[name])
        if value.dtype.kind == "f" and not np.array_equal(value, other):
            raise im.error(
                "NC1009",
                f"'{name}' depends on the number of samples; each sample is computed alone",
            )
