"""From a quantized model to a mapped circuit: unrolled, or folded in time as it is asked for, or as
little as makes it fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import numpy as np

from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import encode
from neurocompile.build_steps import build_circuit
from neurocompile.calibration import Calibration
from neurocompile.errors import NeurocompileError, ViolationList, argument
from neurocompile.folding.schedules import Fold
from neurocompile.folding.search import (
    choice_of,
    families,
    fold_circuit,
    folds_of,
    front_text,
    pareto,
)
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.mapping import map_circuit
from neurocompile.mapping.estimate import Estimate, estimate
from neurocompile.mapping.fold_choice import FoldChoice
from neurocompile.mapping.mapping import Mapping
from neurocompile.mapping.rates import measured_rates, modelled_rates
from neurocompile.options import BuildOptions
from neurocompile.progress import Stages
from neurocompile.targets.schema import Target

__all__ = [
    "RATE_SAMPLES",
    "Placed",
    "circuit_of",
    "estimate_folds",
    "front_of",
    "lower_as",
    "place_model",
]

RATE_SAMPLES, _RATE_PART = 32, 8
"""Calibration samples, the first, that rates are measured on, and between two looks at how far that
is.
"""
_CORES_SHORT = {"NC3101"}
"""What a fold can help against."""


@dataclass(frozen=True)
class Placed:
    """A mapped circuit, how it was folded and what else there was."""

    circuit: CircuitGraph
    mapping: Mapping
    fold: str
    rates: dict[str, float]
    rates_source: str
    place: Callable[..., Mapping]
    """Maps again, with ``spikes_per_core_step``."""
    front: tuple[FoldChoice, ...] = ()


def circuit_of(
    quantized: SpikingGraph, options: BuildOptions, target: Target, stages: Stages
) -> CircuitGraph:
    """The circuit that settled ``options`` ask for: of a fold, or else the unrolled one, which an
    ``auto`` fold begins with.

    Raises:
        NeurocompileError: NC3104 for a fold that the model cannot have.
    """
    if options.fold in ("auto", "none"):
        with stages("lower"):
            return build_circuit(quantized, options.steps, options.bits, target)
    with stages("fold"):
        return _folded(quantized, options, target, options.fold)


def _folded(
    quantized: SpikingGraph, options: BuildOptions, target: Target, fold: str
) -> CircuitGraph:
    circuit = fold_circuit(quantized, options.steps, options.bits, target, Fold.parse(fold))
    most = options.max_steps
    if most is not None and circuit.sample_period > most:
        raise NeurocompileError(
            "NC3104",
            f"fold {fold} takes {circuit.sample_period:,} steps a sample; max_steps is {most:,}",
        )
    return circuit


def place_model(
    quantized: SpikingGraph,
    circuit: CircuitGraph,
    options: BuildOptions,
    target: Target,
    statistics: Calibration,
    samples: np.ndarray | None,
    stages: Stages,
) -> Placed:
    """Map ``circuit``, which :func:`circuit_of` made of ``quantized`` by settled ``options``; with
    an ``auto`` fold, or as little of a fold as makes it fit.

    Raises:
        NeurocompileError: ViolationList for what does not fit, with the folds that would where
            there are any.
    """
    tries = _Tries(quantized, options, target, statistics, samples, stages)
    try:
        return tries.map(circuit, "none" if options.fold == "auto" else options.fold)
    except NeurocompileError as error:
        if not _only_cores(error):
            raise
        if options.fold != "auto":
            raise _also(error, _searched_by_auto(quantized, options)) from error
        short = error
    with stages("search folds"):
        front = front_of(quantized, options, target, statistics, circuit)
    limit = min(options.max_cores or target.cores, target.cores)
    for choice in front:
        if choice.fold == "none" or choice.cores_at_least > limit:
            continue
        try:
            return replace(tries.folded(choice.fold), front=front)
        except NeurocompileError as error:
            if not _only_cores(error):
                raise
    text = f"model '{quantized.name}' {front_text(front, limit, options.max_steps)}"
    raise _also(short, text) from short


def _also(error: NeurocompileError, text: str) -> NeurocompileError:
    """``error`` with one more line, if there is any."""
    if not text:
        return error
    if isinstance(error, ViolationList):
        messages, codes = [*error.messages, text], [*error.codes, "NC3101"]
    else:
        messages, codes = [error.message, text], [error.code, "NC3101"]
    return ViolationList(error.code, messages, codes=codes)


def _searched_by_auto(quantized: SpikingGraph, options: BuildOptions) -> str:
    """What else a model that was not folded, or in one way, could try."""
    if not list(families(quantized)):
        return ""
    asked = "unrolled" if options.fold == "none" else f"folded {options.fold}"
    return (
        f"model '{quantized.name}' was asked for {asked}: {argument('fold', 'auto')} searches for the "
        "fold of fewest steps a sample that fits"
    )


def _only_cores(error: NeurocompileError) -> bool:
    """Whether nothing but the number of cores stands in the way."""
    codes = error.codes if isinstance(error, ViolationList) else (error.code,)
    return _CORES_SHORT.issuperset(codes)


@dataclass(frozen=True)
class _Tries:
    quantized: SpikingGraph
    options: BuildOptions
    target: Target
    statistics: Calibration
    samples: np.ndarray | None
    stages: Stages

    def folded(self, fold: str) -> Placed:
        """Lower and map one fold."""
        with self.stages("fold"):
            circuit = _folded(self.quantized, self.options, self.target, fold)
        return self.map(circuit, fold)

    def map(self, circuit: CircuitGraph, fold: str) -> Placed:
        """Rates and mapping of one circuit."""
        with self.stages("rates") as done:
            if self.samples is None:
                rates = modelled_rates(circuit, self.statistics)
                source = f"modelled from calibration ({self.statistics.source})"
            else:
                few = encode(circuit, self.samples[:RATE_SAMPLES])
                sent: Counter[str] = Counter()
                with Emulator().open(circuit) as executor:
                    for at in range(0, len(few), _RATE_PART):
                        sent.update(executor.messages(few[at : at + _RATE_PART]))
                        done(at, len(few))
                rates = measured_rates(circuit, sent, len(few))
                source = f"measured on {len(few)} samples"
        options = self.options
        place = partial(
            map_circuit, circuit, self.target, rates, seed=options.seed, max_cores=options.max_cores
        )
        with self.stages("map") as done:
            mapping = place(done=done)
        return Placed(circuit, mapping, fold, rates, source, place)


def estimate_folds(
    quantized: SpikingGraph, options: BuildOptions, target: Target, statistics: Calibration
) -> Estimate:
    """Least cores of the unrolled model, or of the fold that is asked for; with ``auto``, of every
    fold, where the unrolled one does not fit.
    """
    T, bits = options.steps, options.bits
    if options.fold in ("auto", "none"):
        circuit = build_circuit(quantized, T, bits, target)
    else:
        circuit = fold_circuit(quantized, T, bits, target, Fold.parse(options.fold))
    found = estimate(circuit, target, max_cores=options.max_cores)
    codes = {code for code, _ in found.violations}
    if not codes or not codes <= _CORES_SHORT:
        return found
    if options.fold != "auto":
        return _violated(found, _searched_by_auto(quantized, options))
    front = front_of(quantized, options, target, statistics, circuit)
    found = msgspec.structs.replace(found, folds=front)
    if found.fits:
        return found
    text = front_text(found.folds, found.cores_available, options.max_steps)
    return _violated(found, f"model '{quantized.name}' {text}")


def _violated(found: Estimate, text: str) -> Estimate:
    more = (("NC3101", text),) if text else ()
    return msgspec.structs.replace(found, violations=(*found.violations, *more))


def front_of(
    quantized: SpikingGraph,
    options: BuildOptions,
    target: Target,
    statistics: Calibration,
    unrolled: CircuitGraph | None = None,
) -> tuple[FoldChoice, ...]:
    """The Pareto front of settled ``options``, the unrolled model among it."""
    T, bits = options.steps, options.bits
    unrolled = unrolled or build_circuit(quantized, T, bits, target)
    first = choice_of(unrolled, target, "none", modelled_rates(unrolled, statistics))
    choices = folds_of(
        quantized, T, bits, target, max_steps=options.max_steps, statistics=statistics
    )
    return tuple(pareto([first, *choices]))


def lower_as(quantized: SpikingGraph, options: BuildOptions, target: Target) -> CircuitGraph:
    """The circuit that settled ``options`` ask for; without a fold, the unrolled one."""
    if options.fold in ("auto", "none"):
        return build_circuit(quantized, options.steps, options.bits, target)
    fold = Fold.parse(options.fold)
    return fold_circuit(quantized, options.steps, options.bits, target, fold)
