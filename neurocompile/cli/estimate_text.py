"""The text of ``build --estimate-only``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurocompile.mapping.estimate import Estimate

__all__ = ["estimate_text"]


def estimate_text(e: Estimate) -> Iterator[Any]:
    """Lower bounds by resource, then what rules the model out, one line each."""
    from neurocompile.cli.tables import table

    yield f"{e.circuit} on {e.target}: {e.neurons:,} neurons, at least {e.cores_at_least:,} of {e.cores_available:,} cores\n"
    rows = [
        (
            need.label,
            f"{need.needed:,}",
            f"{need.per_core:,}",
            f"{need.cores:,}",
            f"{need.largest}: {need.largest_needed:,}",
        )
        for need in e.needs
    ]
    yield table(("resource", ">needed", ">a core has", ">cores at least", "largest layer"), rows)
    if e.folds:
        from neurocompile.cli.fold_text import fold_table

        yield f"\nunrolled it does not fit ({len(e.violations)}); folded in time, at least:"
        yield fold_table(e.folds, e.cores_available)
    if e.fits and not e.folds:
        yield "\nnothing rules it out; lower bounds: cutting a layer adds to what it needs, and a mapping may take more cores"
    if not e.fits:
        yield f"\ndoes not fit ({len(e.violations)}):"
        for code, text in e.violations:
            yield f"{code} {text}"
