"""Results of a parity check: exact half (integers against backends) and float half (against the
reference).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from neurocompile.frames import bars, data_frame

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

__all__ = [
    "BackendParity",
    "Difference",
    "FloatParity",
    "HeadParity",
    "LayerParity",
    "ParityReport",
]


class Difference(msgspec.Struct, frozen=True):
    """The first value that differs: of ``sample`` and ``step``, at ``neuron`` (indices into the
    layer or population).
    """

    layer: str
    population: str
    sample: int
    step: int
    neuron: tuple[int, ...]
    expected: int
    found: int
    where: str = ""
    """Of core images: core, neuron of the core and axon that it comes from."""

    def __str__(self) -> str:
        where = f"layer '{self.layer}'"
        if self.population != self.layer:
            where += f", population '{self.population}'"
        return (
            f"{where}, neuron {list(self.neuron)}, sample {self.sample}, step {self.step}: "
            f"expected {self.expected}, found {self.found}"
            + (f" ({self.where})" if self.where else "")
        )


class BackendParity(msgspec.Struct, frozen=True):
    """One backend against ``expected`` (what it was compared with), over ``samples`` samples."""

    backend: str
    banner: str
    expected: str
    samples: int
    populations: int
    values: int
    differences: int
    first: Difference | None
    seconds: float


class LayerParity(msgspec.Struct, frozen=True):
    """Share of equal spikes of a layer, and its spike rates."""

    layer: str
    agreement: float
    rate_reference: float
    rate_quantized: float

    @property
    def rate_error(self) -> float:
        """Quantized minus reference."""
        return self.rate_quantized - self.rate_reference


class HeadParity(msgspec.Struct, frozen=True):
    """One output; ``shape`` is that of a sample."""

    name: str
    shape: list[int]
    output_error: float
    """Root mean square of the differences, over that of the float model's outputs."""
    same_predictions: float | None
    """Share of samples of one predicted class; None for what is no classification."""


class FloatParity(msgspec.Struct, frozen=True):
    """The float model against the quantized one; ``parts`` is the first layer with a different
    spike.
    """

    reference: str
    samples: int
    layers: tuple[LayerParity, ...]
    parts: Difference | None
    same_predictions: float | None
    """Share of samples of one predicted class; None for a model that is no classifier."""
    accuracy_reference: float | None
    accuracy_quantized: float | None
    output_error: float = 0.0
    """Root mean square of the outputs' differences, over that of the float model's outputs."""
    heads: tuple[HeadParity, ...] = ()
    """Every output that the model returns; the figures above are of the first that is classes."""


class ParityReport(msgspec.Struct, frozen=True):
    """Both halves; :attr:`exact` is the verdict."""

    model: str
    T: int
    backends: tuple[BackendParity, ...]
    reference: FloatParity | None
    program: str = ""
    """Fingerprint of the program that was compared
    (:attr:`neurocompile.program.Program.fingerprint`).
    """
    outside: float = 0.0
    """Share of the input's values outside of the calibrated range, which were clipped to it."""
    host: tuple[str, ...] = ()
    """Operators that the host computes behind what is compared: integers are up to there."""

    @property
    def exact(self) -> bool:
        """No backend differs anywhere."""
        return all(b.differences == 0 for b in self.backends)

    def to_pandas(self) -> pandas.DataFrame:
        """A row a layer of the comparison with the float model, the least agreement first; without
        one, a row a backend. NC4001 without pandas.
        """
        if self.reference is None:
            rows = [{**msgspec.to_builtins(b), "first": str(b.first or "")} for b in self.backends]
            return data_frame(rows, "backend")
        worst = sorted(self.reference.layers, key=lambda k: k.agreement)
        rows = [{**msgspec.to_builtins(k), "rate_error": k.rate_error} for k in worst]
        return data_frame(rows, "layer")

    def plot(self) -> Figure:
        """Differing spikes of each layer against the float model, or differing values of each
        backend; NC4001 without matplotlib.
        """
        if self.reference is None:
            counts = [float(b.differences) for b in self.backends]
            names = [b.backend for b in self.backends]
            return bars(f"{self.model}: parity", names, {"": counts}, "values that differ")
        layers = self.reference.layers
        title = f"{self.model} against {self.reference.reference}, T = {self.T}"
        share = {"": [1 - k.agreement for k in layers]}
        return bars(title, [k.layer for k in layers], share, "share of spikes that differ")

    def __repr__(self) -> str:
        parts = ", ".join(f"{b.backend} {b.differences:,} of {b.values:,}" for b in self.backends)
        return (
            f"<ParityReport of {self.model!r}: {'exact' if self.exact else 'NOT exact'}; {parts}>"
        )

    def _repr_html_(self) -> str:
        from neurocompile.notebook import html_table

        rows = [
            (b.backend, b.differences, b.values, b.samples, b.expected, b.banner, b.first or "")
            for b in self.backends
        ]
        head = ("backend", "differences", "values", "samples", "against", "what ran", "first")
        tables = [html_table(f"{self.model}: {'exact' if self.exact else 'NOT exact'}", head, rows)]
        if self.reference is not None:
            layers = [
                (k.layer, k.agreement, k.rate_reference, k.rate_quantized)
                for k in sorted(self.reference.layers, key=lambda k: k.agreement)
            ]
            names = ("layer", "equal spikes", "rate, float", "rate, quantized")
            tables.append(html_table(f"against {self.reference.reference}", names, layers))
        return "".join(tables)
