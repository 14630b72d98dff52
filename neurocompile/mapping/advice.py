"""Texts of NC3101, NC3102 and NC3114: what, where, how much against which limit, and ways out.

Fewer weight bits are named only where a recount with them fits (for a packed model: where it
probably would), and a target only where it is one: its cores are enough, or by all lower bounds may
be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from neurocompile.errors import argument
from neurocompile.ir.circuit import Conv2d, Dense, HostInput, Population, Projection
from neurocompile.mapping.grants import Grants
from neurocompile.mapping.resources import LABELS, CostCounter, Usage
from neurocompile.mapping.tile import Tile
from neurocompile.targets import Target, hardware_targets, load_target

__all__ = [
    "does_not_fit_core",
    "exceeds_target",
    "lacks_graded",
    "budget_needs_more_cores",
    "needs_more_cores",
    "sends_too_much",
]

FEWER_BITS = 4


def does_not_fit_core(counter: CostCounter, tile: Tile, usage_of: Callable[[Tile], Usage]) -> str:
    """NC3102: the resource that a single neuron exceeds most, and the projection that takes most of
    it.
    """
    target, population = counter.target, counter.circuit.population[tile.population]
    resource, used, limit = max(
        usage_of(tile).excess(target), key=lambda item: item[1] / max(item[2], 1)
    )
    where = f"layer '{population.layer}'"
    if population.name != population.layer:
        where += f" (population '{population.name}')"
    parts = [(sum(counter.synapses(p, tile)), p) for p in counter.circuit.incoming[population.name]]
    part = ""
    if parts and resource in ("axon_in", "synaptic_memory_words", "total"):
        part = (
            f" Largest part: {_describe(counter, max(parts, key=lambda item: item[0])[1], tile)}."
        )
    sends = resource in ("axon_map", "axon_memory")
    ways = ["reduce its fan-in"] if part else ["give it fewer consumers"] if sends else []
    larger = next(
        (n for n, other in others(counter).items() if not other.usage(tile).excess(other.target)),
        None,
    )
    ways.append(
        f"take a target with larger cores ({argument('target', larger)})"
        if larger
        else "describe a core that holds it (docs/new_target.md)"
    )
    fewer = _with_fewer_bits(counter)
    if (
        fewer is not None
        and part
        and resource != "axon_in"
        and not fewer.usage(tile).excess(target)
    ):
        ways.insert(0, f"use {FEWER_BITS}-bit weights ({argument('weight_bits', FEWER_BITS)})")
    return f"{where} needs {used:,} {LABELS[resource]} on a core for one neuron, {target.name} has {limit:,}.{part} {_sentence(ways)}"


def lacks_graded(counter: CostCounter) -> list[str]:
    """NC3110: the first population of each layer whose graded values other cores would need, on a
    target without such messages.

    Values that the host alone reads are a neuron's state, no message; a constant is a spike in
    every step.
    """
    target, circuit = counter.target, counter.circuit
    lines: list[str] = []
    said: set[str] = set()
    if target.graded:
        return lines
    for population in circuit.populations:
        if population.spiking or not counter.outgoing[population.name] or population.layer in said:
            continue
        if isinstance(population, HostInput):
            graded = not 0 <= population.low <= population.high <= 1
            what = f"is injected as values {population.low}..{population.high}"
        else:
            graded, what = bool(circuit.incoming[population.name]), "sends graded values"
        if graded:
            said.add(population.layer)
            lines.append(
                f"layer '{population.layer}' (population '{population.name}') {what} of up to 24 bits; {target.name} sends "
                f"{target.synapse.payload_bits.value} bit a message. Take a target with graded messages ({argument('target', 'loihi2')}), or "
                "use a model whose layers exchange spikes alone."
            )
    return lines


def sends_too_much(counter: CostCounter, population: Population, rate: float, spikes: float) -> str:
    """NC3111: a neuron's rate against the budget of a core."""
    return (
        f"layer '{population.layer}' (population '{population.name}') sends {rate:.4g} expected messages a step from one neuron, "
        f"a core of {counter.target.name} may send {spikes:.4g} of it. Allow more spikes a core (`budget`), or train for a lower rate."
    )


