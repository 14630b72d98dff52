"""Folds of a model as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurocompile.mapping.fold_choice import FoldChoice

__all__ = ["fold_table"]


def fold_table(folds: Sequence[FoldChoice], limit: int, chosen: str = "") -> Any:
    """The Pareto front: one line a fold, those that cannot fit marked."""
    from neurocompile.cli.tables import table

    def remark(fold: FoldChoice) -> str:
        if fold.fold == chosen:
            return "taken"
        return "" if fold.cores_at_least <= limit else f"more than {limit:,}"

    rows = [
        (
            f.fold,
            f"{f.steps:,}",
            f"{f.latency:,}",
            f"{f.cores_at_least:,}",
            f"{f.neurons:,}",
            f"{f.host_values:,}",
            f"{f.host_clocks:,}",
            f"{f.messages / 1e6:,.2f}",
            f"{f.packets / 1e6:,.2f}",
            f"{f.operations / 1e6:,.1f}",
            remark(f),
        )
        for f in folds
    ]
    heads = (
        "--fold",
        ">steps a sample",
        ">latency",
        ">cores at least",
        ">neurons",
        ">host values",
        ">of them clocks",
        ">messages, M",
        ">packets, M",
        ">synaptic ops, M",
        "",
    )
    return table(heads, rows)
