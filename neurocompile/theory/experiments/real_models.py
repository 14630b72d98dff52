"""Tables IV and VI on trained models and the user's own data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.data import load_samples
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.torch.module import is_factory, load_factory
from neurocompile.theory.bounds.spike_bound import spike_bound
from neurocompile.theory.bounds.timesteps import PAPER_CONSTANT
from neurocompile.theory.experiments.paper import TABLE4, TABLE6
from neurocompile.theory.experiments.result import Result, Table
from neurocompile.theory.experiments.sentences import embedded, is_text, text_part_of
from neurocompile.theory.measure.data_rows import Rows, open_rows, rows_of
from neurocompile.theory.measure.effective_dimension import EffectiveDimension, effective_dimension
from neurocompile.theory.measure.sensitivity import local_lipschitz
from neurocompile.theory.measure.subject import Subject, open_subject
from neurocompile.theory.measure.sweep import reference_steps, run_at
from neurocompile.zoo import list_models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from neurocompile.sweeping.sweep import Sweep

__all__ = ["ZOO", "Row", "Task", "table4", "table6_on"]

ZOO = ("qkformer_4_256", "spikformer_4_256", "spike_driven_transformer_2_256")
"""Trained on CIFAR-10 (models/zoo/cifar10)."""
_MODULE = "neurocompile.models.zoo.cifar10"
_SAMPLES = 100
_CALIBRATION = 256
"""Sentences to calibrate on, the first of their file."""
_RADIUS = 0.1
STEPS = (1, 2, 4, 6, 8)
_TARGETS = (0.75, 0.80, 0.85, 0.88, 0.90, 0.91)
_NOT_HARDWARE = "on the emulator or a GPU (bit-exact, NOT hardware)"


@dataclass(frozen=True)
class Task:
    """What the tables are made of."""

    data: Path
    """'x' float32 and classes 'y', samples first; or sentences and classes (.tsv)."""
    models: tuple[str, ...] = ZOO
    """The zoo's names, ONNX files, or package.module:function."""
    calibration: Path | None = None
    """Samples to calibrate on, as ``data``; d_eff of sentences is that of all of these."""
    samples: int | None = None
    """The first so many; 100 by default for table 4, all for table 6."""
    device: str = "cpu"
    out: Path | None = None
    """Folder where table 6 keeps what it has computed."""


def source_of(model: str) -> tuple[Any, Any, str]:
    """(path or module, its example input, a short name)."""
    factory = factory_of(model)
    if factory is not None:
        return *load_factory(factory), factory.partition(":")[2]
    return Path(model), None, Path(model).stem


def factory_of(model: str) -> str | None:
    """The ``package.module:function`` that a name stands for; None for a path."""
    if model in ZOO:
        return f"{_MODULE}:{model}"
    if Path(model).exists():
        return None
    if is_factory(model):
        return model
    shipped = [m.source for m in list_models() if model in (m.name, m.name.partition("/")[2])]
    return shipped[0] if len(shipped) == 1 and is_factory(shipped[0]) else None


@dataclass(frozen=True)
class Given:
    """What a task's models read."""

    data: Path | np.ndarray
    labels: np.ndarray | None
    calibration: Path | np.ndarray | None
    rows: Rows
    """Whose dimension is measured."""


def given(task: Task) -> Given:
    """A task's arrays; sentences are embedded as the host of its model embeds them.

    Raises:
        NeurocompileError: NC1012 for sentences and several models, whose embeddings differ.
    """
    if not is_text(task.data):
        return Given(task.data, None, task.calibration, open_rows(task.data))
    if len(task.models) != 1 or (factory := factory_of(task.models[0])) is None:
        raise NeurocompileError(
            "NC1012",
            f"'{task.data}' holds sentences: name one text model, such as 'sst2/spiking-bert'",
        )
    load_factory(factory)
    part = text_part_of(factory)
    samples = embedded(task.data, part)
    if task.calibration is None:
        return Given(samples.x, samples.y, None, rows_of(samples.x, f"'{task.data}'"))
    if not is_text(task.calibration):
        return Given(samples.x, samples.y, task.calibration, open_rows(task.calibration))
    known = embedded(task.calibration, part).x
    rows = rows_of(known, f"'{task.calibration}'")
    return Given(samples.x, samples.y, known[:_CALIBRATION], rows)


@dataclass(frozen=True)
class Row:
    """A model in Table IV."""

    T: int
    accuracy: float
    spikes: float
    """Of its layers, an inference."""
    epsilon: float
    """Root mean square over samples of the Euclidean error of the logits against :attr:`far` steps."""
    far: int
    lipschitz: float
    """Largest local quotient: a lower bound of any constant."""
    bound: float
    """Theorem 10 with c = 1."""

    @property
    def ratio(self) -> float:
        """Spikes over the bound."""
        return self.spikes / self.bound


