"""What an artifact says of itself."""

from __future__ import annotations

import msgspec

from neurocompile.mapping.budget import SpikeBudget
from neurocompile.options import BuildOptions

__all__ = ["SCHEMA_VERSION", "Manifest", "Optimized", "Proof"]

SCHEMA_VERSION = 2


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A short run to repeat: ``samples`` pseudo-random inputs of ``seed``, and the SHA-256 of every
    output.
    """

    samples: int
    seed: int
    sha256: str


class Optimized(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mapping refined on counted traffic; values are those of an inference (times: of a step) on the
    same samples.
    """

    objective: str
    """packets, time or energy."""
    unit: str
    samples: int
    profile: str
    """Whose constants price it; "" for packets, which need none."""
    before: float
    after: float
    tried: int
    """Other mappings that were counted."""
    held_out: int = 0
    """Samples beside these on which no mapping that is taken may be worse; 0 where none are left."""
    held_out_before: float = 0.0
    held_out_after: float = 0.0
    held_out_refused: int = 0
    """Mappings that were better on the samples, and worse on the held-out ones."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The artifact's header. ``rates`` are messages a neuron a step, ``rates_source`` is measured
    or modelled.
    """

    schema: int
    tool: str
    model: str
    source_sha256: str
    exported_T: int
    options: BuildOptions
    """What the user asked for, settled."""
    import_agreement: float
    """Share of equal spikes between onnxruntime and the imported graph on one batch."""
    rates: dict[str, float]
    rates_source: str
    proof: Proof
    budget: SpikeBudget | None = None
    """Shares, and what the budget did to the mapping."""
    optimized: Optimized | None = None
    """What refining on counted traffic brought, if it was asked for."""
    members: dict[str, str] = {}
    """SHA-256 of every other member but versions.json."""
