"""The nodes of a NIR file in the order in which they run, with shapes, and neurons said in steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from neurocompile.discretization import FRAMEWORKS, Discretization
from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.frontends.nir.file import NirFile, NirNode

__all__ = ["NEURONS", "Neuron", "NirPlan", "NirStep", "pair_of", "plan_nir"]

NEURONS = ("CubaLIF", "IF", "LIF", "Threshold")
"""Kinds that spike."""
_LEAKY = ("CubaLI", "CubaLIF", "I", "LI", "LIF")
"""Kinds whose steps a framework decides."""


@dataclass(frozen=True)
class Neuron:
    """One step: ``i = current * i + x``, ``h = (1 - k) * v + gain * i + bias``, a spike where
    h > threshold, and the reset. float64, of the shape or one number each.
    """

    keep: np.ndarray
    """1 - k."""
    gain: np.ndarray
    bias: np.ndarray
    threshold: np.ndarray | None
    """None for a membrane that never fires."""
    subtract: np.ndarray | None
    """What a spike takes before the leak; None for a reset to 0."""
    current: np.ndarray
    """What a synaptic current keeps; 0 where there is none."""


@dataclass(frozen=True)
class NirStep:
    """A node as it runs."""

    name: str
    node: NirNode
    sources: tuple[str, ...]
    """Nodes whose sum it reads in this step."""
    fed_back: tuple[str, ...]
    """Neurons whose spikes of the step before it reads too."""
    shape: tuple[int, ...]
    """Of what it gives."""
    neuron: Neuron | None = None
    delay: int = 0


@dataclass(frozen=True)
class NirPlan:
    """All steps; the first is the Input, the last the Output."""

    steps: tuple[NirStep, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.steps[0].shape


def plan_nir(file: NirFile, how: Discretization | None, origin: str) -> NirPlan:
    """The order, shapes and neurons of a file.

    Raises:
        NeurocompileError: NC1003, a line for each node that cannot be taken; NC1015 where ``how`` is needed
            and None.
    """
    ins = [n for n, node in file.nodes.items() if node.kind == "Input" and "." not in n]
    outs = [n for n, node in file.nodes.items() if node.kind == "Output" and "." not in n]
    if len(ins) != 1 or len(outs) != 1:
        raise NeurocompileError(
            "NC1003", f"{origin} has {len(ins)} inputs and {len(outs)} outputs; one of each is read"
        )
    leaky = [n for n, node in file.nodes.items() if node.kind in _LEAKY]
    if how is None and leaky:
        raise NeurocompileError(
            "NC1015",
            f"node '{leaky[0]}' of {origin} has time constants, and NIR does not say in what steps: give "
            f"`discretize`, one of {', '.join(FRAMEWORKS)}, with dt=SECONDS where that is not the framework's own",
        )
    how = how or FRAMEWORKS["sinabs"]
    order, fed_back = _order(file, ins[0], origin)
    shapes: dict[str, tuple[int, ...]] = {}
    steps, wrong = [], []
    incoming: dict[str, list[str]] = {name: [] for name in file.nodes}
    for start, end in file.edges:
        incoming[end].append(start)
    for name in order:
        node = file.nodes[name]
        back = tuple(s for s in incoming[name] if (s, name) in fed_back)
        sources = tuple(s for s in incoming[name] if s not in back)
        try:
            given = [shapes[s] for s in sources] + [_back_shape(file.nodes[s], node) for s in back]
            shape = _shape(name, node, given)
            step = NirStep(name, node, sources, back, shape)
            if node.kind in NEURONS or node.kind in _LEAKY:
                step = replace(step, neuron=_neuron(name, node, how, shape))
            if node.kind == "Delay":
                step = replace(step, delay=_delay(name, node, how))
        except NeurocompileError as error:
            wrong.append(error.message)
            break  # shapes of what follows are not known
        shapes[name] = shape
        steps.append(step)
    if wrong:
        raise ViolationList("NC1003", wrong)
    if outs[0] not in shapes:
        raise NeurocompileError(
            "NC1003", f"{origin}: nothing leads from the input to '{outs[0]}', its output"
        )
    steps.sort(key=lambda step: step.name == outs[0])
    return NirPlan(tuple(steps))


def _order(file: NirFile, first: str, origin: str) -> tuple[list[str], set[tuple[str, str]]]:
    """Nodes behind the input, sources first, and the edges that feed back: those out of a neuron of each
    cycle.
    """
    after: dict[str, list[str]] = {name: [] for name in file.nodes}
    for start, end in file.edges:
        after[start].append(end)
    fed_back: set[tuple[str, str]] = set()
    while True:
        order = _sorted(file, fed_back)
        left = set(file.nodes) - set(order)
        if not left:
            break
        # what is left lies on cycles or behind them: a neuron that reaches itself feeds back
        neurons = [n for n in sorted(left) if file.nodes[n].kind in NEURONS]
        found = [(n, end) for n in neurons for end in _ways_home(n, after, left)]
        new = {edge for edge in found if edge[0] == found[0][0]} - fed_back
        if not new:
            raise NeurocompileError(
                "NC1003", f"{origin} has a cycle without a spiking neuron, at '{min(left)}'"
            )
        fed_back |= new
    reached, todo = {first}, [first]
    while todo:
        new_ends = [end for end in after[todo.pop()] if end not in reached]
        reached.update(new_ends)
        todo += new_ends
    return [first, *(n for n in order if n in reached and n != first)], fed_back


def _sorted(file: NirFile, without: set[tuple[str, str]]) -> list[str]:
    """Nodes after all that they read, as far as there is no cycle."""
    after: dict[str, list[str]] = {name: [] for name in file.nodes}
    waiting = dict.fromkeys(file.nodes, 0)
    for start, end in file.edges:
        if (start, end) not in without:
            after[start].append(end)
            waiting[end] += 1
    ready, order = [n for n, count in waiting.items() if not count], []
    while ready:
        order.append(ready.pop())
        for end in after[order[-1]]:
            waiting[end] -= 1
            if not waiting[end]:
                ready.append(end)
    return order


def _ways_home(name: str, after: dict[str, list[str]], within: set[str]) -> list[str]:
    """Successors of a node from which it is reached again."""
    found = []
    for start in after[name]:
        seen, todo = {start}, [start]
        while todo:
            here = todo.pop()
            if here == name:
                found.append(start)
                break
            for end in after[here]:
                if end in within and end not in seen:
                    seen.add(end)
                    todo.append(end)
    return found


def pair_of(step: NirStep, field: str) -> tuple[int, int]:
    """Rows and columns of a field."""
    return _pair(step.name, step.node, field)


def _pair(name: str, node: NirNode, field: str) -> tuple[int, int]:
    value = node.fields[field].reshape(-1)
    if value.size not in (1, 2) or np.any(value != np.rint(value)) or np.any(value < 0):
        raise NeurocompileError("NC1003", f"'{field}' of node '{name}' is {value[:4].tolist()}")
    numbers = [int(v) for v in value]
    if node.kind == "Conv1d":  # rows of one
        return (0 if field == "padding" else 1), numbers[0]
    return numbers[0], numbers[-1]


def _back_shape(neuron: NirNode, reader: NirNode) -> tuple[int, ...]:
    """Of a neuron that feeds back, before the graph's order comes to it."""
    given = max(
        (v.shape for v in neuron.fields.values()), key=lambda shape: (prod(shape), len(shape))
    )
    if prod(given) == 1 and reader.kind in ("Affine", "Linear"):
        return reader.fields["weight"].shape[1:]
    return given


