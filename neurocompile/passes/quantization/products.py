"""Products of two values, and softmax with the product that reads it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurocompile.circuits.softmax import plan_exponentials
from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantization.thresholds import largest_factor

__all__ = ["check_softmax", "counted_product", "product", "rate_softmax"]


def product(state: Quantization, node: s.Mul | s.MatMul) -> tuple[s.Node, float]:
    """A product; a real factor in a unit coarse enough that the sum of the products fits whoever
    reads it.
    """
    real = [i for i in node.inputs if state.integer[i] is None]
    if len(real) == 1:
        other = node.b if node.a == real[0] else node.a
        lif, terms = (
            state.consumer(node.name),
            state.size[node.a][-1] if isinstance(node, s.MatMul) else 1,
        )
        limit = (
            state.fields.payload
            if lif is None
            else min(state.input_limit(lif), state.fields.payload)
        )
        coarse = state.coarser(real[0], min(limit // terms, largest_factor(state.fields)))
        if coarse in state.shift and other in state.mean:
            lost = np.broadcast_to(state.shift[coarse], state.size[coarse])
            mean = np.broadcast_to(state.mean[other], state.size[other])
            pair = (lost, mean) if node.a == real[0] else (mean, lost)
            # a plain sum: a matrix product's rounding may depend on the number of threads
            state.shift[node.name] = (
                np.einsum("...ik,...kj->...ij", *pair)
                if isinstance(node, s.MatMul)
                else lost * mean
            )
        node = replace(
            node,
            a=coarse if node.a == real[0] else node.a,
            b=coarse if node.b == real[0] else node.b,
        )
    return node, state.unit[node.a] * state.unit[node.b]


def check_softmax(state: Quantization, node: s.Node) -> None:
    """NC2012 unless a softmax and what reads it have the form that its circuits compute."""
    steps = state.options.steps
    for name in node.inputs:
        if not isinstance(state.graph.node[name], s.Softmax):
            continue
        if (
            not isinstance(node, s.MatMul)
            or node.a != name
            or isinstance(state.graph.node[node.b], s.Softmax)
        ):
            raise NeurocompileError(
                "NC2012",
                f"layer '{node.name}' ({type(node).__name__}) reads the softmax '{name}'; a product softmax @ V of two "
                "matrices is supported",
                layer=node.name,
            )
        if node.b not in state.graph.constants:
            raise NeurocompileError(
                "NC2012",
                f"layer '{node.name}': softmax '{name}' times values that change from step to step; take their mean "
                "over time as for the scores: softmax(scores.mean(0)) @ v.mean(0)",
                layer=node.name,
            )
    if isinstance(node, s.Softmax) and steps < 4:
        raise NeurocompileError(
            "NC2012",
            f"layer '{node.name}': a softmax at T = {steps}; 4 steps at least, and its error is O(1/T)",
            layer=node.name,
        )


def rate_softmax(state: Quantization, node: s.Softmax, unit: float) -> tuple[s.Node, float]:
    x = state.coarser(node.x, state.held(node.x))
    bound, n = state.bound[x], state.size[node.x][-1]
    steps, score = state.options.steps, node.gain * state.unit[x]
    grid = plan_exponentials(n, steps, score, max(bound.magnitude, 1), state.fields, steps)
    thresholds = state.rewriter.tensor(f"{node.name}.thresholds", grid.thresholds.astype(np.int32))
    return s.RateSoftmax(
        name=node.name, x=x, thresholds=thresholds, span=grid.span, shift=grid.shift
    ), 1.0


def counted_product(state: Quantization, node: s.MatMul) -> tuple[s.Node, float]:
    """Counted: each of a row's n spike trains is rounded once, so that a row fires less than T + n
    times.
    """
    steps = state.options.steps
    fired = steps + state.size[node.a][-1]
    b = state.coarser(node.b, min(state.held(node.b) // fired, largest_factor(state.fields)))
    step = replace(node, name=state.rewriter.fresh(f"{node.name}.step"), b=b)
    state.unit[step.name], state.size[step.name], state.integer[step.name] = (
        state.unit[b],
        state.size[node.name],
        None,
    )
    if b in state.shift and state.shift[b].ndim == 0:
        state.shift[node.name] = state.shift[b]  # rows sum to 1
    state.rewriter.emit(step)
    state.track_bound(step)
    largest = max(fired * state.bound[b].magnitude, 1)
    return s.TimeSum(name=node.name, x=Ref(step.name), steps=steps, largest=largest), state.unit[
        b
    ] / steps
