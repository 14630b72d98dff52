"""A file of one step, whose inputs and outputs hold the membranes: find the pairs, and write out T
steps.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.recover.algebra import CONSTANT, ELEMENTWISE, Number, expand, spike_atom
from neurocompile.frontends.recover.graph import Graph
from neurocompile.frontends.recover.steps import COMPARISONS, StepReader
from neurocompile.frontends.recover.unroll import copy_renamed

__all__ = ["unroll_states"]


def unroll_states(proto: onnx.ModelProto, T: int | None) -> onnx.ModelProto:
    """``proto`` itself if no output is a membrane; otherwise ``T`` steps of it.

    Every step gets the same inputs, the membranes start where a reset leaves them, and every other
    output is the mean over steps.

    Raises:
        NeurocompileError: NC1007 without a T; NC1009 if no input belongs to a membrane.
    """
    if len(proto.graph.output) < 2:
        return proto
    graph = Graph(proto)
    if len(graph.inputs) < 2:  # no input to hold a membrane
        return proto
    pairs = _membranes(graph)
    if not pairs:
        return proto
    if T is None:
        raise NeurocompileError(
            "NC1007",
            f"the file holds one step: '{next(iter(pairs))}' is a membrane. Say how many steps to run: T",
        )
    return _steps(proto, graph, pairs, T)


def _membranes(graph: Graph) -> dict[str, tuple[str, Number]]:
    """Inputs that hold a membrane: the output that holds it after the step, and its value at first."""
    reader = StepReader(graph)
    cones: dict[str, set[str]] = {}
    for node in list(graph.live()):
        if (
            node.op_type in COMPARISONS
            and not node.domain
            and node.output[0] in graph.dynamic
            and len(graph.inputs) > 1
        ):
            try:
                step = reader.read(node)
            except NeurocompileError:  # reported when the neurons are read
                continue
            cones[node.output[0]] = _inputs_below(step.potential, graph)
    pairs: dict[str, tuple[str, Number]] = {}
    found = []
    for output in graph.outputs:
        p = expand(output, graph, reader.atoms, lambda _: True)
        for step in reader.steps:
            h, s = (step.potential,), spike_atom(step.node.output[0])
            if h in p and set(p) <= {h, (s,), (s, step.potential), CONSTANT} and len(p) > 1:
                first = p.get((s,), 0.0) if (s, step.potential) in p else 0.0
                found.append((output, cones.get(step.node.output[0], set()), first))
    states = graph.inputs[len(graph.inputs) - len(found) :]
    for k, (output, candidates, first) in enumerate(found):
        free = [i for i in graph.inputs if i in candidates and i not in pairs]
        if not free:
            raise NeurocompileError(
                "NC1009",
                f"output '{output}' is a membrane after a step, but no input is it before the step",
            )
        # Where the current is an input too, the membranes are the last inputs, in the order of
        # their outputs.
        pairs[states[k] if states[k] in free else free[-1]] = (output, first)
    return pairs


def _inputs_below(value: str, graph: Graph) -> set[str]:
    """Graph inputs among the arithmetic that makes ``value``."""
    found, stack, seen = set(), [value], {value}
    while stack:
        place = stack.pop()
        node = graph.producer.get(place)
        if place in graph.inputs:
            found.add(place)
        elif node is not None and node.op_type in ELEMENTWISE:
            fresh = [i for i in node.input if i not in seen]
            seen.update(fresh)
            stack += fresh
    return found


def _steps(
    proto: onnx.ModelProto, graph: Graph, pairs: dict[str, tuple[str, Number]], T: int
) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    new = model.graph
    del new.node[:], new.input[:], new.output[:], new.value_info[:]
    after = {output for output, _ in pairs.values()}
    new.input.extend(i for i in proto.graph.input if i.name not in pairs)
    new.output.extend(o for o in proto.graph.output if o.name not in after)
    state = {}
    for name, (_, first) in pairs.items():
        state[name] = graph.fresh(f"{name}.0")
        new.initializer.append(numpy_helper.from_array(np.asarray(first, np.float32), state[name]))
    changing = set(pairs)
    last: dict[str, list[str]] = {o.name: [] for o in new.output}
    for t in range(T):
        names = dict(state)
        for node in graph.nodes:
            if not changing.intersection(node.input):
                if t == 0:
                    new.node.append(node)
                continue
            changing.update(node.output)
            names |= {o: graph.fresh(f"{o}.{t}") for o in node.output if o}
            new.node.append(copy_renamed(node, names))
            new.node[-1].name = f"{node.name or node.output[0]}.{t}"
        state = {name: names[output] for name, (output, _) in pairs.items()}
        for output in last:
            last[output].append(names.get(output, output))
    count = graph.fresh("steps")
    new.initializer.append(helper.make_tensor(count, TensorProto.FLOAT, [], [float(T)]))
    for output, values in last.items():
        total = values[0]
        for value in values[1:]:
            summed = graph.fresh(f"{output}.sum")
            new.node.append(helper.make_node("Add", [total, value], [summed]))
            total = summed
        new.node.append(
            helper.make_node(
                "Div", [total, count], [output if T > 1 or total != output else graph.fresh(output)]
            )
        )
    return model