def table4(task: Task, progress: bool = False) -> Result:
    """Accuracy, total spikes and their ratio to Theorem 10's bound, d_eff measured on the same data.

    Raises:
        NeurocompileError: NC1012 without classes; those of opening a model and its data.
    """
    at = given(task)
    dimension = effective_dimension(at.rows, progress=progress)
    found: dict[str, Row] = {}
    behind: dict[str, str] = {}
    for model in task.models:
        source, example, name = source_of(model)
        subject = open_subject(source, example_input=example, calibration=at.calibration)
        behind[name] = subject.behind
        x, y = _labelled(at, subject.input_shape, task.samples or _SAMPLES)
        found[name] = _row_of(replace(subject, device=task.device), x, y, dimension.mean, progress)
    table = Table(
        "ours: spikes an inference (measured) beside Theorem 10's c L^2 d_eff / epsilon^2; "
        f"d_eff {dimension.mean:.1f} +- {dimension.std:.1f}",
        (
            "model",
            ">T",
            ">accuracy",
            ">spikes",
            ">epsilon",
            ">against T",
            ">L, local",
            ">bound, c = 1",
            ">ratio",
        ),
        tuple(
            (
                name,
                row.T,
                f"{row.accuracy:.2%}",
                f"{row.spikes:,.0f}",
                f"{row.epsilon:.4g}",
                row.far,
                f"{row.lipschitz:.4g}",
                f"{row.bound:,.0f}",
                f"{row.ratio:.3g}",
            )
            for name, row in found.items()
        ),
    )
    notes = (
        "epsilon: Euclidean error of the logits at T against many steps. L: the largest quotient for random "
        f"disturbances of {_RADIUS:.0%}, a lower bound of any constant, so the bound stays one.",
        "c = 1 is a convention: no constant follows from the ratio. The paper prints ratios of 2.1 to 2.8, with a d_eff of 47.",
        *_hosts(behind),
        *_limits(dimension),
    )
    samples = len(x)
    data = {
        **_dimension_data(dimension),
        "samples": samples,
        "models": {name: {**asdict(row), "ratio": row.ratio} for name, row in found.items()},
    }
    claims = Table(
        "the paper's (claim)",
        ("dataset", "model", ">accuracy", ">spikes", ">ratio"),
        tuple(
            (on, model, f"{a:.1%}", "" if spikes is None else f"{spikes:,.0f}", ratio)
            for on, model, a, spikes, ratio in TABLE4
        ),
    )
    setting = f"trained models on {task.data.name}, {samples:,} samples, {_NOT_HARDWARE}"
    return Result("table4", setting, (table, claims, _curve(dimension)), notes, data)


def _row_of(subject: Subject, x: np.ndarray, y: np.ndarray, size: float, progress: bool) -> Row:
    T, far = subject.T, _farthest(subject)
    run, limit = (run_at(subject, x, steps, progress) for steps in (T, far))
    epsilon = float(np.sqrt(((run.logits - limit.logits) ** 2).sum(axis=1).mean()))
    quantized, circuit = subject.at(T)
    local = local_lipschitz(circuit, x, _RADIUS, on=(quantized, subject.device)).largest
    accuracy = float((_scores(subject, run.logits).argmax(axis=1) == y).mean())
    return Row(T, accuracy, run.total, epsilon, far, local, spike_bound(local, 1, size, epsilon))


def _scores(subject: Subject, values: np.ndarray) -> np.ndarray:
    """Of classes, by the host where it has a part behind the chip; NC8011 where that reads every step."""
    host = subject.host
    if host is None:
        return values
    if host.stepwise:
        raise NeurocompileError(
            "NC8011",
            f"an accuracy of '{subject.name}' is made on the host of every step ({subject.behind}); see table6",
        )
    return host.run(values)[0][host.main]


def _farthest(subject: Subject) -> int:
    """:func:`reference_steps`, or half of them and so on where the integers of so many steps leave
    their fields (NC2002), but more than the model's own."""
    far = reference_steps((1,))
    while True:
        try:
            subject.at(far)
        except NeurocompileError as error:
            if error.code != "NC2002" or far // 2 <= subject.T:
                raise
            far //= 2
        else:
            return far


def _labelled(at: Given, shape: tuple[int, ...], most: int) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(at.data, np.ndarray):
        assert at.labels is not None
        return at.data[:most], at.labels[:most]
    samples = load_samples(at.data, shape, most)
    if samples.y is None:
        raise NeurocompileError("NC1012", f"'{at.data}' has no 'y' to count correct predictions by")
    return samples.x, samples.y


def _dimension_data(dimension: EffectiveDimension) -> dict[str, Any]:
    return {
        "d_eff": dimension.mean,
        "d_eff_std": dimension.std,
        "d_eff_curve": [list(point) for point in dimension.curve],
        "d_eff_limited": dimension.limited,
    }


