"""A budget of spikes as one more capacity of a core: what was asked for, what it grants each layer,
and the mapping that keeps it.

How large a budget is follows from the theory (:mod:`neurocompile.theory.measure.budget`); here it is
plain data, kept in an artifact's manifest.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from neurocompile.errors import NeurocompileError, ViolationList, argument
from neurocompile.ir import circuit as c
from neurocompile.mapping.grants import parts_used
from neurocompile.mapping.mapping import Mapping as Placement
from neurocompile.parameters import LARGEST
from neurocompile.targets.schema import Target

__all__ = ["BudgetRequest", "CoreLoad", "LayerShare", "SpikeBudget", "apply_budget", "parse_budget"]


@dataclass(frozen=True)
class BudgetRequest:
    """What the user asked for: ``epsilon`` or ``spikes`` (an inference), and what is known better
    than measured.
    """

    epsilon: float | None = None
    spikes: float | None = None
    constant: float = 1.0
    lipschitz: float | None = None
    dimension: float | None = None

    @property
    def text(self) -> str:
        """As written on the command line, in one order."""
        found = {
            k: getattr(self, k) for k in ("epsilon", "spikes", "constant", "lipschitz", "dimension")
        }
        return ",".join(
            f"{k}={v:.9g}"
            for k, v in found.items()
            if v is not None and (k, v) != ("constant", 1.0)
        )


class LayerShare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A layer's part of a budget. Spikes are per inference."""

    layer: str
    n: int
    """Tokens: positions of the layer's array."""
    d: int
    """Channels."""
    sensitivity: float
    """D: distance of the logits per unit of distance of the layer's rates (measured)."""
    share: float
    spikes: float
    """The budget."""
    expected: float
    """Spikes of the layer: measured, or expected from its rate."""
    granted: float = 0.0
    """Messages: the budget with what helps the layer (gates, relays)."""
    per_core_step: float = 0.0
    """Messages in a step that a core may send which holds nothing but this layer; 0 for no limit:
    nothing depends on the layer, or it is not expected to spike.
    """

    @property
    def excess(self) -> float:
        """Spikes above the budget; negative where there is room."""
        return self.expected - self.spikes


