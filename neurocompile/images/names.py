"""What the numbers in core images stand for, and the frame they run in."""

from __future__ import annotations

from math import prod

from msgspec import Struct

from neurocompile.ir.circuit import CircuitGraph, HostInput
from neurocompile.mapping.mapping import Mapping
from neurocompile.targets.schema import Target

__all__ = ["FORMAT", "InputName", "Names", "PopulationName", "names_of"]

FORMAT = 1
"""Version of the format."""


class PopulationName(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A population: its array, and the global step at which its first sample begins."""

    name: str
    layer: str
    shape: tuple[int, ...]
    depth: int
    spiking: bool

    @property
    def size(self) -> int:
        """Number of neurons."""
        return prod(self.shape)


class InputName(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A population that the host drives: what it sends (:class:`neurocompile.ir.circuit.HostInput`)."""

    low: int
    high: int
    stepwise: bool
    sample_shape: tuple[int, ...]
    places: str | None
    pattern: str | None


class Names(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Names, shapes and times."""

    format: int
    circuit: str
    target: str
    cores: int
    steps: int
    period: int
    windows: int
    latency: int
    """Steps from the input of a sample to its last output."""
    input_shape: tuple[int, ...]
    populations: tuple[PopulationName, ...]
    projections: tuple[str, ...]
    kinds: tuple[str, ...]
    """What each projection is in the circuit: Dense, Conv2d or Strided."""
    sources: tuple[int, ...]
    """Population that each projection reads."""
    inputs: tuple[InputName, ...]
    layouts: dict[str, str]
    """Where the size of a table follows no published figure: what is assumed."""


_ASSUMED = {
    "rows": {
        "dense": "a row an axon, floor(n (bits + 12) / 64) + 1 words (published tables, exact)",
        "sparse": "assumed: the row of a dense port with the row's own synapses",
        "kernel": "assumed: an axon a position (published tables show 2 a tile), kernels once a port",
        "lists": "derived: an entry a destination core of neurons with two or more",
        "message": "assumed: one message a core, whatever the ports that read it there",
    },
    "blocks": {
        "dense": "blocks of at most 64 synapses after a header (Davies 2018)",
        "sparse": "assumed: the same blocks with an address a synapse",
        "kernel": "assumed: kernels are unrolled into sparse rows",
        "lists": "an entry a destination core",
        "message": "assumed: one message a core, whatever the ports that read it there",
    },
}


def names_of(circuit: CircuitGraph, target: Target, mapping: Mapping) -> Names:
    """Of a scheduled circuit and its mapping."""
    number = {p.name: i for i, p in enumerate(circuit.populations)}
    model = "rows" if type(target.cost).__name__ == "RowCost" else "blocks"
    return Names(
        format=FORMAT,
        circuit=circuit.name,
        target=target.name,
        cores=len(mapping.cores),
        steps=circuit.steps,
        period=circuit.period,
        windows=circuit.windows,
        latency=circuit.latency,
        input_shape=circuit.input_shape,
        populations=tuple(
            PopulationName(
                name=p.name, layer=p.layer, shape=p.shape, depth=p.depth, spiking=p.spiking
            )
            for p in circuit.populations
        ),
        projections=tuple(q.name for q in circuit.projections),
        kinds=tuple(type(q).__name__ for q in circuit.projections),
        sources=tuple(number[q.src] for q in circuit.projections),
        inputs=tuple(
            InputName(
                low=h.low,
                high=h.high,
                stepwise=h.stepwise,
                sample_shape=h.sample_shape,
                places=None if h.places is None else str(h.places),
                pattern=None if h.pattern is None else str(h.pattern),
            )
            for h in circuit.inputs
            if isinstance(h, HostInput)
        ),
        layouts=_ASSUMED[model],
    )
