"""All cores' tables, one behind the other, as the kernels of the machine read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from neurocompile.images.build import CoreImages
from neurocompile.images.image import GROUP_FIELDS, PORT_FIELDS, SPARSE, CoreImage, Outputs, columns
from neurocompile.images.rows import REGISTER
from neurocompile.images.state import Tables
from neurocompile.ir.layout import strided_index

__all__ = ["load_tables", "starts"]

_G, _P = columns(GROUP_FIELDS), columns(PORT_FIELDS)


def load_tables(images: CoreImages) -> Tables:
    """All cores' tables, one behind the other, as the kernels read them."""
    cores, names = images.cores, images.names
    axes = max((len(p.shape) for p in names.populations), default=0)
    groups = np.concatenate([core.groups for core in cores])
    ports = np.concatenate([core.ports for core in cores])
    first = {
        "neurons": starts([core.neurons for core in cores]),
        "groups": starts([len(core.groups) for core in cores]),
        "ports": starts([len(core.ports) for core in cores]),
        "axons": starts([len(core.axon_next) for core in cores]),
        "rows": starts([len(core.positions) for core in cores]),
        "weights": starts([len(core.weights) for core in cores]),
        "synapses": starts([len(core.targets) for core in cores]),
    }
    groups[:, _G["first"]] += np.repeat(first["neurons"], [len(c.groups) for c in cores])
    counts = [len(core.ports) for core in cores]
    for name, start in (("group", "groups"), ("axon", "axons"), ("weights", "weights")):
        ports[:, _P[name]] += np.repeat(first[start], counts)
    ports[:, _P["synapses"]] += np.repeat(first["synapses"], counts)
    ports[:, _P["rows"]] += np.repeat(first["rows"], counts)
    boxes = np.concatenate([core.boxes for core in cores])
    padding = np.zeros((len(boxes), 2, max(0, 3 - axes)), np.int64)
    padding[:, 1] = 1
    number = groups[:, _G["population"]]
    depth = np.array([p.depth for p in names.populations], np.int64)
    rows = [_rows(core) for core in cores]
    axon_next = [
        np.where(core.axon_next < 0, -1, core.axon_next.astype(np.int64) + start)
        for core, start in zip(cores, first["axons"], strict=True)
    ]
    maps = _maps(images, first["axons"])
    bias = [
        core.bias.astype(np.int32)
        << np.repeat(core.groups[:, _G["bias_exp"]], core.groups[:, _G["count"]]).astype(np.int32)
        for core in cores
    ]
    flat = [_flat(names.populations[p].shape, box) for p, box in zip(number, boxes, strict=True)]
    return Tables(
        groups=groups,
        boxes=np.ascontiguousarray(np.concatenate([padding, boxes], axis=2)[:, :, -3:]),
        group_core=np.repeat(np.arange(len(cores)), [len(core.groups) for core in cores]),
        depths=depth[number],
        bias=_one(bias, np.int32),
        flat=_one(flat, np.int64),
        runs=np.array([1 + np.count_nonzero(np.diff(f) != 1) for f in flat], np.int64),
        ports=ports,
        axon_port=np.repeat(np.arange(len(ports)), ports[:, _P["axons"]]),
        axon_next=_one(axon_next, np.int64),
        row_start=_one([start for start, _ in rows], np.int64),
        row_end=_one([end for _, end in rows], np.int64),
        positions=np.concatenate([core.positions for core in cores]),
        targets=_one([core.targets for core in cores], np.int32),
        weights=_one([*(core.weights for core in cores), np.zeros(REGISTER, np.int16)], np.int16),
        **maps,
    )


def starts(sizes: Sequence[int]) -> np.ndarray:
    """Where parts of these sizes begin, one behind the other."""
    return np.cumsum([0, *sizes[:-1]], dtype=np.int64)


def _one(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)


def _flat(shape: Sequence[int], box: np.ndarray) -> np.ndarray:
    """Places of a box's neurons in the population's flattened array."""
    start, stop = box[:, box.shape[1] - len(shape) :]
    strides = [int(np.prod(shape[a + 1 :], dtype=np.int64)) for a in range(len(shape))]
    offset = int(sum(a * s for a, s in zip(start, strides, strict=True)))
    return strided_index(tuple((stop - start).tolist()), tuple(strides), offset)


