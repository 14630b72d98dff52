"""Where images differ from those that circuit and mapping give: the first axon, neuron or list."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neurocompile.images.build import CoreImages, ImageBuilder
from neurocompile.images.image import (
    DENSE,
    GROUP_FIELDS,
    HOST_CORE,
    PORT_FIELDS,
    SPARSE,
    CoreImage,
    Outputs,
    columns,
)

__all__ = ["differences", "home_of", "why_different"]

_G, _P = columns(GROUP_FIELDS), columns(PORT_FIELDS)


def differences(images: CoreImages, builder: ImageBuilder) -> Iterator[str]:
    """A line for each core whose image is not what ``builder`` makes, and for the host."""
    if images.names != builder.names:
        yield "core images: names, shapes or times are those of another program"
        return
    for number, core in enumerate(images.cores):
        expected = builder.core(number)
        if not _equal(core, expected):
            yield f"core {number}: {_first(core, expected)}"
    host = builder.make_host()
    lists = _lists(images.host.outputs, host.outputs)
    if lists:
        yield f"host: {lists}"


def home_of(images: CoreImages, population: str, neuron: tuple[int, ...]) -> tuple[int, int, int]:
    """Core, group and neuron of the core that ``neuron`` of a population is; (-1, -1, -1) if none."""
    names = [p.name for p in images.names.populations]
    number = names.index(population) if population in names else -1
    for at, core in enumerate(images.cores):
        for g, (group, (start, stop)) in enumerate(zip(core.groups, core.boxes, strict=True)):
            lead = len(start) - len(neuron)
            if group[_G["population"]] == number and all(
                a <= i < b for i, a, b in zip(neuron, start[lead:], stop[lead:], strict=True)
            ):
                place = tuple(i - a for i, a in zip(neuron, start[lead:], strict=True))
                inside = np.ravel_multi_index(place, tuple((stop - start)[lead:])) if neuron else 0
                return at, g, int(group[_G["first"]] + inside)
    return -1, -1, -1


def why_different(
    images: CoreImages, builder: ImageBuilder, population: str, neuron: tuple[int, ...]
) -> str:
    """Where a wrong value of ``neuron`` comes from: its core, and the first axon there that is not
    fed, or not filled, as circuit and mapping say.
    """
    core, group, local = home_of(images, population, neuron)
    if core < 0:
        return "no core holds it"
    where = f"core {core}, neuron {local} there"
    expected = builder.core(core)
    ports = [port for port in expected.ports if port[_P["group"]] == group]
    if not _equal(images.cores[core], expected):
        return f"{where}: {_first(images.cores[core], expected)}"
    axons = {axon for p in ports for axon in range(p[_P["axon"]], p[_P["axon"]] + p[_P["axons"]])}
    for source in [*range(len(images.cores)), HOST_CORE]:
        made = builder.make_host().outputs if source < 0 else builder.core(source).outputs
        held = images.host.outputs if source < 0 else images.cores[source].outputs
        missing = _unfed(held, made, core)
        if missing:
            axon = next((a for a in missing if a in axons), missing[0])
            sender = "the host" if source < 0 else f"core {source}"
            return f"{where}: axon {axon} gets other messages of {sender} than the mapping says"
    return f"{where}{_misplaced(images, builder, core, group)}"


def _misplaced(images: CoreImages, builder: ImageBuilder, core: int, group: int) -> str:
    """The first axon of a group whose source neuron lies on no core, or on two: images can be as the
    mapping says, and the mapping wrong.
    """
    names = images.names.populations
    for port in builder.layout.ports[core]:
        source = port.projection.src
        if port.group != group or source in {p.name for p in builder.circuit.inputs}:
            continue
        number = [p.name for p in names].index(source)
        shape = names[number].shape
        held = np.zeros(shape, np.int64)
        for tiles in images.cores:
            for row, (start, stop) in zip(tiles.groups, tiles.boxes, strict=True):
                if row[_G["population"]] == number:
                    lead = len(start) - len(shape)
                    held[tuple(map(slice, start[lead:], stop[lead:]))] += 1
        for neuron in np.flatnonzero(held != 1).tolist():
            sources = builder.layout.sources(port)
            flat = neuron // shape[-1] if port.positional else neuron
            at = int(np.searchsorted(sources, flat))
            if at < len(sources) and sources[at] == flat:
                index = [int(i) for i in np.unravel_index(neuron, shape)]
                times = int(held.reshape(-1)[neuron])
                return f": axon {port.axon + at} is of neuron {index} of '{source}', which lies on {times} cores"
    return ""


def _unfed(held: Outputs, made: Outputs, core: int) -> list[int]:
    """Axons of ``core`` that lists name in another way."""

    def named(outputs: Outputs) -> np.ndarray:
        count = np.diff(outputs.map_ends, prepend=0)
        sender = np.repeat(np.arange(len(count)), count)
        here = outputs.entry_core == core
        found = [sender[here], outputs.entry_axon[here], outputs.entry_set[here]]
        return np.stack([np.asarray(column, np.int64) for column in found], axis=1)

    a, b = ({tuple(row) for row in named(outputs).tolist()} for outputs in (held, made))
    return sorted(axon for _, axon, _ in a ^ b)


def _equal(a: CoreImage, b: CoreImage) -> bool:
    return all(
        np.array_equal(x, y) for x, y in zip(a.arrays().values(), b.arrays().values(), strict=True)
    )


def _first(core: CoreImage, expected: CoreImage) -> str:
    """What differs first in a core's image."""
    for name in ("place", "groups", "boxes", "bias", "ports", "axon_next"):
        found = _index(getattr(core, name), getattr(expected, name))
        if found is not None:
            what = {"groups": "group", "boxes": "box of group", "ports": "port"}.get(name, name)
            what = {"bias": "bias of neuron", "axon_next": "chain of axon"}.get(name, what)
            return f"{what} {found[0] if found else 0} differs"
    for port in expected.ports:
        axon = _row(core, expected, port)
        if axon is not None:
            return f"axon {axon} has other synapses"
    return _lists(core.outputs, expected.outputs) or "tables are longer"


