"""What quantization lost, in a few lines: the layers that say something, the worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurocompile.precision import LayerReport

__all__ = ["precision_text"]

_SHOWN = 6
"""Layers in the text; all are in --json."""
_ALIKE = 0.99
"""Agreement from which a layer is not named for it."""


def precision_text(layers: Sequence[LayerReport]) -> Iterator[Any]:
    """A table of the layers that lost bits, never or always fire, or differ from the float model;
    nothing where all is well.
    """
    from neurocompile.cli.tables import table

    marked = [r for r in layers if r.remarks]
    apart = [
        r for r in layers if r.agreement is not None and r.agreement < _ALIKE and not r.remarks
    ]
    named = [*marked[:_SHOWN], *apart[: max(_SHOWN - len(marked), 1)]]
    if not named:
        return
    rest = len(marked) + len(apart) - len(named)
    yield "\nlayers to look at" + (f" ({rest} more in --json)" if rest else "")
    yield table(
        ("layer", ">equal spikes", "remark"),
        [
            (
                r.layer,
                "" if r.agreement is None else f"{r.agreement:.2%}",
                ", ".join((*r.remarks, *([f"{r.scales} scales"] if r.scales > 1 else []))),
            )
            for r in named
        ],
    )
