"""What the theory says of a model, and beside it what the emulator measures: the content of
``neurocompile budget``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.mapping.budget import LayerShare
from neurocompile.parameters import between, positive
from neurocompile.theory.bounds.complexity import Complexity, complexity
from neurocompile.theory.bounds.lipschitz import LayerGain, LipschitzBound, layer_gains
from neurocompile.theory.bounds.margin import check_accuracy, epsilon_for_accuracy
from neurocompile.theory.bounds.shares import layer_demand, shares
from neurocompile.theory.bounds.timesteps import Known, Steps, choose, rate_error
from neurocompile.theory.bounds.units import LogitError
from neurocompile.theory.measure.beside import Beside, Setting, statements
from neurocompile.theory.measure.calibrate import Fit, fit_constant
from neurocompile.theory.measure.data_rows import Rows
from neurocompile.theory.measure.effective_dimension import EffectiveDimension, effective_dimension
from neurocompile.theory.measure.sensitivity import (
    LARGEST_RADIUS,
    LEAST_RADIUS,
    LocalLipschitz,
    affordable,
    layer_sensitivity,
    local_lipschitz,
)
from neurocompile.theory.measure.subject import Subject
from neurocompile.theory.measure.sweep import (
    STEPS,
    Point,
    Run,
    reference_steps,
    run_at,
    smallest,
    sweep,
)

__all__ = ["Examination", "examine"]

_SHARE = 0.1
"""Of the logits' size: the error where none can be measured and none is given."""


@dataclass(frozen=True)
class Examination:
    """What :func:`examine` found."""

    model: str
    T: int
    samples: int
    origin: str
    eps: float
    eps_basis: str
    tokens: int
    channels: int
    dimension: EffectiveDimension | None
    bound: LipschitzBound | None
    bound_missing: str
    gains: tuple[LayerGain, ...]
    """Of the layers, whether or not they make a bound."""
    local: LocalLipschitz
    reached: Point | None
    """Smallest T of the sweep with an error of at most eps."""
    run: Run
    beside: tuple[Beside, ...]
    layers: tuple[LayerShare, ...]
    demand: float
    """Spikes that Theorem 7's division asks for: the sum over layers."""
    steps: tuple[Steps, ...]
    sweep: tuple[Point, ...]
    complexity: Complexity
    fit: Fit | None
    left_out: tuple[str, ...] = ()
    """What this model does not allow, and why, in words."""


def examine(
    subject: Subject,
    x: np.ndarray,
    y: np.ndarray | None = None,
    *,
    origin: str,
    T: int | None = None,
    eps: float | None = None,
    accuracy: float | None = None,
    constant: float = 1.0,
    rows: Rows | None = None,
    calibrate: bool = False,
    steps: Sequence[int] = STEPS,
    radius: float = 0.1,
    progress: bool = False,
) -> Examination:
    """Examine ``subject`` on float32 ``x`` (samples, *input shape).

    Args:
        origin: what ``x`` is, in words.
        T: steps that the layers' measured spikes are of; the subject's by default.
        eps: target error of the logits (Euclidean); or
        accuracy: that, through the margins of the model on ``x`` with labels ``y``; with neither,
            the error measured at T (a share of the logits where a subject runs at its own T alone).
        constant: Theorem 8's c.
        rows: data to measure d_eff on; None for pseudo-random inputs, which have none.

    Raises NC8003, NC8006, NC8007, NC8011.
    """
    T = subject.T if T is None else T
    _check_wishes(eps, accuracy, radius, constant)
    left_out: list[str] = []
    if subject.behind:
        if accuracy is not None:
            raise NeurocompileError(
                "NC8011",
                f"an accuracy of '{subject.name}' is made on the host ({subject.behind}); give an epsilon, "
                "the error of the values that the chip gives",
            )
        y = None
        left_out.append(
            f"accuracies, and what the host computes ({subject.behind}): errors are of the values that the chip gives"
        )
    run = run_at(subject, x, T, progress)
    points = _swept(subject, x, y, T, steps, calibrate, progress, left_out)
    goal, basis = _goal(subject, x, y, points, run, eps, accuracy, progress)
    reached = smallest(points, goal)
    quantized, circuit = subject.at(T)
    gains, value = layer_gains(subject.canonical or quantized)
    bound, missing = None, ""
    if isinstance(value, NeurocompileError):
        missing = str(value)
        left_out.append(f"L_f's upper bound: {value.message}")
    else:
        bound = LipschitzBound(value, gains)
    place = quantized, subject.device
    local = local_lipschitz(circuit, x, radius, on=place, progress=progress)
    if local.largest <= 0:
        raise NeurocompileError(
            "NC8003",
            f"no disturbance of {radius:.3g} times a sample moves the logits, so L is 0 and a bound says "
            "nothing; raise `radius`, or give other samples",
        )
    dimension = effective_dimension(rows, progress=progress) if rows is not None else None
    channels = subject.input_shape[0] if len(subject.input_shape) == 3 else subject.input_shape[-1]
    tokens = int(np.prod(subject.input_shape)) // channels
    spent = reached.spikes if reached else run.total
    at = reached.T if reached else T
    setting = Setting(subject, x, goal, local, (tokens, channels), dimension, constant, spent, at)
    beside = statements(setting, bound, _where(at, reached, points), run, left_out)
    few = x[: affordable(sum(p.size for p in circuit.populations))]
    layers_of = [v.layer for v in circuit.views]
    sensitivity = layer_sensitivity(
        quantized, few, T, layers_of, device=subject.device, progress=progress
    )
    total = next(
        b.theory for b in beside if b.statement == ("Theorem 10" if dimension else "Theorem 8")
    )
    layers = shares(circuit, total, sensitivity, run.spikes)
    demand = sum(layer_demand(s.n, s.d, s.sensitivity, len(layers), goal, constant) for s in layers)
    fit = None
    if calibrate:
        size = dimension.mean if dimension else tokens * channels
        chosen = [p for p in points if p.eps > 0]
        scale = local.largest**2 * size
        fit = fit_constant(
            np.array([p.eps for p in chosen]), np.array([p.spikes for p in chosen]), scale
        )
    return Examination(
        subject.name,
        T,
        len(x),
        origin,
        goal,
        basis,
        tokens,
        channels,
        dimension,
        bound,
        missing,
        gains,
        local,
        reached,
        run,
        beside,
        layers,
        demand,
        _steps(points, LogitError(goal), accuracy, dimension, layers),
        points,
        complexity(circuit),
        fit,
        tuple(left_out),
    )


