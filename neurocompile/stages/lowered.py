"""A circuit, and its way onto cores."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from neurocompile.advice import warn
from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import decode, decode_steps, encode
from neurocompile.build_steps import located
from neurocompile.energy.optimize import held_out_load, optimize_mapping
from neurocompile.guard import guarded
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.manifest import SCHEMA_VERSION, Manifest
from neurocompile.mapping.budget import SpikeBudget, apply_budget, parse_budget
from neurocompile.mapping.mapping import Mapping
from neurocompile.options import BuildOptions
from neurocompile.placing import RATE_SAMPLES, place_model
from neurocompile.program import Program
from neurocompile.proof import make_proof
from neurocompile.stages.kept import placed_once
from neurocompile.stages.stage import Stage
from neurocompile.theory.measure.budget import plan_budget

if TYPE_CHECKING:
    from neurocompile.stages.quantized import Quantized

__all__ = ["Lowered"]


_PROOF_SAMPLES = 2


@dataclass(frozen=True, repr=False)
class Lowered(Stage):
    """A circuit: populations and projections, with depths and delays."""

    name = "lower"
    number = 4

    quantized: Quantized = field(repr=False)
    circuit: CircuitGraph = field(repr=False)
    options: BuildOptions = field(repr=False)

    @property
    def graph(self) -> CircuitGraph:
        return self.circuit

    @guarded
    def logits(self, x: np.ndarray) -> np.ndarray:
        """The same, on the emulator."""
        circuit, host = self.circuit, self.model.host
        with Emulator().open(circuit) as executor:
            trace = executor.run(encode(circuit, self._checked(x)), [circuit.readouts[0].src])
        stepwise = host is not None and host.stepwise
        return self._returned((decode_steps if stepwise else decode)(circuit, trace))

    @guarded
    def spikes(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Spikes of every layer, (samples, steps, *shape), by its name."""
        views = self.circuit.views
        with Emulator().open(self.circuit) as executor:
            sources = list(dict.fromkeys(view.src for view in views))
            trace = executor.run(encode(self.circuit, self._checked(x)), sources)
        return {view.layer: view.read(trace[view.src], self.circuit.windows) for view in views}

    @guarded
    def map(
        self,
        *,
        seed: int | None = None,
        max_cores: int | None = None,
        budget: str | None = None,
        optimize: str | None = None,
    ) -> Program:
        """Placed on cores: the program that ``compile`` returns.

        Args:
            seed, max_cores, budget, optimize: those of the options by default.

        Raises:
            NeurocompileError: ViolationList for what does not fit; NC1006 for ``optimize`` without
                calibration samples.
        """
        given = {"seed": seed, "max_cores": max_cores, "budget": budget, "optimize": optimize}
        options = BuildOptions.of(self.options, {k: v for k, v in given.items() if v is not None})
        timer = self.timer
        done = self.quantized
        with located(self.model):
            what = done.graph, self.circuit, options, self.target, done.statistics
            built = placed_once(
                self.cache,
                *what,
                self.model.samples,
                timer,
                lambda: place_model(*what, self.model.samples, timer),
            )
        options = msgspec.structs.replace(options, fold=built.fold)
        planned, mapping = None, built.mapping
        if options.budget is not None:
            with timer("budget"):
                planned = plan_budget(
                    parse_budget(options.budget),
                    done.graph,
                    built.circuit,
                    built.rates,
                    self.model.samples,
                    mapping.cores_used,
                )
                planned, mapping = apply_budget(
                    planned, built.circuit, built.rates, mapping, self.target, built.place
                )
        samples, optimized = self.model.samples, None
        if options.optimize is not None:
            with timer("optimize"):
                mapping, optimized = optimize_mapping(
                    built.circuit, mapping, self.target, built.rates, samples, options.optimize
                )
        if planned is not None and samples is not None and len(samples) > RATE_SAMPLES:
            with timer("held-out samples"):
                planned = _held_out(planned, built.circuit, mapping, samples)
        with timer("prove"):
            proof = make_proof(built.circuit, _PROOF_SAMPLES, options.seed)
        imported = done.imported
        manifest = Manifest(
            schema=SCHEMA_VERSION,
            tool=version("neurocompile"),
            model=imported.graph.name,
            source_sha256=self.model.sha256,
            exported_T=imported.graph.exported_T,
            options=options,
            import_agreement=imported.agreement,
            rates=built.rates,
            rates_source=built.rates_source,
            proof=proof,
            budget=planned,
            optimized=optimized,
        )
        return Program(
            done.graph,
            built.circuit,
            mapping,
            self.target,
            done.statistics,
            manifest,
            dict(timer.seconds),
            tuple(built.front),
            precision=done.precision,
            host=self.model.host,
        )


def _held_out(
    budget: SpikeBudget, circuit: CircuitGraph, mapping: Mapping, samples: np.ndarray
) -> SpikeBudget:
    """With the messages that samples send on which no rate was measured; a warning where a core sends
    more than the budget grants.
    """
    held = samples[RATE_SAMPLES : 2 * RATE_SAMPLES]
    most, part, core = held_out_load(circuit, mapping, held)
    if part > 1:
        warn(
            f"core {core} sends {most:,.1f} messages a step on {len(held)} held-out samples, {part:.3g} times what "
            "the budget grants: rates of other samples differ; measure on more, or grant more"
        )
    return msgspec.structs.replace(
        budget, held_out=len(held), held_out_most=most, held_out_core=core, held_out_part=part
    )
