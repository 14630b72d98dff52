"""NC3113: what a circuit asks of the fields of neurons, synapses and messages, against what the
target's fields hold.

A target's file may have narrower fields than Loihi 2, for which circuits are made. Nothing is
wrapped or clipped silently: whatever leaves a field is said, a line for each layer and field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from neurocompile.errors import argument
from neurocompile.ir.circuit import LIF, CircuitGraph, HostInput, Population
from neurocompile.ir.circuit_ranges import Reach, reaches
from neurocompile.ir.fields import ALL, INSTANT, STATE_BITS
from neurocompile.targets import hardware_targets, load_target
from neurocompile.targets.schema import Target

__all__ = ["exceeded_fields"]

WIDEST = STATE_BITS
"""Bits of state and payload of which everything is proven to fit: the circuit's own arithmetic."""


class Use(NamedTuple):
    """What something of a population takes of a field."""

    population: Population
    where: str
    """Which part, if it is not the population."""
    field: str
    low: int
    high: int


class Field(NamedTuple):
    """A field of the target: its limits, its name in the file, and what makes a model take less of
    it.
    """

    path: str
    limits: Callable[[Target], tuple[int, int]]
    way: str
    counted: bool = False
    """Whether the field is told by its size, in bits or steps, and not by its values."""


def _most(path: str, of: Callable[[Target], int], way: str) -> Field:
    return Field(path, lambda target: (0, of(target)), way, True)


_SCALE = "train the layer for a smaller {} beside its weights"
_BITS = "give fewer weight bits (`weight_bits={}`)"
FIELDS = {
    "threshold": Field(
        "neuron.threshold", lambda t: t.neuron.threshold.value, _SCALE.format("threshold")
    ),
    "bias mantissa": Field(
        "neuron.bias_mantissa", lambda t: t.neuron.bias_mantissa.value, _SCALE.format("bias")
    ),
    "bias exponent": Field(
        "neuron.bias_exponent", lambda t: t.neuron.bias_exponent.value, _SCALE.format("bias")
    ),
    "voltage decay": Field(
        "neuron.voltage_decay", lambda t: t.neuron.voltage_decay.value, "train it with another tau"
    ),
    "current decay": Field(
        "neuron.current_decay", lambda t: t.neuron.current_decay.value, "train it with another tau"
    ),
    "bits of state": _most(
        "neuron.state_bits",
        lambda t: t.neuron.state_bits.value,
        "use fewer inputs a neuron, or fewer steps (--T)",
    ),
    "weight bits": _most("synapse.weight_bits", lambda t: t.synapse.weight_bits.high, _BITS),
    "weight exponent": Field(
        "synapse.weight_exponent",
        lambda t: t.synapse.weight_exponent.value,
        "bring its layers to one scale",
    ),
    "bits of a message": _most(
        "synapse.payload_bits",
        lambda t: t.synapse.payload_bits.value,
        "use fewer inputs a neuron, or coarser ones",
    ),
    "steps of delay": _most(
        "delay.max_spike_delay",
        lambda t: t.delay.max_spike_delay.value,
        "compile it again for this target",
    ),
}


def exceeded_fields(circuit: CircuitGraph, target: Target) -> list[str]:
    """A line for each layer and field that the target's is too narrow for, with the part that
    leaves it farthest.
    """
    worst: dict[tuple[str, str], tuple[int, Use]] = {}
    for use in _uses(circuit, target):
        low, high = FIELDS[use.field].limits(target)
        excess, key = max(low - use.low, use.high - high), (use.population.layer, use.field)
        if excess > 0 and excess > worst.get(key, (0, use))[0]:
            worst[key] = excess, use
    return [_line(use, target) for _, use in worst.values()]


