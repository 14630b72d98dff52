"""An imported model in the cache of stages: everything but the runtime, which opens when it is
asked to run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import msgspec
import numpy as np

from neurocompile.advice import overheard, warn
from neurocompile.archive import MALFORMED
from neurocompile.calibration import Calibration
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.model import FloatModel
from neurocompile.host.check import ONNX_ERRORS
from neurocompile.host.part import HostPart
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.options import BuildOptions
from neurocompile.progress import Stages
from neurocompile.reference.base import Reference, ReferenceRun
from neurocompile.stage_cache import StageCache, graph_members, graph_of, key_of, laid_out, ours

__all__ = ["imported_once"]

_NAMES, _HOST = ("graph.txt", "graph.safetensors", "facts.json"), "host.onnx"


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    statistics: Calibration | None
    sha256: str
    origin: str
    modules: dict[str, tuple[str, str]]
    own_T: int | None
    warnings: list[str]


@dataclass(frozen=True)
class _Later:
    """The reference of a model that was not read again: it is, once somebody runs it."""

    read: Callable[[], FloatModel] = field(repr=False)

    @cached_property
    def _found(self) -> Reference:
        return self.read().reference

    def run(self, x: np.ndarray) -> ReferenceRun:
        return self._found.run(x)

    def original(self, x: np.ndarray) -> tuple[np.ndarray, ...] | None:
        return self._found.original(x)


_BEHIND = ("target", "weight_bits", "rounding", "digits", "grids", "convolutions")
"""Options of the model that importing does not read: another target reuses what was imported."""


def imported_once(
    cache: StageCache,
    content: str | None,
    options: BuildOptions,
    origin: str,
    timer: Stages,
    read: Callable[[], FloatModel],
) -> FloatModel:
    """What ``read`` gives, or what it gave before for the same content and options.

    Args:
        content: hash of all that is read; None where the front end does not say.
        origin: what the model is called, which names its graph and its errors.
    """
    if cache.folder is None or content is None:
        return _laid_out(read())
    key = key_of("import", content, origin, options.of_model(*_BEHIND))
    members = cache.get("import", key, _NAMES, [_HOST])
    if members is not None:
        try:
            with timer("import, kept"):
                return _model_of(members, read)
        except (NeurocompileError, msgspec.DecodeError, *MALFORMED, *ONNX_ERRORS):
            timer.seconds.pop("import, kept")
            cache.damaged("import", key)
    with overheard() as texts:
        found = _laid_out(read())
    if ours(found.graph):
        cache.put("import", key, lambda: _members(found, texts))
    return found


def _laid_out(model: FloatModel) -> FloatModel:
    return replace(model, graph=laid_out(model.graph))


def _members(model: FloatModel, warnings: list[str]) -> dict[str, bytes]:
    facts = _Facts(
        model.statistics, model.sha256, model.origin, dict(model.modules), model.own_T, warnings
    )
    host = {} if model.host is None else {_HOST: model.host.content}
    return {**graph_members(model.graph), "facts.json": msgspec.json.encode(facts), **host}


def _model_of(members: dict[str, bytes], read: Callable[[], FloatModel]) -> FloatModel:
    facts = msgspec.json.decode(members["facts.json"], type=_Facts)
    graph = graph_of(members)
    if not isinstance(graph, SpikingGraph) or graph.stage != "imported":
        raise ValueError("another stage's graph")
    host = HostPart.of(members[_HOST]) if _HOST in members else None
    for text in facts.warnings:
        warn(text)
    return FloatModel(
        graph,
        facts.statistics,
        facts.sha256,
        _Later(read),
        facts.origin,
        facts.modules,
        facts.own_T,
        host=host,
    )
