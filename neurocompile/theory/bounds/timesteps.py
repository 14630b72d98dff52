"""How many steps: named rules, each with its basis, because Theorem 13 cannot be recovered.

The one to trust is ``measured``: the sweep of T on the emulator (:mod:`neurocompile.theory.measure.sweep`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log10, sqrt

from neurocompile.parameters import count, positive, whole_steps
from neurocompile.theory.bounds.rate_coding import hoeffding_steps
from neurocompile.theory.bounds.statements import Kind, Status
from neurocompile.theory.bounds.units import LayerError, LogitError, RateError

__all__ = [
    "PAPER_CONSTANT",
    "PAPER_INTERVAL",
    "RULES",
    "Known",
    "Rule",
    "Steps",
    "choose",
    "rate_error",
]

PAPER_CONSTANT = 2.3
PAPER_INTERVAL = (1.9, 2.7)


@dataclass(frozen=True)
class Known:
    """What a rule may ask for; None where nobody knows."""

    rate_error: RateError | None = None
    """Largest error of a neuron's rate that the goal allows (:func:`rate_error`)."""
    d_eff: float | None = None
    constant: float = PAPER_CONSTANT
    interval: tuple[float, float] | None = PAPER_INTERVAL
    delta: float = 0.05
    measured: int | None = None
    """Smallest T of a sweep that reached the goal."""
    goal: str = ""


@dataclass(frozen=True)
class Steps:
    """What a rule answers: ``T`` steps (None: it lacks something, and ``remark`` says what)."""

    rule: str
    T: int | None
    interval: tuple[int, int] | None
    kind: Kind
    status: Status | None
    """None: no statement of the paper."""
    basis: str
    remark: str = ""


@dataclass(frozen=True)
class Rule:
    """A named rule: ``function`` gives T, its interval and a remark."""

    name: str
    kind: Kind
    status: Status | None
    basis: str
    function: Callable[[Known], tuple[int | None, tuple[int, int] | None, str]]

    def __call__(self, known: Known) -> Steps:
        """The rule's answer."""
        T, interval, remark = self.function(known)
        return Steps(self.name, T, interval, self.kind, self.status, self.basis, remark)


def _fitted(known: Known) -> tuple[int | None, tuple[int, int] | None, str]:
    if known.d_eff is None:
        return (
            None,
            None,
            "needs the data's effective dimension: `data` with at least two samples",
        )
    scale = log10(max(positive("d_eff", known.d_eff), 1.0))
    positive("constant", known.constant)
    if known.interval is not None:
        positive("interval", known.interval[0]), positive("interval", known.interval[1])
    ends = (
        None
        if known.interval is None
        else (_steps(known.interval[0] * scale), _steps(known.interval[1] * scale))
    )
    return (
        _steps(known.constant * scale),
        ends,
        f"{known.constant:g} x log10({known.d_eff:.4g}) = {known.constant * scale:.2f}",
    )


def _deterministic(known: Known) -> tuple[int | None, tuple[int, int] | None, str]:
    if known.rate_error is None:
        return None, None, "needs the error of a rate: `epsilon`"
    return (
        whole_steps(1 / positive("the error of a rate", known.rate_error) - 1e-9),
        None,
        f"1 / {known.rate_error:.3g}, the error that Theorem 7 leaves a rate",
    )  # 1 / 0.01 is above 100 in floats


def _stochastic(known: Known) -> tuple[int | None, tuple[int, int] | None, str]:
    if known.rate_error is None:
        return None, None, "needs the error of a rate: `epsilon`"
    return (
        hoeffding_steps(known.rate_error, known.delta),
        None,
        f"ln(2 / {known.delta:g}) / (2 x {known.rate_error:.3g}^2)",
    )


def _measured(known: Known) -> tuple[int | None, tuple[int, int] | None, str]:
    if known.measured is None:
        return None, None, known.goal or "needs a sweep on the emulator: `data`"
    return count("measured", known.measured), None, known.goal


def _steps(value: float) -> int:
    return whole_steps(value - 1e-9)


RULES: tuple[Rule, ...] = (
    Rule(
        "fitted",
        Kind.modelled,
        Status.unknown,
        "stands for Theorem 13: T = C log10(d_eff), whatever the accuracy",
        _fitted,
    ),
    Rule(
        "deterministic",
        Kind.bound,
        Status.reconstructed,
        "enough steps: a rate of T deterministic spikes is within 1/T",
        _deterministic,
    ),
    Rule(
        "stochastic",
        Kind.bound,
        Status.reconstructed,
        "enough steps: Lemma 1, T = ln(2/delta) / (2 eps^2) for the error eps of a rate",
        _stochastic,
    ),
    Rule("measured", Kind.measured, None, "the sweep of T on the emulator", _measured),
)


def rate_error(eps: LogitError, layers: Sequence[tuple[float, int]]) -> RateError | None:
    """The error that every neuron's rate may have, in the layer that allows least.

    Theorem 7 leaves each of K layers eps / K of the output's error. A layer whose rates move the
    logits by D per unit of their Euclidean distance may then be off by eps / (K D), and each of its
    m neurons by eps / (K D sqrt(m)) if all are.

    Args:
        eps: Euclidean error of the logits.
        layers: (D, neurons) of each.
    """
    found = [
        LayerError(positive("epsilon", eps) / (len(layers) * sensitivity)) / sqrt(neurons)
        for sensitivity, neurons in layers
        if sensitivity > 0
    ]
    return RateError(min(found)) if found else None


def choose(known: Known) -> tuple[Steps, ...]:
    """Every rule's answer."""
    return tuple(rule(known) for rule in RULES)