def exceeds_target(counter: CostCounter, limit: int) -> list[str]:
    """NC3101 before anything is cut: a line for each resource of which all cores together have too
    little.
    """
    target, short, lines = counter.target, counter.shortages(), []
    fewer = _with_fewer_bits(counter)
    narrow = fewer.shortages() if fewer is not None else short
    most_cores = max((cores for _, cores in short.values()), default=0)
    for resource, (need, cores) in short.items():
        if cores > limit:
            layer, most = counter.largest_layer(resource)
            lines.append(
                f"model '{counter.circuit.name}' needs {need:,} {LABELS[resource]}, so at least {cores:,} cores; "
                f"{_available(counter, limit)} with {target.capacity[resource]:,} each. Largest: layer "
                f"'{layer}' with {most:,}. "
                f"{_model_ways(counter, most_cores, limit, narrow[resource][1] <= limit)}"
            )
    return lines


def needs_more_cores(
    counter: CostCounter, parts: Mapping[str, list[tuple[Tile, Usage]]], cores: int, limit: int
) -> str:
    """NC3101 after packing: how many cores, and the layers that take most of them."""
    capacity, by_layer = counter.target.capacity, dict[str, float]()
    for name, tiles in parts.items():
        layer = counter.circuit.population[name].layer
        for _, usage in tiles:
            by_layer[layer] = by_layer.get(layer, 0.0) + counter.fill(usage)
    largest = sorted(by_layer, key=lambda layer: -by_layer[layer])[:3]
    fewer = _with_fewer_bits(counter)
    resource = "total" if "total" in capacity else "synaptic_memory_words"
    saved = (
        fewer.shortages()[resource][0] / counter.shortages()[resource][0]
        if fewer is not None
        else 1.0
    )
    listed = ", ".join(f"'{layer}' ({by_layer[layer]:.1f} cores)" for layer in largest)
    return (
        f"model '{counter.circuit.name}' needs {cores:,} cores; {_available(counter, limit)}. "
        f"Largest layers: {listed}. {_model_ways(counter, cores, limit, saved * cores <= limit)}"
    )


def budget_needs_more_cores(
    counter: CostCounter,
    cores: int,
    limit: int,
    rates: Mapping[str, float],
    spikes: Grants,
    enough: float | None,
) -> str:
    """NC3114: a budget that spreads a model over more cores than there are, which fits without it
    or not.

    Args:
        counter: of the model.
        cores: that the budget needs.
        limit: cores that may be used.
        rates: population -> mean probability that a neuron sends in a step.
        spikes: messages that the budget grants a core in a step.
        enough: a multiple of the budget that was found to fit; None if none was.
    """
    bound = max((need for _, need in counter.shortages().values()), default=0)
    ways = [f"allow a core {enough:g} times as many messages, which fit"] if enough else []
    capped = limit < counter.target.cores
    if capped and cores <= counter.target.cores:
        ways.append(f"raise `max_cores` (to {cores:,})")
    elif (larger := _with_cores(counter, cores)) is not None:
        ways.append(
            f"take a target with more such cores ({argument('target', larger)}){' without `max_cores`' if capped else ''}"
        )
    ways.append("leave out `budget`")
    if len(ways) < 2:
        ways.append("train for a lower rate")
    return (
        f"the budget (`budget`) grants a core {_grants_text(counter, rates, spikes)}, so that model '{counter.circuit.name}' needs {cores:,} "
        f"cores; {_available(counter, limit)}, {cores - limit:,} fewer. Its resources alone need at least {bound:,}: the budget is the "
        f"cause, not the target. {_sentence(ways)}"
    )


def _grants_text(counter: CostCounter, rates: Mapping[str, float], spikes: Grants) -> str:
    """What a core is granted; by layer, of those that it spreads over most cores."""
    if not isinstance(spikes, Mapping):
        return f"{spikes:,.4g} messages a step"
    sent: dict[str, float] = {}
    for p in counter.on_chip:
        sent[p.layer] = sent.get(p.layer, 0.0) + rates.get(p.name, 1.0) * p.size
    spread = {layer: sent.get(layer, 0.0) / max(most, 1e-300) for layer, most in spikes.items()}
    worst = sorted(spread, key=lambda layer: -spread[layer])[:3]
    listed = ", ".join(
        f"{spikes[layer]:,.3g} of layer '{layer}' (which sends {sent.get(layer, 0.0):,.3g})"
        for layer in worst
    )
    return f"its share of each layer's messages, a step at most {listed}"