def _index(a: np.ndarray, b: np.ndarray) -> tuple[int, ...] | None:
    """Index of the first value that differs; None if none does."""
    if a.shape != b.shape:
        return (min(len(a), len(b)),)
    wrong = np.argwhere(a != b)
    return tuple(wrong[0].tolist()) if len(wrong) else None


def _row(core: CoreImage, expected: CoreImage, port: np.ndarray) -> int | None:
    """The first axon of a port whose row differs; of shared kernels the port's first axon."""
    axon, axons, rows = (int(port[_P[name]]) for name in ("axon", "axons", "rows"))
    weights, synapses = int(port[_P["weights"]]), int(port[_P["synapses"]])
    for name in ("weights", "row_ends", "targets", "positions"):
        if getattr(core, name).shape != getattr(expected, name).shape:
            return axon
    if port[_P["kind"]] == DENSE:
        size = int(expected.groups[port[_P["group"]], _G["count"]])
        part = slice(weights, weights + axons * size)
        wrong = np.flatnonzero(core.weights[part] != expected.weights[part])
        return axon + int(wrong[0]) // size if len(wrong) else None
    if port[_P["kind"]] == SPARSE:
        ends = expected.row_ends[rows : rows + axons]
        if (core.row_ends[rows : rows + axons] != ends).any():
            return axon
        count = int(ends[-1]) if axons else 0
        wrong = core.targets[synapses : synapses + count] != expected.targets[synapses:][:count]
        held = 1 if port[_P["shared"]] else count
        if (core.weights[weights : weights + held] != expected.weights[weights:][:held]).any():
            return axon
        first = np.flatnonzero(wrong)
        return axon + int(np.searchsorted(ends, first[0], side="right")) if len(first) else None
    same = np.array_equal(core.positions[rows:][:axons], expected.positions[rows:][:axons])
    later = expected.ports[expected.ports[:, _P["weights"]] > weights, _P["weights"]]
    end = int(later.min()) if len(later) else len(expected.weights)
    same = same and np.array_equal(core.weights[weights:end], expected.weights[weights:end])
    return None if same else axon


def _lists(held: Outputs, made: Outputs) -> str:
    """The first output list that differs; empty if none does."""
    if len(held.map_ends) != len(made.map_ends):
        return f"the output map has {len(held.map_ends):,} entries, not {len(made.map_ends):,}"
    count = np.diff(made.map_ends, prepend=0)
    if np.array_equal(np.diff(held.map_ends, prepend=0), count):
        for name in ("entry_core", "entry_axon", "entry_set"):
            wrong = np.flatnonzero(getattr(held, name) != getattr(made, name))
            if len(wrong):
                at = int(np.searchsorted(made.map_ends, wrong[0], side="right"))
                return f"output list {at} differs (entry {int(wrong[0])})"
        return "" if np.array_equal(held.channel_sets, made.channel_sets) else "channels differ"
    wrong = np.flatnonzero(np.diff(held.map_ends, prepend=0) != count)
    return f"output list {int(wrong[0])} has another length"