class CoreLoad(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A core that holds other tiles than any core of the mapping without a budget."""

    core: int
    layers: tuple[str, ...]
    messages: float
    """Expected in a step."""
    part: float = 0.0
    """Of what the shares of its layers grant it."""


class SpikeBudget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A budget and what it did. Spikes and messages are per inference unless a name says otherwise."""

    text: str
    total: float
    basis: str
    epsilon: float | None
    constant: float
    lipschitz: float | None
    dimension: float | None
    layers: tuple[LayerShare, ...]
    messages: float
    """The budget with what helps the layers."""
    cores_without: int
    per_core_step: float
    """Messages in a step of the whole budget, over the cores; what a core may send of each layer is
    that layer's ``per_core_step``.
    """
    moved: tuple[CoreLoad, ...] = ()
    binds: bool = True
    """Whether any core of the mapping without the budget sends more than it grants."""
    messages_fixed: float = 0.0
    """Of ``messages``, those that do not grow with the budget: of the readout, and of what helps
    layers that are not expected to spike.
    """
    held_out: int = 0
    """Samples beside those that the rates were measured on, whose messages were counted; 0 for none."""
    held_out_most: float = 0.0
    """Messages that the core sends in a step of these, on average, that sends most of its grant."""
    held_out_core: int = 0
    """That core."""
    held_out_part: float = 0.0
    """Of what its layers grant it; above 1 it exceeds the budget."""

    @property
    def exceeding(self) -> tuple[LayerShare, ...]:
        """Layers that are expected to spike more than their share, worst first."""
        return tuple(sorted((s for s in self.layers if s.excess > 0), key=lambda s: -s.excess))


def parse_budget(text: str) -> BudgetRequest:
    """``epsilon=E`` or ``spikes=N``, then ``constant=``, ``lipschitz=``, ``dimension=``, separated
    by commas; NC8008.
    """
    known = ("epsilon", "spikes", "constant", "lipschitz", "dimension")
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        name = name.strip()
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if name not in known or name in found or not 1 / LARGEST <= number <= LARGEST:
            raise NeurocompileError(
                "NC8008",
                f"'{part.strip()}' in `budget` '{text}'; give epsilon=E or spikes=N, and if known constant=C, "
                f"lipschitz=L, dimension=D, each once, from {1 / LARGEST:g} to {LARGEST:g}",
            )
        found[name] = number
    if ("epsilon" in found) == ("spikes" in found):
        raise NeurocompileError(
            "NC8008", f"`budget` '{text}' gives both or none of epsilon=E and spikes=N; give one"
        )
    return BudgetRequest(**found)


def apply_budget(
    budget: SpikeBudget,
    circuit: c.CircuitGraph,
    rates: Mapping[str, float],
    before: Placement,
    target: Target,
    map_again: Callable[..., Placement],
) -> tuple[SpikeBudget, Placement]:
    """Map again with each layer's share as a capacity: the budget with the cores that it moved, and
    the mapping. Where no core exceeds it, the mapping without it stays, and the budget says so.

    Args:
        before: the mapping without it, on ``target``.
        map_again: ``map_circuit`` with all other arguments bound; takes ``spikes_per_core_step``.

    Raises NC8009 if this mapper knows no such capacity, and whatever ``map_circuit`` raises where
    it cannot be kept.
    """
    if not _takes_budget(map_again):
        raise NeurocompileError(
            "NC8009",
            "this build's mapper has no capacity for spikes per core and step; leave out `budget`",
        )
    grants = _grants(budget, circuit, before, target)
    budget = msgspec.structs.replace(
        budget,
        layers=tuple(
            msgspec.structs.replace(share, per_core_step=grants.get(share.layer, 0.0))
            for share in budget.layers
        ),
    )
    used = parts_used(circuit, (core.tiles for core in before.cores), rates, grants)
    if used.max(initial=0.0) <= 1:  # then it asks for nothing
        kept = msgspec.structs.replace(before, spikes_per_core_step=grants)
        return msgspec.structs.replace(budget, binds=False), kept
    try:
        after = map_again(spikes_per_core_step=grants)
    except NeurocompileError as error:
        raise _with_a_budget_that_fits(error, budget) from error
    known = {frozenset(core.tiles) for core in before.cores}
    used = parts_used(circuit, (core.tiles for core in after.cores), rates, grants)
    moved = []
    for i, core in enumerate(after.cores):
        if frozenset(core.tiles) not in known:
            layers = tuple(
                dict.fromkeys(circuit.population[tile.population].layer for tile in core.tiles)
            )
            sent = sum(rates.get(t.population, 1.0) * t.size for t in core.tiles)
            moved.append(CoreLoad(i, layers, sent, float(used[i])))
    return msgspec.structs.replace(budget, moved=tuple(moved)), after


def _grants(
    budget: SpikeBudget, circuit: c.CircuitGraph, before: Placement, target: Target
) -> dict[str, float]:
    """Layer -> messages in a step of a core that it fills: its share over the cores that it fills
    without a budget. So a layer that sends twice its share comes to fill half of each core.
    """
    filled: dict[str, float] = {}
    for core in before.cores:
        full = max(
            (getattr(core.used, name) / most for name, most in target.capacity.items() if most),
            default=1.0,
        )
        neurons = sum(tile.size for tile in core.tiles)
        for tile in core.tiles:
            layer = circuit.population[tile.population].layer
            filled[layer] = filled.get(layer, 0.0) + full * tile.size / neurons
    return {
        share.layer: float(f"{share.granted / (circuit.sample_steps * filled[share.layer]):.9g}")
        for share in budget.layers
        if share.granted > 0 and filled.get(share.layer, 0.0) > 0
    }


def _with_a_budget_that_fits(error: NeurocompileError, budget: SpikeBudget) -> NeurocompileError:
    """NC3114 and NC3111 know a multiple of the grants that fits; each is in proportion to the
    budget, so here follows the ``--budget`` that grants them.
    """
    times = (error.details or [{}])[0].get("messages_times")
    if error.code not in ("NC3111", "NC3114") or not isinstance(times, float):
        return error
    factor = times * (1 + 1e-6)
    if budget.epsilon is None:
        wish = f"spikes={_upwards(budget.total * factor):.12g}"
    else:
        wish = f"epsilon={_downwards(budget.epsilon / math.sqrt(factor)):.12g}"
    messages = error.messages if isinstance(error, ViolationList) else (error.message,)
    advice = f"{messages[-1]} {argument('budget', wish)} grants that."
    found = ViolationList(error.code, [*messages[:-1], advice])
    found.details = error.details
    return found


def _upwards(value: float) -> float:
    """The next number with three digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit) * unit


def _downwards(value: float) -> float:
    """The last number with three digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.floor(value / unit) * unit


def _takes_budget(function: Any) -> bool:
    return "spikes_per_core_step" in inspect.signature(function).parameters