def others(counter: CostCounter) -> dict[str, CostCounter]:
    """Costs of the same circuit on the shipped chips and boards that can run it, by name, the
    smallest first.
    """
    if counter.others is None:
        counter.others = {}
        for name in hardware_targets():
            other = CostCounter(counter.circuit, load_target(name))
            if name != counter.target.name and not lacks_graded(other):
                counter.others[name] = other
    return counter.others


def _with_cores(counter: CostCounter, cores: int) -> str | None:
    """The smallest target of at least so many cores of the same kind."""
    alike = {
        name: other.target
        for name, other in others(counter).items()
        if _core(other.target) == _core(counter.target)
    }
    return next((name for name, target in alike.items() if target.cores >= cores), None)


def _core(target: Target) -> tuple[object, ...]:
    """What a core holds and how connections are counted, whoever said so."""
    cost = target.cost
    return (
        target.capacity,
        type(cost),
        *(getattr(cost, name).value for name in cost.__struct_fields__),
    )


def _larger_target(counter: CostCounter, cores: int) -> str | None:
    """A target that holds the model by its lower bounds: of the same cores if one has enough, else
    of any.
    """
    found = _with_cores(counter, cores)
    if found is not None:
        return found
    for name, other in others(counter).items():
        if (
            _core(other.target) != _core(counter.target)
            and max(need for _, need in other.shortages().values()) <= other.target.cores
        ):
            return name
    return None


def _available(counter: CostCounter, limit: int) -> str:
    target = counter.target
    return (
        f"{target.name} has {limit:,}"
        if limit >= target.cores
        else f"`max_cores` allows {limit:,} of {target.name}"
    )


def _model_ways(counter: CostCounter, cores: int, limit: int, fewer_bits_help: bool) -> str:
    ways = ["use a smaller model (fewer tokens, channels or blocks)"]
    capped, enough = limit < counter.target.cores, cores <= counter.target.cores
    larger = None if capped and enough else _larger_target(counter, cores)
    if larger is not None:
        ways.insert(
            0,
            f"take a larger target ({argument('target', larger)}){' without `max_cores`' if capped else ''}",
        )
    if fewer_bits_help:
        ways.insert(0, f"use {FEWER_BITS}-bit weights ({argument('weight_bits', FEWER_BITS)})")
    if capped and enough:
        ways.insert(0, f"raise `max_cores` (up to {counter.target.cores:,})")
    if len(ways) < 2:
        ways.append(
            "describe a board of more chips (docs/new_target.md): none that is shipped has enough cores"
        )
    return _sentence(ways)


def _with_fewer_bits(counter: CostCounter) -> CostCounter | None:
    """Costs at 4-bit weights; None if there are no wider weights."""
    projections = counter.circuit.projections
    if all(p.weight_bits <= FEWER_BITS for p in projections if isinstance(p, (Dense, Conv2d))):
        return None
    narrow = tuple(replace(p, weight_bits=min(p.weight_bits, FEWER_BITS)) for p in projections)
    return CostCounter(counter.circuit.replace(projections=narrow), counter.target)


def _describe(counter: CostCounter, projection: Projection, tile: Tile) -> str:
    circuit = counter.circuit
    if isinstance(projection, Dense):
        inputs = circuit.population[projection.src].size
        return f"{inputs:,} x {tile.size:,} weights at {projection.weight_bits} bits of '{projection.name}'"
    if isinstance(projection, Conv2d):
        _, height, width, channels = circuit.tensors[projection.weight].shape
        return f"{height} x {width} x {channels:,} kernels at {projection.weight_bits} bits of '{projection.name}'"
    return f"{counter.synapses(projection, tile)[0]:,} inputs of '{projection.name}'"


def _sentence(ways: list[str]) -> str:
    text = f"{', '.join(ways[:-1])}, or {ways[-1]}."
    return text[0].upper() + text[1:]
