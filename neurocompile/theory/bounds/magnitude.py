"""How large a value can be, whatever the input and the number of steps: for the network of ramps as
for that of spikes.
"""

from __future__ import annotations

from neurocompile.ir import spiking as s
from neurocompile.ir.bounds import intervals

__all__ = ["magnitudes"]


def magnitudes(graph: s.SpikingGraph) -> dict[str, float | None]:
    """Largest absolute value of each value; None for what grows with a real input."""
    found = intervals(graph).items()
    return {name: None if i is None else float(i.magnitude) for name, i in found}
