"""One model built many times: the points that are missing, the work they need, and what is found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from neurocompile.arrays import ArrayLike
from neurocompile.backends.emulator import processors
from neurocompile.calibration import Calibration
from neurocompile.data import check_inputs, check_labels, load_samples
from neurocompile.errors import NeurocompileError
from neurocompile.frames import data_frame
from neurocompile.frontends.door import calibration_of
from neurocompile.gpu.devices import check_device
from neurocompile.guard import guarded
from neurocompile.options import BuildOptions, takes_options
from neurocompile.parameters import whole
from neurocompile.progress import Stages
from neurocompile.stages import Canonical, Imported, Quantized, open_staged
from neurocompile.sweeping.pool import Here, Job, Pool, Processes
from neurocompile.sweeping.records import Evaluation, Placement, Settings, Store
from neurocompile.sweeping.space import Integers, Point, points_of
from neurocompile.sweeping.work import (
    Part,
    Work,
    digest,
    evaluated,
    evaluated_on,
    placed,
    problem_of,
)
from neurocompile.targets import load_target

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from torch import nn

__all__ = ["Found", "Sweep", "sweep"]

_PART = 256
"""Samples of one job."""


@dataclass(frozen=True)
class Found:
    """A point and what is known of it."""

    point: Point
    evaluation: Evaluation | None
    """None if it was not asked for."""
    placement: Placement | None


@dataclass(frozen=True)
class Sweep:
    """What :func:`sweep` found, in the order of the points."""

    settings: Settings
    found: tuple[Found, ...]
    folder: Path | None

    def __iter__(self) -> Iterator[Found]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __repr__(self) -> str:
        return f"<Sweep of {self.settings.model!r}: {len(self):,} points>"

    @guarded
    def to_pandas(self) -> pandas.DataFrame:
        """A row a point: what was asked for, accuracy, spikes a sample, and of its placement cores,
        steps, packets and ``pJ PROFILE``; NC4001 without pandas.
        """
        return data_frame([_figures(one) for one in self.found], "point")

    @guarded
    def plot(self) -> Figure:
        """:func:`neurocompile.sweeping.pareto.draw`; NC4001 without matplotlib."""
        from neurocompile.report.pictures import check_picture
        from neurocompile.sweeping.pareto import draw

        check_picture()
        return draw(self)


def _figures(one: Found) -> dict[str, Any]:
    at, evaluation, placement = one.point.integers, one.evaluation, one.placement
    found: dict[str, Any] = {
        "point": one.point.name,
        "target": at.target,
        "T": at.T,
        "bits": at.bits,
        "fold": one.point.fold,
    }
    if evaluation is not None and evaluation.problem is None:
        found |= {"accuracy": evaluation.accuracy, "spikes": evaluation.spikes_a_sample}
    if placement is not None and placement.problem is None:
        found |= {name: getattr(placement, name) for name in ("cores", "steps", "packets")}
        found |= {f"pJ {profile}": pj for profile, pj in placement.energy_pj.items()}
    return found


class _Sources:
    """Stages of the model that many points share, each made when it is first asked for."""

    def __init__(self, imported: Imported, store: Store, device: str) -> None:
        self._imported, self._store, self._device = imported, store, device
        self._canonical: dict[str, Canonical] = {}
        self._last: tuple[Integers, Quantized, str] | None = None

    def canonical(self, target: str) -> Canonical:
        """For a target, whose cores decide which convolutions are merged."""
        if target not in self._canonical:
            model = self._imported.model
            options = msgspec.structs.replace(model.options, target=target)
            made = replace(
                self._imported, model=replace(model, options=options), target=load_target(target)
            )
            self._canonical[target] = made.canonical()
        return self._canonical[target]

    def quantized(self, integers: Integers) -> tuple[Quantized, str]:
        """The integers and their hash. Rates are measured once for each T, and kept as a record."""
        if self._last is None or self._last[0] != integers:
            canonical, name = self.canonical(integers.target), _statistics(integers)
            known = self._store.get(name, Calibration)
            if known is not None:
                model = replace(canonical.model, statistics=known, samples=None)
                canonical = replace(canonical, model=model)
            made = canonical.quantize(T=integers.T, weight_bits=integers.bits, device=self._device)
            if known is None:
                self._store.put(name, made.statistics)
            # a worker needs neither the float model's runtime nor the samples
            model = replace(made.model, samples=None, reference=None)  # type: ignore[arg-type]
            imported = replace(made.imported, model=model, timer=Stages(False))
            made = replace(made, model=model, imported=imported, timer=Stages(False))
            self._last = integers, made, digest(made.graph, made.model.host)
        return self._last[1], self._last[2]


def _statistics(integers: Integers) -> str:
    return "statistics-" + integers.name.rsplit("-", 1)[0]


@dataclass
class _Plan:
    """What is missing, as jobs."""

    store: Store
    sources: _Sources
    points: Sequence[Point]
    x: np.ndarray
    y: np.ndarray | None
    evaluate: bool
    place: bool
    device: str
    threads: int | None
    """Of a worker's emulator."""

    @property
    def size(self) -> int:
        """Jobs in all."""
        parts = 1 if self.device != "cpu" else -(-len(self.x) // _PART)
        found = [self._of(integers) for integers in self._integers()]
        return sum(len(points) + parts * evaluate for points, evaluate in found)

    def _integers(self) -> list[Integers]:
        return list(dict.fromkeys(p.integers for p in self.points))

    def _of(self, integers: Integers) -> tuple[list[Point], bool]:
        """Points that are not placed yet, and whether the integers are not evaluated."""
        get = self.store.get
        points = [
            p
            for p in self.points
            if p.integers == integers and self.place and get(_placement(p), Placement) is None
        ]
        return points, self.evaluate and get(_evaluation(integers), Evaluation) is None

    def jobs(self) -> Iterator[Job]:
        """Those of one set of integers after another."""
        for integers in self._integers():
            points, evaluate = self._of(integers)
            if not points and not evaluate:
                continue
            try:
                quantized, sha256 = self.sources.quantized(integers)
            except NeurocompileError as error:
                if error.code not in _OF_THE_POINT:
                    raise
                self._refused(integers, points, evaluate, error)
                continue
            if evaluate:
                yield from self._evaluations(integers, quantized, sha256)
            for point in points:
                few = self.x[: self.store.settings.counted]
                arguments = (quantized, point.fold, few, self.store.settings.profiles, sha256)
                yield Job(point.name, placed, arguments, self._keep(_placement(point)))

    def _refused(
        self, integers: Integers, points: list[Point], evaluate: bool, error: NeurocompileError
    ) -> None:
        problem = problem_of(error)
        if evaluate:
            nothing = Evaluation(0, None, {}, {}, "", "", problem)
            self.store.put(_evaluation(integers), nothing)
        for point in points:
            self.store.put(_placement(point), Placement(problem=problem))

    def _keep(self, name: str) -> Callable[[Any], None]:
        return lambda record: self.store.put(name, record)

    def _evaluations(self, integers: Integers, quantized: Quantized, sha256: str) -> Iterator[Job]:
        """Parts of the samples; the record is written when the last is done."""
        host = quantized.model.host
        work = Work(quantized.graph, integers.T, integers.bits, host and replace(host), sha256)
        name = f"{integers.name}, {len(self.x):,} samples"
        if self.device != "cpu":
            keep = _Parts(1, self, integers, sha256)
            yield Job(
                name, evaluated_on, (work, self.x, self.device), lambda part: keep.add(0, part)
            )
            return
        starts = range(0, len(self.x), _PART)
        gathered = _Parts(len(starts), self, integers, sha256)
        for k, start in enumerate(starts):
            part = self.x[start : start + _PART]
            yield Job(name, evaluated, (work, part, self.threads), gathered.adder(k))


class _Parts:
    """Parts of one evaluation, until all are there."""

    def __init__(self, count: int, plan: _Plan, integers: Integers, sha256: str) -> None:
        self._parts: list[Part | None] = [None] * count
        self._plan, self._integers, self._sha256 = plan, integers, sha256

    def adder(self, place: int) -> Callable[[Part], None]:
        """Takes part ``place``."""
        return lambda part: self.add(place, part)

    def add(self, place: int, part: Part) -> None:
        """Keep it; the last writes the record."""
        self._parts[place] = part
        parts = [p for p in self._parts if p is not None]
        if len(parts) < len(self._parts):
            return
        logits = np.concatenate([p.logits for p in parts])
        y, correct = self._plan.y, None
        if y is not None and logits.ndim == 2 and logits.shape[1] > 1:
            correct = int((logits.argmax(1) == y).sum())
        record = Evaluation(
            len(logits),
            correct,
            {k: sum(p.spikes[k] for p in parts) for k in parts[0].spikes},
            {k: sum(p.neuron_steps[k] for p in parts) for k in parts[0].spikes},
            hashlib.sha256(np.ascontiguousarray(logits).data).hexdigest(),
            self._sha256,
        )
        self._plan.store.put(_evaluation(self._integers), record)


_OF_THE_POINT = {"NC2001", "NC2002", "NC2003", "NC2012"}
"""Errors that say that one point cannot be, not that the sweep cannot."""


def _evaluation(integers: Integers) -> str:
    return f"evaluation-{integers.name}"


def _placement(point: Point) -> str:
    return f"placement-{point.name}"


@guarded
@takes_options
def sweep(
    model: str | Path | nn.Module,
    example_input: ArrayLike | None = None,
    *,
    data: np.ndarray | str | Path,
    labels: np.ndarray | None = None,
    timesteps: Sequence[int] | int | None = None,
    bits: Sequence[int] | int | None = None,
    folds: Sequence[str] | str | None = None,
    targets: Sequence[str] | str | None = None,
    calibration: np.ndarray | str | Path | None = None,
    samples: int | None = None,
    counted: int = 4,
    profiles: Sequence[str] = ("davies2018",),
    evaluate: bool = True,
    place: bool = True,
    device: str = "cpu",
    jobs: int | None = None,
    cluster: str | None = None,
    out: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    options: BuildOptions | None = None,
    **given: Any,
) -> Sweep:
    """Build ``model`` for every combination of ``timesteps``, ``bits``, ``folds`` and ``targets``, and
    say what each costs.

    Results do not depend on where they are computed. Spike rates for quantization are measured in
    this process, on ``device``, once for each T.

    Args:
        model, example_input, calibration, options: as :func:`neurocompile.compile` takes them.
        data: float32 (samples, *input shape), or an .npz file of them as ``x`` and, if it has
            them, of classes as ``y``.
        labels: (samples,) integers.
        timesteps, bits, folds, targets: values of ``T``, ``weight_bits``, ``fold`` and ``target``; those
            of the options by default.
        samples: use only the first so many.
        counted: samples whose messages are counted on each mapped program; 0: modelled from rates.
        profiles: of energy, or ``target``; the first is that of the fronts.
        evaluate, place: False leaves out accuracy and spikes, or the mapping.
        device: evaluates accuracy and spikes: cpu (in ``jobs`` processes), or torch's.
        jobs: processes; all processors by default, 1: in this process.
        cluster: ``local``, the address of a dask scheduler, or ``slurm``
            (:mod:`neurocompile.sweeping.cluster`).
        out: folder of the records; a sweep goes on with those that it finds there.
        progress: takes (what is done, results, results in all).

    Raises:
        NeurocompileError: NC5010 (``out`` holds another sweep), NC4001 (a package is missing), and
            what importing and data raise. A point that cannot be built is a record, no error.
    """
    asked = BuildOptions.of(options, given)
    check_device(device)
    whole("counted", counted, 0, code="NC1015")
    imported = open_staged(model, example_input, calibration=calibration, options=asked)
    node = imported.model.graph.input
    x, y = _samples(data, labels, imported, samples)
    settled = asked.settled(imported.steps, imported.target)
    points = points_of(
        asked.target if targets is None else targets,
        imported.steps if timesteps is None else timesteps,
        settled.bits if bits is None else bits,
        asked.fold if folds is None else folds,
    )
    store = Store(out, _settings(imported, x, y, counted, tuple(profiles), asked))
    workers = processors() if jobs is None else whole("jobs", jobs, 1, 4096, "NC1015")
    pool, threads = _pool(cluster, workers, device)
    plan = _Plan(
        store,
        _Sources(imported, store, device),
        points,
        check_inputs(x, node.sample_shape, "data 'x'", node.steps),
        y,
        evaluate,
        place,
        device,
        threads,
    )
    total, done = plan.size, 0
    for job in pool.run(plan.jobs()):
        done += 1
        if progress is not None:
            progress(job.label, done, total)
    return Sweep(
        store.settings, tuple(_found(store, p, evaluate, place) for p in points), store.folder
    )


def _pool(cluster: str | None, workers: int, device: str) -> tuple[Pool, int | None]:
    """Where to run, and threads of each emulator."""
    if cluster is not None:
        from neurocompile.sweeping.cluster import Cluster

        return Cluster(cluster, workers), 1
    if workers == 1 or device != "cpu":
        return Here(), None
    return Processes(workers), 1


def _found(store: Store, point: Point, evaluate: bool, place: bool) -> Found:
    return Found(
        point,
        store.get(_evaluation(point.integers), Evaluation) if evaluate else None,
        store.get(_placement(point), Placement) if place else None,
    )


def _samples(
    data: Any, labels: Any, imported: Imported, most: int | None
) -> tuple[np.ndarray, np.ndarray | None]:
    node = imported.model.graph.input
    found = calibration_of(data)
    if found is None:
        raise NeurocompileError("NC1006", "data is None; samples are needed to sweep over")
    if isinstance(found, Path):
        loaded = load_samples(found, node.sample_shape, most, node.steps)
        x, y = loaded.x, loaded.y
    else:
        x, y = check_inputs(found, node.sample_shape, "data 'x'", node.steps), None
    if labels is not None:
        y = check_labels(labels, len(x))
    return x[:most], None if y is None else y[:most]


def _settings(
    imported: Imported,
    x: np.ndarray,
    y: np.ndarray | None,
    counted: int,
    profiles: tuple[str, ...],
    options: BuildOptions,
) -> Settings:
    data = hashlib.sha256(np.ascontiguousarray(x).data)
    data.update(b"" if y is None else np.ascontiguousarray(y).data)
    given = imported.model.samples
    return Settings(
        schema=2,
        tool=version("neurocompile"),
        model=imported.graph.name,
        model_sha256=imported.model.sha256,
        data_sha256=data.hexdigest(),
        samples=len(x),
        calibration_sha256=None
        if given is None
        else hashlib.sha256(np.ascontiguousarray(given).data).hexdigest(),
        seed=options.seed,
        options=options.of_model("target", "T", "weight_bits"),
        counted=counted,
        profiles=profiles,
    )
