"""Tables of a stranger's images, checked before a kernel reads them: no index leads out of its table.

Kernels do not check bounds. What passes here may still be wrong, but it touches no memory that is not
its own, and ends.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neurocompile.images.build import CoreImages
from neurocompile.images.image import (
    DENSE,
    GROUP_FIELDS,
    HOST_CORE,
    KERNEL,
    KINDS,
    PORT_FIELDS,
    SPARSE,
    CoreImage,
    Outputs,
    columns,
)
from neurocompile.images.names import Names
from neurocompile.images.size import kernel_outputs
from neurocompile.ir.fields import ALL

__all__ = ["check_images"]

_G, _P = columns(GROUP_FIELDS), columns(PORT_FIELDS)
_DTYPES = {
    "place": np.int64,
    "groups": np.int64,
    "boxes": np.int64,
    "bias": np.int16,
    "ports": np.int64,
    "axon_next": np.int32,
    "row_ends": np.int64,
    "positions": np.int32,
    "targets": np.int32,
    "weights": np.int16,
    "map_ends": np.int64,
    "entry_core": np.int32,
    "entry_axon": np.int32,
    "entry_set": np.int32,
    "channel_sets": np.uint8,
}
_MOST_DELAY = 1 << 12
_MOST_STEPS = 1 << 20
_MOST_WAITING = 1 << 28
_MOST_NEURONS = 1 << 31


def check_images(images: CoreImages) -> list[str]:
    """A line for the first thing that is wrong in each core; none if all tables hold together."""
    problems = list(_names(images.names))
    if problems:
        return problems
    for number, core in enumerate(images.cores):
        problem = next(_core(core, images), None)
        if problem:
            problems.append(f"core {number}: {problem}")
    if not problems:
        problems += _coverage(images)
    problem = next(_host(images), None)
    return problems + ([f"host: {problem}"] if problem else [])


def _coverage(images: CoreImages) -> list[str]:
    """A line for each population of which the cores hold another number of neurons than it has."""
    names = images.names
    held = np.zeros(len(names.populations), np.int64)
    for core in images.cores:
        np.add.at(held, core.groups[:, _G["population"]], core.groups[:, _G["count"]])
    driven = set(images.host.populations.tolist())
    return [
        f"population '{p.name}' has {p.size:,} neurons, the cores hold {int(n):,}"
        for i, (p, n) in enumerate(zip(names.populations, held, strict=True))
        if n != (0 if i in driven else p.size)
    ]


def _names(names: Names) -> Iterator[str]:
    frame = (names.steps, names.period, names.windows)
    if min(frame) < 1 or max(frame) > _MOST_STEPS or names.steps > names.period:
        yield f"{names.steps} steps, a period of {names.period}, {names.windows} windows"
    for p in names.populations:
        if not 0 <= p.depth <= _MOST_STEPS or min(p.shape, default=1) < 1:
            yield f"population '{p.name}' of shape {list(p.shape)} at depth {p.depth}"
        elif p.size > _MOST_NEURONS:
            yield f"population '{p.name}' has {p.size:,} neurons"
    if not len(names.kinds) == len(names.sources) == len(names.projections) or any(
        not 0 <= s < len(names.populations) for s in names.sources
    ):
        yield "projections have no sources"


def _kinds(arrays: dict[str, np.ndarray]) -> Iterator[str]:
    for name, dtype in _DTYPES.items():
        if name in arrays and arrays[name].dtype != dtype:
            yield f"'{name}' is {arrays[name].dtype}, not {np.dtype(dtype)}"


def _within(name: str, values: np.ndarray, low: int, high: int) -> Iterator[str]:
    """Unless all ``values`` are ``low <= value < high``."""
    if values.size and not (low <= int(values.min()) and int(values.max()) < high):
        yield f"'{name}' has {int(values.min()):,}..{int(values.max()):,}, possible are {low:,}..{high - 1:,}"


def _core(core: CoreImage, images: CoreImages) -> Iterator[str]:
    names, groups, ports = images.names, core.groups, core.ports
    axes = max((len(p.shape) for p in names.populations), default=0)
    yield from _kinds(core.arrays())
    shapes = {
        "place": (core.place.shape, (4,)),
        "groups": (groups.shape, (len(groups), len(GROUP_FIELDS))),
        "boxes": (core.boxes.shape, (len(groups), 2, axes)),
        "ports": (ports.shape, (len(ports), len(PORT_FIELDS))),
        "positions": (core.positions.shape, (len(core.positions), 2)),
    }
    for name, (found, wanted) in shapes.items():
        if found != wanted:
            yield f"'{name}' has shape {list(found)}, not {list(wanted)}"
    for name in ("bias", "axon_next", "row_ends", "targets", "weights"):
        if getattr(core, name).ndim != 1:
            yield f"'{name}' has {getattr(core, name).ndim} axes"
    yield from _groups(core, names)
    yield from _ports(core, names)
    ahead = core.axon_next - np.arange(len(core.axon_next))
    if ((core.axon_next >= 0) & (ahead <= 0)).any():
        yield "a chain of axons does not lead ahead, and would not end"
    yield from _within("axon_next", core.axon_next, -1, len(core.axon_next))
    by_neuron, by_position = groups[:, _G["by_neuron"]], groups[:, _G["by_position"]]
    sizes = groups[:, _G["count"]]
    last = (core.boxes[:, 1] - core.boxes[:, 0])[:, -1] if axes else np.ones(len(groups), np.int64)
    entries = int(sizes[by_neuron > 0].sum() + (sizes // last)[by_position > 0].sum())
    positional = [names.populations[p] for p in groups[by_position > 0, _G["population"]]]
    channels = max((p.shape[-1] for p in positional if p.shape), default=0)
    yield from _outputs(core.outputs, images, entries, channels)


def _groups(core: CoreImage, names: Names) -> Iterator[str]:
    groups = core.groups
    for name, high in (
        ("population", len(names.populations)),
        ("kind", len(KINDS)),
        ("vth", 1 << 24),
        ("dv", 4097),
        ("du", ALL),
        ("bias_exp", 8),
        ("has_bias", 2),
        ("reset_interval", _MOST_STEPS),
        ("reset_phase", _MOST_STEPS),
        ("by_neuron", 2),
        ("by_position", 2),
    ):
        yield from _within(name, groups[:, _G[name]], 0, high)
    first = np.cumsum([0, *groups[:, _G["count"]]])
    if (groups[:, _G["first"]] != first[:-1]).any() or first[-1] != len(core.bias):
        yield "groups do not lie one behind the other"
    for group, (start, stop) in zip(groups, core.boxes, strict=True):
        p = names.populations[group[_G["population"]]]
        lead = len(start) - len(p.shape)
        inside = all(
            0 <= a < b <= n for a, b, n in zip(start[lead:], stop[lead:], p.shape, strict=True)
        )
        if not inside or (start[:lead] != 0).any() or (stop[:lead] != 1).any():
            yield f"a group leaves '{p.name}' of shape {list(p.shape)}"
        elif int(np.prod(stop - start)) != group[_G["count"]]:
            yield f"a group of '{p.name}' has another size than its box"
        if (KINDS[group[_G["kind"]]] == "LIF") != p.spiking:
            yield f"a group of '{p.name}' is of a kind that its population is not"


def _ports(core: CoreImage, names: Names) -> Iterator[str]:
    ports = core.ports
    for name, low, high in (
        ("kind", 0, KERNEL + 1),
        ("group", 0, len(core.groups)),
        ("projection", 0, len(names.projections)),
        ("delay", 1, _MOST_DELAY),
        ("weight_exp", -7, 8),
        ("weight_bits", 1, 17),
        ("shared", 0, 2),
        ("positional", 0, 2),
    ):
        yield from _within(name, ports[:, _P[name]], low, high)
    first = np.cumsum([0, *ports[:, _P["axons"]]])
    if (ports[:, _P["axons"]] < 0).any() or (ports[:, _P["axon"]] != first[:-1]).any():
        yield "axons of ports do not lie one behind the other"
    if first[-1] != len(core.axon_next):
        yield "ports have another number of axons than the core"
    slots = np.ones(len(core.groups), np.int64)
    np.maximum.at(slots, ports[:, _P["group"]].clip(0, len(slots) - 1), ports[:, _P["delay"]] + 1)
    if int((slots * core.groups[:, _G["count"]]).sum()) > _MOST_WAITING:
        yield "more sums wait than any core holds"
    for port in ports:
        if port[_P["kind"]] == KERNEL:
            yield from _kernel(core, port)
        else:
            yield from _rows(core, port)


def _rows(core: CoreImage, port: np.ndarray) -> Iterator[str]:
    axons, first, weights = (int(port[_P[name]]) for name in ("axons", "rows", "weights"))
    count = int(core.groups[port[_P["group"]], _G["count"]])
    if port[_P["kind"]] == DENSE:
        if not 0 <= weights <= weights + axons * count <= len(core.weights):
            yield "a dense port leaves the weights"
        return
    assert port[_P["kind"]] == SPARSE
    if not 0 <= first <= first + axons <= len(core.row_ends):
        yield "a sparse port leaves the table of rows"
        return
    ends, start = core.row_ends[first : first + axons], int(port[_P["synapses"]])
    synapses = int(ends[-1]) if axons else 0
    if (np.diff(ends, prepend=0) < 0).any() or not 0 <= start <= start + synapses <= len(
        core.targets
    ):
        yield "rows of a sparse port leave its synapses"
        return
    yield from _within("targets", core.targets[start : start + synapses], 0, count)
    held = 1 if port[_P["shared"]] else synapses
    if synapses and not 0 <= weights <= weights + held <= len(core.weights):
        yield "a sparse port leaves the weights"


def _kernel(core: CoreImage, port: np.ndarray) -> Iterator[str]:
    axons, first, weights = (int(port[_P[name]]) for name in ("axons", "rows", "weights"))
    if not 0 <= first <= first + axons <= len(core.positions):
        yield "a port leaves the table of positions"
        return
    yield from _within("positions", core.positions[first : first + axons], 0, 1 << 20)
    for name, low, high in (
        ("group_inputs", 1, 1 << 20),
        ("first_group", 0, 1 << 20),
        ("groups", 1, 1 << 20),
        ("group_outputs", 1, 1 << 20),
        ("height", 1, 1 << 12),
        ("width", 1, 1 << 12),
        ("stride_y", 1, 1 << 12),
        ("stride_x", 1, 1 << 12),
        ("padding_y", 0, 1 << 12),
        ("padding_x", 0, 1 << 12),
        ("dilation_y", 1, 1 << 12),
        ("dilation_x", 1, 1 << 12),
    ):
        if not low <= port[_P[name]] < high:
            yield f"a kernel's {name} is {int(port[_P[name]])}"
            return
    outputs = kernel_outputs(core, port)
    area = int(port[_P["height"]] * port[_P["width"]] * port[_P["group_inputs"]])
    if outputs.min() < 1 or weights < 0 or weights + area * int(outputs.sum()) > len(core.weights):
        yield "a port of kernels leaves the weights"


def _outputs(outputs: Outputs, images: CoreImages, entries: int, channels: int) -> Iterator[str]:
    ends = outputs.map_ends
    if len(ends) != entries:
        yield f"the output map has {len(ends):,} entries, {entries:,} are needed"
        return
    listed = len(outputs.entry_core)
    if (np.diff(ends, prepend=0) < 0).any() or (int(ends[-1]) if entries else 0) != listed:
        yield "output lists leave their table"
    if not listed == len(outputs.entry_axon) == len(outputs.entry_set):
        yield "output lists are of different lengths"
        return
    yield from _within("entry_core", outputs.entry_core, HOST_CORE, len(images.cores))
    yield from _within("entry_set", outputs.entry_set, -1, len(outputs.channel_sets))
    if len(outputs.channel_sets) and outputs.channel_sets.shape[1] < channels:
        yield "channel sets have too few channels"
    axons = np.array([len(core.axon_next) for core in images.cores])
    away = outputs.entry_core >= 0
    if (outputs.entry_axon[away] < 0).any() or (
        outputs.entry_axon[away] >= axons[outputs.entry_core[away]]
    ).any():
        yield "an output list names an axon that its core lacks"


def _host(images: CoreImages) -> Iterator[str]:
    host, names = images.host, images.names
    yield from _kinds(vars(host.outputs))
    if (
        not len(host.populations)
        == len(host.by_neuron)
        == len(host.by_position)
        == len(names.inputs)
    ):
        yield "its inputs are of different lengths"
        return
    yield from _within("populations", host.populations, 0, len(names.populations))
    entries = channels = 0
    for number, by_neuron, by_position, h in zip(
        host.populations, host.by_neuron, host.by_position, names.inputs, strict=True
    ):
        p = names.populations[number]
        entries += (p.size if by_neuron else 0) + (p.size // p.shape[-1] if by_position else 0)
        channels = max(channels, p.shape[-1] if by_position else 0)
        for ref, wanted in (
            (h.places, (names.windows, *p.shape[:-1])),
            (h.pattern, (names.windows, *p.shape)),
        ):
            if ref is not None and images.host_tensors[ref].shape != wanted:
                yield f"table '{ref}' has shape {list(images.host_tensors[ref].shape)}"
        if h.places is not None:
            size = int(np.prod(h.sample_shape[:-1], dtype=np.int64))
            yield from _within(h.places, images.host_tensors[h.places], -1, size)
    yield from _outputs(host.outputs, images, entries, channels)