def _rows(core: CoreImage) -> tuple[np.ndarray, np.ndarray]:
    """Of each axon the begin and end of its sparse row in the port's synapses."""
    start, end = (np.zeros(len(core.axon_next), np.int64) for _ in range(2))
    for port in core.ports:
        if port[_P["kind"]] == SPARSE:
            axon, axons, row = (int(port[_P[name]]) for name in ("axon", "axons", "rows"))
            ends = core.row_ends[row : row + axons]
            end[axon : axon + axons] = ends
            start[axon : axon + axons] = np.concatenate([[0], ends[:-1]])[:axons]
    return start, end


@dataclass(frozen=True)
class _Sender:
    """Neurons that lie together, as output maps know them."""

    shape: tuple[int, ...]
    channel: int
    """First channel."""
    by_neuron: bool
    by_position: bool

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def channels(self) -> np.ndarray:
        """Channel of each neuron."""
        return self.channel + np.arange(self.size) % (self.shape[-1] if self.shape else 1)

    def entries(self, positional: bool, first: int) -> tuple[np.ndarray, int]:
        """Map entry of each neuron, -1 for none, and the next free one."""
        if not (self.by_position if positional else self.by_neuron):
            return np.full(self.size, -1), first
        each = self.shape[-1] if positional and self.shape else 1
        return first + np.arange(self.size) // each, first + self.size // each


def _senders(images: CoreImages) -> list[tuple[Outputs, list[_Sender]]]:
    """Of each core, then of the host."""
    populations, host = images.names.populations, images.host
    found = []
    for core in images.cores:
        held = []
        for group, box in zip(core.groups, core.boxes, strict=True):
            axes = len(populations[group[_G["population"]]].shape)
            start, stop = box[:, box.shape[1] - axes :]
            shape, channel = tuple((stop - start).tolist()), int(start[-1]) if axes else 0
            held.append(
                _Sender(
                    shape, channel, bool(group[_G["by_neuron"]]), bool(group[_G["by_position"]])
                )
            )
        found.append((core.outputs, held))
    sent = zip(host.populations, host.by_neuron, host.by_position, strict=True)
    found.append(
        (host.outputs, [_Sender(populations[p].shape, 0, bool(a), bool(b)) for p, a, b in sent])
    )
    return found


def _maps(images: CoreImages, first_axon: np.ndarray) -> dict[str, np.ndarray]:
    """Output maps of all senders: neurons of the cores, then those of the host."""
    names = ["neuron_map", "position_map", "channels", "map_start", "map_end"]
    names += ["entry_core", "entry_axon", "entry_set"]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    senders = _senders(images)
    widest = max(outputs.channel_sets.shape[1] for outputs, _ in senders)
    sets, maps, entries, known = [np.zeros((0, widest), np.uint8)], 0, 0, 0
    for outputs, held in senders:
        parts["channels"] += [sender.channels for sender in held]
        for name, positional in (("neuron_map", False), ("position_map", True)):
            for sender in held:
                entry, maps = sender.entries(positional, maps)
                parts[name].append(entry)
        ends = outputs.map_ends + entries
        parts["map_start"].append(np.concatenate([[entries], ends[:-1]])[: len(ends)])
        parts["map_end"].append(ends)
        to = outputs.entry_core.astype(np.int64)
        there = first_axon[np.maximum(to, 0)]
        parts["entry_core"].append(to)
        parts["entry_axon"].append(np.where(to < 0, -1, outputs.entry_axon + there))
        parts["entry_set"].append(np.where(outputs.entry_set < 0, -1, outputs.entry_set + known))
        own = outputs.channel_sets
        sets.append(np.pad(own, ((0, 0), (0, widest - own.shape[1]))))
        entries, known = entries + len(to), known + len(own)
    found = {name: _one(part, np.int64) for name, part in parts.items()}
    return found | {"channel_sets": np.concatenate(sets)}
