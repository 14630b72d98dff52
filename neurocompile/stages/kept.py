"""Stages in the cache: what check, quantization and mapping gave before for the same content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import numpy as np

from neurocompile.advice import overheard, warn
from neurocompile.archive import MALFORMED
from neurocompile.calibration import Calibration
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.model import FloatModel
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.mapping import map_circuit
from neurocompile.mapping.fold_choice import FoldChoice
from neurocompile.mapping.mapping import Mapping
from neurocompile.options import BuildOptions
from neurocompile.placing import RATE_SAMPLES, Placed
from neurocompile.precision import LayerReport
from neurocompile.progress import Stages
from neurocompile.stage_cache import StageCache, graph_members, graph_of, key_of, ours
from neurocompile.targets.fields import ChipFields
from neurocompile.targets.schema import Target

__all__ = ["agreement_once", "placed_once", "quantized_once"]

Made = tuple[SpikingGraph, Calibration, tuple[LayerReport, ...]]
_GRAPH, _FACTS = ("graph.txt", "graph.safetensors"), "facts.json"
Value = TypeVar("Value")


class _QuantizedFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    statistics: Calibration
    precision: tuple[LayerReport, ...]


class _PlacedFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mapping: Mapping
    fold: str
    rates: dict[str, float]
    rates_source: str
    front: tuple[FoldChoice, ...]


def _once(
    cache: StageCache,
    stage: str,
    key: Callable[[], str],
    timer: Stages,
    make: Callable[[], Value],
    members: Callable[[Value], dict[str, bytes]],
    value: Callable[[dict[str, bytes]], Value],
    names: Sequence[str] = (),
) -> Value:
    """What ``make`` gives, with its warnings, or what is kept of it under ``key``."""
    if cache.folder is None:
        return make()
    with timer("look up"):
        found = cache.get(stage, of := key(), ["warnings.json"], names)
    if found is not None:
        try:
            with timer(f"{stage}, kept"):
                texts = msgspec.json.decode(found["warnings.json"], type=list[str])
                result = value(found)
            for text in texts:
                warn(text)
            return result
        except (NeurocompileError, msgspec.DecodeError, *MALFORMED):
            timer.seconds.pop(f"{stage}, kept")
            cache.damaged(stage, of)
    with overheard() as heard:
        result = make()
    told = {"warnings.json": msgspec.json.encode(heard)}
    cache.put(stage, of, lambda: {**members(result), **told})
    return result


def agreement_once(
    cache: StageCache, model: FloatModel, timer: Stages, check: Callable[[], float]
) -> float:
    """The share of equal spikes that ``check`` finds."""
    cache = cache if ours(model.graph) else StageCache(None)
    samples = b"" if model.samples is None else model.samples[:RATE_SAMPLES]
    return _once(
        cache,
        "check",
        lambda: key_of(
            "check", model.sha256, model.graph, samples, model.statistics, model.options.T
        ),
        timer,
        check,
        lambda share: {_FACTS: msgspec.json.encode(share)},
        lambda found: msgspec.json.decode(found[_FACTS], type=float),
        [_FACTS],
    )


def quantized_once(
    cache: StageCache,
    canonical: SpikingGraph,
    model: FloatModel,
    settled: BuildOptions,
    target: Target,
    device: str,
    timer: Stages,
    make: Callable[[], Made],
) -> Made:
    """The integer graph, the statistics it was made by, and what was lost."""
    cache = cache if ours(canonical) else StageCache(None)
    asked: list[Any] = [settled.of_model("target"), device]
    samples = b"" if model.samples is None else model.samples

    def members(made: Made) -> dict[str, bytes]:
        graph, statistics, precision = made
        facts = _QuantizedFacts(statistics, precision)
        return {**graph_members(graph), _FACTS: msgspec.json.encode(facts)}

    def value(found: dict[str, bytes]) -> Made:
        facts = msgspec.json.decode(found[_FACTS], type=_QuantizedFacts)
        graph = graph_of(found)
        if not isinstance(graph, SpikingGraph) or graph.stage != "quantized":
            raise ValueError("another stage's graph")
        return graph, facts.statistics, facts.precision

    return _once(
        cache,
        "quantize",
        lambda: key_of(
            "quantize", canonical, model.statistics, samples, asked, repr(ChipFields.of(target))
        ),
        timer,
        make,
        members,
        value,
        [*_GRAPH, _FACTS],
    )


def placed_once(
    cache: StageCache,
    quantized: SpikingGraph,
    circuit: CircuitGraph,
    options: BuildOptions,
    target: Target,
    statistics: Calibration,
    samples: np.ndarray | None,
    timer: Stages,
    make: Callable[[], Placed],
) -> Placed:
    """The mapped circuit. A budget and a refinement work on it, and are not part of its key."""
    cache = cache if ours(quantized) and ours(circuit) else StageCache(None)
    asked = msgspec.structs.replace(options, budget=None, optimize=None)
    few = b"" if samples is None else samples[:RATE_SAMPLES]

    def members(made: Placed) -> dict[str, bytes]:
        facts = _PlacedFacts(made.mapping, made.fold, made.rates, made.rates_source, made.front)
        graph = {} if made.circuit is circuit else graph_members(made.circuit)
        return {**graph, _FACTS: msgspec.json.encode(facts)}

    def value(found: dict[str, bytes]) -> Placed:
        facts = msgspec.json.decode(found[_FACTS], type=_PlacedFacts)
        own = graph_of(found) if _GRAPH[0] in found else circuit
        if not isinstance(own, CircuitGraph):
            raise ValueError("another stage's graph")
        place = partial(
            map_circuit, own, target, facts.rates, seed=options.seed, max_cores=options.max_cores
        )
        mapped = facts.mapping, facts.fold, facts.rates, facts.rates_source
        return Placed(own, *mapped, place, facts.front)

    return _once(
        cache,
        "map",
        lambda: key_of("map", quantized, circuit, asked, target, statistics, few),
        timer,
        make,
        members,
        value,
        [*_GRAPH, _FACTS],
    )
