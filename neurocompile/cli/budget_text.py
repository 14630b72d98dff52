"""The section of ``build`` on its spike budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurocompile.mapping.budget import SpikeBudget

__all__ = ["budget_text"]


def budget_text(budget: SpikeBudget, steps: int, cores: int) -> Iterator[Any]:
    """What the budget is, which layers exceed their share, and which cores it moved; ``steps`` of a
    sample, of all its windows.
    """
    from neurocompile.cli.tables import facts, table

    expected = sum(k.expected for k in budget.layers)
    yield f"\nspike budget {budget.text} (a bound of the theory, docs/theory.md; the spikes are expected)"
    yield facts(
        [
            (
                "budget",
                f"{budget.total:,.0f}" if budget.total >= 100 else f"{budget.total:.4g}",
                f"spikes per inference of the layers: {budget.basis}",
            ),
            ("expected", f"{expected:,.0f}", f"{expected / budget.total:.3g} times the budget"),
            (
                "per core and step",
                f"{budget.per_core_step:,.1f}",
                f"messages: the budget with gates and relays, over {steps:,} steps and the {budget.cores_without} cores taken without it; "
                "a core keeps the share of each of its layers",
            ),
            (
                "cores",
                f"{cores:,}",
                f"{budget.cores_without:,} without the budget; {len(budget.moved):,} hold other tiles than before",
            ),
        ]
    )
    if budget.held_out:
        part = budget.held_out_part
        yield (
            f"counted on {budget.held_out} held-out samples, core {budget.held_out_core} sends most of its budget: "
            f"{budget.held_out_most:,.1f} messages a step, {part:.3g} of it, {'EXCEEDS' if part > 1 else 'keeps'} it"
        )
    if not budget.binds:
        yield "the budget does not bind: no core of the mapping without it sends more; the mapping is that one"
    if budget.exceeding:
        yield f"\n{len(budget.exceeding)} of {len(budget.layers)} layers exceed their share"
        yield table(
            ("layer", ">share", ">budget", ">expected", ">excess", ">times", ">a core and step"),
            [
                (
                    k.layer,
                    f"{k.share:.2%}",
                    f"{k.spikes:,.1f}",
                    f"{k.expected:,.1f}",
                    f"{k.excess:+,.1f}",
                    f"{k.expected / k.spikes:.3g}" if k.spikes > 0 else "inf",
                    f"{k.per_core_step:,.1f}" if k.per_core_step else "",
                )
                for k in budget.exceeding
            ],
        )
    else:
        yield "every layer keeps its share"
    if budget.moved:
        yield "\ncores that the budget moved"
        yield table(
            (">core", ">messages a step", ">of its budget", "layers"),
            [
                (m.core, f"{m.messages:,.1f}", f"{m.part:.0%}", ", ".join(m.layers))
                for m in budget.moved
            ],
        )