def _check_wishes(
    eps: float | None, accuracy: float | None, radius: float, constant: float
) -> None:
    if eps is not None and accuracy is not None:
        raise NeurocompileError(
            "NC8003", "both an epsilon and an accuracy are given; give one of them"
        )
    between("radius", radius, LEAST_RADIUS, LARGEST_RADIUS), positive("constant", constant)
    if eps is not None:
        positive("epsilon", eps)
    if accuracy is not None:
        check_accuracy(accuracy)


def _swept(
    subject: Subject,
    x: np.ndarray,
    y: np.ndarray | None,
    T: int,
    steps: Sequence[int],
    calibrate: bool,
    progress: bool,
    left_out: list[str],
) -> tuple[Point, ...]:
    """The sweep over ``steps`` and T; none where the subject runs at its own T alone."""
    if subject.only_T:
        if calibrate:
            raise NeurocompileError(
                "NC8011",
                f"nothing to fit c on: this artifact's softmax runs at T = {T} alone; give its ONNX file",
            )
        left_out.append(
            f"the sweep of T, and with it the measured error: integers that sum over a sample's steps, as a softmax does, hold for T = {T} alone (the ONNX "
            "file is quantized anew for each T)"
        )
        return ()
    wanted = sorted({*steps, T})
    points = sweep(subject, x, y, wanted, progress)
    if missing_steps := sorted(set(wanted) - {p.T for p in points}):
        left_out.append(
            f"T = {', '.join(map(str, missing_steps))} of the sweep: the model's softmax has phases and needs more steps"
        )
    return points


def _goal(
    subject: Subject,
    x: np.ndarray,
    y: np.ndarray | None,
    points: Sequence[Point],
    run: Run,
    eps: float | None,
    accuracy: float | None,
    progress: bool,
) -> tuple[float, str]:
    """The error that all is about, and where it comes from in words."""
    if accuracy is not None:
        if y is None:
            raise NeurocompileError(
                "NC8006", "`accuracy` needs samples with labels: `data` with 'x' and 'y'"
            )
        far = (
            run_at(subject, x, reference_steps([p.T for p in points]), progress, helpers=False)
            if points
            else run
        )
        basis = f"certainly leaves {accuracy:.2%} of {len(x)} samples right (margins measured at T = {far.T})"
        return epsilon_for_accuracy(far.logits, y, accuracy), basis
    if eps is not None:
        return eps, "given"
    if points:
        goal = next(p.eps for p in points if p.T == run.T)
        basis = (
            f"error measured at T = {run.T}, against T = {reference_steps([p.T for p in points])}"
        )
    else:
        goal = _SHARE * float(np.sqrt((run.logits**2).sum(axis=1).mean()))
        basis = f"a choice, {_SHARE:.0%} of the logits' rms size: this artifact allows no sweep to measure an error in"
    if goal <= 0:
        what = "the logits do not depend on T" if points else "all logits are"
        raise NeurocompileError(
            "NC8003", f"the error measured at T = {run.T} is 0: {what}; give `epsilon`"
        )
    return goal, basis


def _where(T: int, reached: Point | None, points: Sequence[Point]) -> str:
    """Of which spikes a comparison is, in words."""
    note = (
        ""
        if reached
        else ", the error is not reached in the sweep"
        if points
        else ", whatever its error (no sweep)"
    )
    return f"spikes of the layers at T = {T}{note}"


def _steps(
    points: Sequence[Point],
    eps: LogitError,
    accuracy: float | None,
    dimension: EffectiveDimension | None,
    layers: Sequence[LayerShare],
) -> tuple[Steps, ...]:
    point = smallest(points, None, accuracy) if accuracy is not None else smallest(points, eps)
    wish = f"accuracy >= {accuracy:.2%}" if accuracy is not None else f"error <= {eps:.4g}"
    goal = (
        f"first of the sweep with {wish}"
        if point
        else f"no T up to {max(p.T for p in points)} gives {wish}"
        if points
        else ("left out: this artifact allows no sweep")
    )
    known = Known(
        rate_error=rate_error(eps, [(k.sensitivity, k.n * k.d) for k in layers]),
        d_eff=dimension.mean if dimension else None,
        measured=point.T if point else None,
        goal=goal,
    )
    return choose(known)
