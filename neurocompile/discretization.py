"""How the time of a NIR file becomes steps: NIR describes differential equations, and each framework that
writes it takes its own steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neurocompile.errors import NeurocompileError, shown

__all__ = ["EXPORTED", "FRAMEWORKS", "Discretization", "parse_discretization"]

EXPORTED = "euler"
"""How a NIR file of ours is meant."""


class Discretization(NamedTuple):
    """What a step is. ``k`` is the share of a membrane's distance to its input that one step closes."""

    text: str
    dt: float
    """Of the file's time constants."""
    exact: bool = False
    """k = 1 - exp(-dt / tau), and inputs arrive whole; else Euler: k = dt / tau, inputs times k."""
    squared: bool = False
    """Norse writes tau = dt / tau_inv and steps by dt * tau_inv: k = dt * dt / tau."""
    subtract: bool = False
    """A spike takes the threshold from the membrane; else the membrane is set to v_reset."""
    late: bool = False
    """It is taken in the step after, from what the leak left."""
    whole: bool = False
    """A synaptic current takes its input as it is; else Euler's share of it."""

    def share(self, tau: np.ndarray) -> np.ndarray:
        """k of each time constant."""
        if self.exact:
            return 1 - np.exp(-self.dt / tau)
        return self.dt * (self.dt if self.squared else 1.0) / tau


FRAMEWORKS = {
    "euler": Discretization("euler", 1.0),
    "snntorch": Discretization("snntorch", 1e-4, subtract=True, late=True),
    "norse": Discretization("norse", 1e-3, squared=True, whole=True),
    "sinabs": Discretization("sinabs", 1.0, exact=True, subtract=True),
}
"""The steps of those that write NIR, as their exporters and neurons are (docs/import.md)."""


def parse_discretization(text: str | None) -> Discretization | None:
    """``FRAMEWORK[,dt=SECONDS][,reset=zero|subtract]``; NC1015 for anything else."""
    if text is None:
        return None
    name, *parts = (part.strip() for part in str(text).split(","))
    found = FRAMEWORKS.get(name)
    if found is None:
        raise NeurocompileError(
            "NC1015",
            f"discretize is {shown(text)}; {', '.join(FRAMEWORKS)} are possible, then dt=, reset=zero or subtract",
        )
    for part in parts:
        key, _, value = part.partition("=")
        if key == "dt":
            try:
                dt = float(value)
            except ValueError:
                dt = 0.0
            if not 0 < dt < 1e9:
                raise NeurocompileError(
                    "NC1015", f"discretize: dt is {value!r}; seconds are needed"
                )
            found = found._replace(dt=dt)
        elif key == "reset" and value in ("zero", "subtract"):
            found = found._replace(subtract=value == "subtract")
        else:
            raise NeurocompileError(
                "NC1015", f"discretize: {part!r} is neither dt=SECONDS nor reset=zero|subtract"
            )
    return found._replace(text=str(text))