def _curve(dimension: EffectiveDimension) -> Table:
    return Table(
        "effective dimension against the number of samples (nested random subsets)",
        (">samples", ">components that hold 95 %"),
        tuple((f"{n:,}", k) for n, k in dimension.curve),
    )


def _hosts(behind: dict[str, str]) -> Iterator[str]:
    for name, what in behind.items():
        if what:
            yield f"{name}: epsilon and L are of the values that the chip gives; the host makes classes of them ({what})."


def _limits(dimension: EffectiveDimension) -> tuple[str, ...]:
    if not dimension.limited:
        return ()
    return (
        f"The samples limit d_eff: the second half of them still added {dimension.growth} components, so it is at least "
        f"{dimension.full}.",
    )


def table6_on(task: Task, progress: bool = False) -> Result:
    """Accuracy and spikes of models compiled at each T, and the first T that reaches a target, beside
    C log10(d_eff).

    With ``task.out`` the sweeps' records are kept in OUT/MODEL, and found there: it does not matter
    where they were computed (:mod:`neurocompile.sweeping`).
    """
    from neurocompile.sweeping.sweep import sweep

    at = given(task)
    dimension = effective_dimension(at.rows, progress=progress)
    sweeps = {}
    for model in task.models:
        source, example, name = source_of(model)
        sweeps[name] = sweep(
            source,
            example,
            data=at.data,
            labels=at.labels,
            timesteps=STEPS,
            calibration=at.calibration,
            samples=task.samples,
            place=False,
            device=task.device,
            out=None if task.out is None else task.out / name,
        )
    accuracy = {name: _accuracies(found) for name, found in sweeps.items()}
    predicted = PAPER_CONSTANT * float(np.log10(dimension.mean))
    best = Table(
        f"the first T that reaches the target (measured); d_eff {dimension.mean:.1f}, 2.3 log10(d_eff) = {predicted:.2f}",
        (">target accuracy", *(f">{name}" for name in sweeps)),
        tuple(
            (f"{target:.0%}", *(_first(accuracy[name], target) or "none" for name in sweeps))
            for target in _TARGETS
        ),
    )
    swept = Table(
        "accuracy; spikes an inference, 8 bits, compiled at each T, trained at T = 4",
        (">T", *(f">{name}" for name in sweeps)),
        tuple((T, *(_cell(found, T) for found in sweeps.values())) for T in STEPS),
    )
    claims = Table(
        "the paper's (claim)",
        ("dataset", ">target", ">predicted T", ">best T"),
        tuple((name, f"{a:.0%}", p, b) for name, a, p, b in TABLE6),
    )
    samples = next(iter(sweeps.values())).settings.samples
    return Result(
        "table6",
        f"trained models on {task.data.name}, {samples:,} samples, {_NOT_HARDWARE}",
        (best, swept, claims, _curve(dimension)),
        (
            "Models trained at T = 4 are compiled for each T, with rates measured at that T, and not trained again; the paper trains "
            "for each T.",
            *_limits(dimension),
        ),
        {
            **_dimension_data(dimension),
            "predicted": predicted,
            "samples": samples,
            "models": {
                name: [
                    {
                        "T": one.point.integers.T,
                        "accuracy": one.evaluation.accuracy,
                        "spikes": one.evaluation.spikes_a_sample,
                    }
                    for one in found
                    if one.evaluation is not None
                ]
                for name, found in sweeps.items()
            },
        },
        lambda: _draw(sweeps, predicted),
    )


def _accuracies(found: Sweep) -> dict[int, float]:
    return {
        one.point.integers.T: one.evaluation.accuracy
        for one in found
        if one.evaluation is not None and one.evaluation.accuracy is not None
    }


def _first(accuracy: dict[int, float], target: float) -> int | None:
    return min((T for T, a in accuracy.items() if a >= target), default=None)


def _cell(found: Sweep, T: int) -> str:
    for one in found:
        e = one.evaluation
        if one.point.integers.T == T and e is not None:
            shown = "" if e.accuracy is None else f"{e.accuracy:.2%}  "
            return e.problem.code if e.problem is not None else f"{shown}{e.spikes_a_sample:,.0f}"
    return ""


def _draw(sweeps: dict[str, Sweep], predicted: float) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, found in sweeps.items():
        points = [(o.point.integers.T, o.evaluation) for o in found if o.evaluation is not None]
        left.plot([T for T, _ in points], [100 * (e.accuracy or 0) for _, e in points], "o-", ms=4)
        right.plot([T for T, _ in points], [e.spikes_a_sample for _, e in points], "o-", label=name)
    left.axvline(predicted, color="k", ls="--", lw=1)
    left.set_ylabel("accuracy, %")
    right.set_ylabel("spikes an inference")
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.set_xlabel("T")
        axes.set_xticks(STEPS)
    figure.suptitle("Table VI again: trained models compiled at each T, emulated", fontsize=11)
    return figure