def _uses(circuit: CircuitGraph, target: Target) -> Iterator[Use]:
    narrow = target.neuron.state_bits.value < WIDEST or (
        target.graded and target.synapse.payload_bits.value < WIDEST
    )
    reach = reaches(circuit) if narrow else {}
    read = {q.src for q in circuit.projections}
    for p in circuit.populations:
        if isinstance(p, LIF):
            yield Use(p, "", "threshold", p.vth, p.vth)
            yield Use(p, "", "voltage decay", *(2 * [p.dv - (p.dv == ALL)]))
            yield Use(p, "", "current decay", p.du, p.du)
            if p.bias is not None:
                bias = circuit.tensors[p.bias]
                yield Use(
                    p, "", "bias mantissa", int(bias.min(initial=0)), int(bias.max(initial=0))
                )
                yield Use(p, "", "bias exponent", p.bias_exp, p.bias_exp)
        if p.name in reach:
            bits = _state_bits(circuit, p, reach[p.name])
            if not isinstance(p, HostInput):
                yield Use(p, "", "bits of state", 0, bits)
            if not p.spiking and p.name in read and target.graded:
                yield Use(p, "", "bits of a message", 0, bits)
    for q in circuit.projections:
        dst, where = circuit.population[q.dst], f"projection '{q.name}'"
        yield Use(dst, where, "weight bits", 0, q.weight_bits)
        yield Use(dst, where, "weight exponent", q.weight_exp, q.weight_exp)
        yield Use(dst, where, "steps of delay", 0, q.delay)


def _state_bits(circuit: CircuitGraph, p: Population, reach: Reach) -> int:
    """Bits of the largest value that a population holds, sign included; of a LIF, of current and
    voltage.
    """
    if isinstance(p, HostInput):
        low, high = p.low, p.high
    elif isinstance(p, LIF):
        low, high = _lowest(circuit, p, reach.low), max(reach.membrane, p.vth << 6, reach.high << 6)
    else:
        low, high = reach.low, reach.high
    bits = max(-low - 1, high, 0).bit_length()
    return bits if low >= 0 and high <= 1 else min(bits + 1, WIDEST)


def _lowest(circuit: CircuitGraph, p: LIF, low: int) -> int:
    """A lower bound of current and voltage."""
    bias = 0 if p.bias is None else min(int(circuit.tensors[p.bias].min()), 0) << p.bias_exp
    u = v = least = 0
    for _ in range(max(circuit.period, circuit.steps) if p.reset else 1 << 12):
        u = -(-u * (INSTANT - p.du) >> 12) + (low << 6)
        v, before = max(-(-v * (ALL - p.dv) >> 12) + u + bias, 1 - (1 << (WIDEST - 1))), v
        least = min(least, u, v)
        if v == before:
            break
    return least


def _line(use: Use, target: Target) -> str:
    field = FIELDS[use.field]
    low, high = field.limits(target)
    where = f"layer '{use.population.layer}'"
    if use.population.name != use.population.layer:
        where += f" (population '{use.population.name}')"
    need = f"{use.low:,}..{use.high:,}" if use.low and use.low != use.high else f"{use.high:,}"
    others = [name for name in hardware_targets() if _holds(use, field.limits(load_target(name)))]
    ways = [field.way.format(high)] if use.field != "weight bits" or high >= 2 else []
    ways += (
        [f"take a target whose field holds it ({argument('target', others[0])})"] if others else []
    )
    ways += [f"widen {field.path} if the hardware has more"] if len(ways) < 2 else []
    text = ", or ".join(ways)
    part = f", {use.where}," if use.where else ""
    limit = f"{high:,}" if not low else f"{low:,}..{high:,}"
    needs = f"needs {need} {use.field}" if field.counted else f"needs a {use.field} of {need}"
    return (
        f"{where}{part} {needs}; {target.name} has {limit} ({field.path}). "
        f"{text[0].upper()}{text[1:]}."
    )


def _holds(use: Use, limits: tuple[int, int]) -> bool:
    return limits[0] <= use.low and use.high <= limits[1]
