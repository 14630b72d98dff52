"""How many steps: named rules, each with its basis, because Theorem 13 cannot be recovered.

The one to trust is ``measured``: the sweep of T on the emulator (:mod:`neurocompile.theory.sweep`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log10

from neurocompile.theory.check import count, positive, whole_steps
from neurocompile.theory.rate_coding import hoeffding_steps
from neurocompile.theory.statements import Kind, Status

__all__ = ["PAPER_CONSTANT", "PAPER_INTERVAL", "RULES", "Known", "Rule", "Steps", "choose"]

PAPER_CONSTANT = 2.3
PAPER_INTERVAL = (1.9, 2.7)


@dataclass(frozen=True)
class Known:
    """What a rule may ask for; None where nobody knows."""

    eps: float | None = None
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
            "needs the data's effective dimension: --data X.npz with at least two samples",
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
    if known.eps is None:
        return None, None, "needs an error: --epsilon"
    return (
        whole_steps(1 / positive("epsilon", known.eps) - 1e-9),
        None,
        f"1 / {known.eps:g}",
    )  # 1 / 0.01 is above 100 in floats


def _stochastic(known: Known) -> tuple[int | None, tuple[int, int] | None, str]:
    if known.eps is None:
        return None, None, "needs an error: --epsilon"
    return (
        hoeffding_steps(known.eps, known.delta),
        None,
        f"ln(2 / {known.delta:g}) / (2 x {known.eps:g}^2)",
    )


def _measured(known: Known) -> tuple[int | None, tuple[int, int] | None, str]:
    if known.measured is None:
        return None, None, known.goal or "needs a sweep on the emulator: --data X.npz"
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
        "a rate of T deterministic spikes is within 1/T: T = ceil(1/eps)",
        _deterministic,
    ),
    Rule(
        "stochastic",
        Kind.bound,
        Status.reconstructed,
        "Lemma 1: T = ln(2/delta) / (2 eps^2)",
        _stochastic,
    ),
    Rule("measured", Kind.measured, None, "the sweep of T on the emulator", _measured),
)


def choose(known: Known) -> tuple[Steps, ...]:
    """Every rule's answer."""
    return tuple(rule(known) for rule in RULES)
