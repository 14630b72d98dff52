"""Which populations can be one neuron group of a core.

A core of Loihi 2 holds few *neuron groups*. What a group is shows in public models for the chip
(key ``lava-nc-models`` of ``hw_targets/SOURCES.md``): one program with one set of registers
(threshold, decays, reset) that all its neurons read, one table of output axons, and for each neuron
its current, voltage and bias. So neurons of several populations are one group where all of that is
equal, and they lie side by side. What differs from neuron to neuron (bias mantissas, synapses, the
step in which anything arrives) does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

from neurocompile.ir.circuit import LIF, CircuitGraph, Conv2d, HostInput, Population
from neurocompile.mapping.tile import Tile
from neurocompile.targets.schema import Target

__all__ = ["GroupForm", "group_form", "number_groups", "shares_groups", "side_by_side"]


class GroupForm(NamedTuple):
    """All that the neurons of a group have in common; the fields of other kinds than LIF are 0."""

    kind: str
    vth: int
    dv: int
    du: int
    bias_exp: int
    """0 without biases: their mantissas are 0 then."""
    reset_interval: int
    """Steps; 0 for none."""
    reset_phase: int
    """Step, modulo the interval, before which it is reset; 0 before ``schedule``."""
    by_neuron: bool
    """Whether output axons are looked up by neuron."""
    by_position: bool
    """Whether (also) by position."""
    extra: bool
    """Whether it takes a neuron beside its own, as where a convolution drives it on Loihi 2."""


def shares_groups(target: Target) -> bool:
    """Whether populations of one form are one group of a core; where a target's file does not say
    so, each is its own.
    """
    return target.core.shared_groups is not None and target.core.shared_groups.value


def group_form(
    population: Population, period: int, by_neuron: bool, by_position: bool, extra: bool
) -> GroupForm:
    """The form of the groups that a population's neurons are in, of a circuit with ``period``."""
    kind = type(population).__name__
    ends = by_neuron, by_position, extra
    if not isinstance(population, LIF):
        return GroupForm(kind, 0, 0, 0, 0, 0, 0, *ends)
    p = population
    biased = p.bias_exp if p.bias is not None else 0
    phase = p.depth % period if p.reset and period else 0
    return GroupForm(kind, p.vth, p.dv, p.du, biased, period if p.reset else 0, phase, *ends)


def number_groups(
    circuit: CircuitGraph,
    neuronal: Set[str],
    positional: Set[str],
    *,
    extra_neurons: int,
    shared: bool,
) -> dict[str, int]:
    """Population on the chip -> number of its form, from 0 on in the circuit's order.

    Args:
        circuit: scheduled; of one that is not, resets of different depths count as one form, so
            that counts are lower bounds.
        neuronal: names of the populations whose output axons are looked up by neuron.
        positional: and by position.
        extra_neurons: that a group driven by a convolution takes beside its own.
        shared: whether populations of one form are one group; else each has a number of its own.
    """
    numbers: dict[object, int] = {}
    found = {}
    for p in circuit.populations:
        if isinstance(p, HostInput):
            continue
        extra = extra_neurons > 0 and any(isinstance(q, Conv2d) for q in circuit.incoming[p.name])
        ends = p.name in neuronal, p.name in positional, extra
        form = group_form(p, circuit.period, *ends) if shared else p.name
        found[p.name] = numbers.setdefault(form, len(numbers))
    return found


def side_by_side(tiles: Sequence[Tile], group_of: dict[str, int]) -> tuple[Tile, ...]:
    """The tiles of a core with those of each group one after the other, groups in the order of
    their first tiles.
    """
    first: dict[int, int] = {}
    for tile in tiles:
        first.setdefault(group_of[tile.population], len(first))
    return tuple(sorted(tiles, key=lambda tile: first[group_of[tile.population]]))