def _shape(name: str, node: NirNode, sources: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Shape of what a node gives; images (channels, rows, columns)."""
    kind = node.kind
    if kind == "Input":
        shape = tuple(int(n) for n in node.fields["shape"].reshape(-1))
        if not shape or min(shape) < 1 or prod(shape) > 1 << 31:
            raise NeurocompileError("NC1003", f"input '{name}' has the shape {list(shape)}")
        return (shape[0], 1, shape[1]) if len(shape) == 2 else shape
    if not sources:
        raise NeurocompileError("NC1003", f"node '{name}' ({kind}) reads nothing")
    given = sources[0]
    if any(s != given for s in sources):
        raise NeurocompileError(
            "NC1003", f"node '{name}' reads arrays of the shapes {[list(s) for s in sources]}"
        )
    if kind in ("Affine", "Linear"):
        weight = node.fields["weight"]
        if weight.ndim != 2 or given[-1:] != weight.shape[1:]:
            raise NeurocompileError(
                "NC1003", f"node '{name}' reads {list(given)}, its weights are {list(weight.shape)}"
            )
        _check_bias(name, node, weight)
        return (*given[:-1], weight.shape[0])
    if kind in ("Conv1d", "Conv2d", "SumPool2d", "AvgPool2d"):
        return _windows(name, node, given)
    if kind == "Flatten":
        start, end = (int(node.fields[f].reshape(-1)[0]) for f in ("start_dim", "end_dim"))
        if start in (0, 1) and end in (-1, len(given) - 1, len(given)):
            return (prod(given),)
        raise NeurocompileError(
            "NC1003", f"node '{name}' flattens axes {start} to {end} of {list(given)}"
        )
    return given


def _check_bias(name: str, node: NirNode, weight: np.ndarray) -> None:
    bias = node.fields.get("bias")
    if bias is not None and bias.size != len(weight):
        raise NeurocompileError(
            "NC1003", f"node '{name}' has a bias of {bias.size:,} for {len(weight):,} outputs"
        )


def _windows(name: str, node: NirNode, given: tuple[int, ...]) -> tuple[int, ...]:
    if len(given) != 3:
        raise NeurocompileError(
            "NC1003", f"node '{name}' ({node.kind}) reads {list(given)}, no image"
        )
    stride, padding = _pair(name, node, "stride"), _pair(name, node, "padding")
    dilation, channels = (1, 1), given[0]
    if node.kind.startswith("Conv"):
        weight, groups = node.fields["weight"], int(node.fields["groups"].reshape(-1)[0])
        if node.kind == "Conv1d" and weight.ndim == 3:
            weight = weight[:, :, None]
        if (
            weight.ndim != 4
            or groups < 1
            or weight.shape[1] * groups != channels
            or weight.shape[0] % groups
        ):
            raise NeurocompileError(
                "NC1003",
                f"node '{name}' reads {list(given)} in {groups} groups, its weights are {list(weight.shape)}",
            )
        _check_bias(name, node, weight)
        kernel = (int(weight.shape[2]), int(weight.shape[3]))
        dilation = _pair(name, node, "dilation")
        channels = weight.shape[0]
    else:
        kernel = _pair(name, node, "kernel_size")
    if min(*stride, *dilation, *kernel) < 1:
        raise NeurocompileError("NC1003", f"node '{name}' has a stride, kernel or dilation of 0")
    size = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(given[1:], padding, dilation, kernel, stride, strict=True)
    )
    if min(size) < 1:
        raise NeurocompileError("NC1003", f"node '{name}' leaves nothing of {list(given)}")
    return (channels, *size)


def _parameters(name: str, node: NirNode, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Fields of a neuron, float64, one number or the array's shape."""
    found = {}
    for field, value in node.fields.items():
        if value.ndim == 1 and len(shape) == 3 and value.size == shape[0] > 1:
            found[field] = value.reshape(-1, 1, 1).astype(np.float64)  # one a channel
        elif value.size in (1, prod(shape)):
            found[field] = value.reshape(shape if value.size > 1 else ()).astype(np.float64)
        else:
            raise NeurocompileError(
                "NC1003",
                f"'{field}' of node '{name}' is {list(value.shape)}, the node's array {list(shape)}",
            )
        if field.startswith("tau") and np.any(value <= 0):
            raise NeurocompileError("NC1003", f"'{field}' of node '{name}' is not above 0")
    return found


def _neuron(name: str, node: NirNode, how: Discretization, shape: tuple[int, ...]) -> Neuron:
    """A neuron's step, shifted so that its reset is 0."""
    f = _parameters(name, node, shape)
    zero, one = np.zeros(()), np.ones(())
    if node.kind == "Threshold":
        return Neuron(zero, one, zero, f["threshold"], None, zero)

    def share(field: str) -> np.ndarray:
        found = how.share(f[field])
        if np.any(found > 1):
            raise NeurocompileError(
                "NC1003",
                f"'{field}' of node '{name}' would close {float(np.max(found)):.3g} of the way in a step of {how.text}: "
                "another dt?",
            )
        return found

    reset = f.get("v_reset", zero)
    leaky = "v_leak" in f
    k = share("tau" if "tau" in f else "tau_mem") if leaky else zero
    # without a time constant every framework adds the current as it is
    gain = f["r"] * (k if leaky and not how.exact else one)
    current: np.ndarray = zero
    if "tau_syn" in f:
        taken = share("tau_syn")
        current = 1 - taken
        gain = gain * f["w_in"] * (one if how.whole or how.exact else taken)
    bias = k * (f["v_leak"] - reset) if leaky else zero
    if "v_threshold" not in f:
        return Neuron(1 - k, gain, bias, None, None, current)
    threshold, subtract = f["v_threshold"] - reset, None
    if how.subtract:
        if np.any(reset != 0):
            raise NeurocompileError(
                "NC1003", f"node '{name}' subtracts and has a v_reset that is not 0"
            )
        subtract = threshold / (1 - k) if how.late else threshold
    return Neuron(1 - k, gain, bias, threshold, subtract, current)


def _delay(name: str, node: NirNode, how: Discretization) -> int:
    delay = np.unique(np.rint(node.fields["delay"] / how.dt))
    off = np.abs(node.fields["delay"] / how.dt - np.rint(node.fields["delay"] / how.dt)).max(
        initial=0
    )
    if delay.size != 1 or off > 1e-3 or not 0 <= delay[0] <= 62:
        raise NeurocompileError(
            "NC1003",
            f"node '{name}' delays by {node.fields['delay'].reshape(-1)[:3].tolist()}: one delay of 0 to 62 whole steps of "
            f"{how.dt:g} is read",
        )
    return int(delay[0])
