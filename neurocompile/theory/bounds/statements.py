"""The paper's statements: what each says, how sure its formula is, and what we found. Commands
print this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["PAPER", "PATTERNS", "STATEMENTS", "Kind", "Statement", "Status", "statement"]

PATTERNS = "pattern count"
"""Name of our own bound (:mod:`neurocompile.theory.bounds.pattern_bound`), which is no statement of the
paper.
"""
PAPER = "Guo, Wu, Yiu, arXiv:2604.15769 (2026)"


class Status(str, Enum):
    """Where a formula comes from."""

    stated = "stated"
    """In the paper's abstract or text, or the one formula that reproduces a whole table of it."""
    reconstructed = "reconstructed"
    """Lost in conversion; rebuilt from the named proof technique. Constants are ours, and
    parameters.
    """
    fitted = "fitted"
    """A constant that was fitted to measurements, with an interval."""
    unknown = "unknown"
    """Cannot be recovered: a choice of ours stands in its place."""


class Kind(str, Enum):
    """What a number in a report is."""

    measured = "measured"
    modelled = "modelled"
    bound = "bound"
    claim = "claim"
    """The paper's, printed beside ours and never used."""


@dataclass(frozen=True)
class Statement:
    """One statement of the paper."""

    name: str
    says: str
    formula: str
    status: Status
    found: str
    """What holds, what does not, and how we know."""
    function: str
    """Where it is, below ``neurocompile.theory``."""


STATEMENTS: tuple[Statement, ...] = (
    Statement(
        "Lemma 1",
        "steps until a stochastic rate is within eps with probability 1 - delta",
        "T >= ln(2/delta) / (2 eps^2)",
        Status.reconstructed,
        "Hoeffding's inequality: true; at delta = 0.05 a rate of 1/2 needs half of these steps, others fewer",
        "bounds.rate_coding.hoeffding_steps",
    ),
    Statement(
        "Lemma 2",
        "exp(x) by k-way coincidence of Bernoulli trains",
        "exp(x) ~ sum_{k<=K} x^k/k!;  T = C e^{2B} / eps^2",
        Status.reconstructed,
        "true with C = 1/4; low-discrepancy trains need O(1/eps) instead",
        "bounds.exponential.coincidence_steps",
    ),
    Statement(
        "Theorem 4",
        "softmax normalization by lateral inhibition",
        "T = ln(2n/delta) / (2 eps^2) = O(log n / eps^2)",
        Status.reconstructed,
        "true for divisive inhibition with stochastic spikes; Lemma 3's subtractive circuit converges to "
        "winner-take-all instead; a deterministic divisive circuit needs 1/eps",
        "bounds.normalization.normalization_steps",
    ),
    Statement(
        "Lemma 5",
        "ReLU as a firing rate",
        "rate = min(max(x, 0) / V_th, 1) up to O(1/sqrt(T))",
        Status.reconstructed,
        "true only without leak and with soft reset, and then better than stated: V_th/T, or V_th/(2T) "
        "from a membrane at V_th/2; a leak or a hard reset leaves an error that no T removes",
        "bounds.rate_coding.relu_rate",
    ),
    Statement(
        "Lemma 6",
        "softmax attention weights by spikes",
        "error <= C sqrt(log n / T) + eps_exp",
        Status.reconstructed,
        "form as stated; C is not given",
        "bounds.normalization.softmax_error",
    ),
    Statement(
        "Theorem 7",
        "a spiking transformer of L layers within eps of any continuous equivariant function",
        "eps/L a layer, so T = C L^2 log n / eps^2",
        Status.reconstructed,
        "the division of eps over layers is stated; the product of Lipschitz constants behind a layer is missing from it",
        "bounds.universal.universal_steps",
    ),
    Statement(
        "Theorem 8",
        "spikes that eps costs at least",
        "N >= c L_f^2 n d / eps^2",
        Status.stated,
        "the form is stated, c is not. 1/eps^2 is the law of Bernoulli rate coding; deterministic coding needs 1/eps and falls "
        "below any c as eps shrinks (reproduce table3), so it is no lower bound on spiking networks",
        "bounds.spike_bound.spike_bound",
    ),
    Statement(
        "Corollary 9",
        "energy that eps costs at least",
        "E >= E_s N,  E_s = 23.6 pJ",
        Status.reconstructed,
        "prices a spike as one synaptic operation of Loihi (Davies 2018); real models do hundreds a spike, so it is true and "
        "very weak",
        "bounds.spike_bound.energy_bound",
    ),
    Statement(
        "Theorem 10",
        "Theorem 8 for inputs of effective dimension d_eff",
        "N >= c L_f^2 n d_eff / eps^2",
        Status.stated,
        "lowers the number of spikes by d/d_eff, not T; d_eff is measured on flattened samples, so n is 1 here",
        "bounds.spike_bound.spike_bound",
    ),
    Statement(
        "Definition 3",
        "effective dimension",
        "principal components that hold 95 % of the variance",
        Status.stated,
        "CIFAR-10 gives 197 at 95 % and 93 at 90 %; the paper's 47 is the 83 to 84 % point (neurocompile deff)",
        "measure.effective_dimension.effective_dimension",
    ),
    Statement(
        "Theorem 11",
        "spiking attention lies in TC0",
        "constant depth, polynomial size",
        Status.stated,
        "true for T = O(log n): with hard reset our constant-depth circuit has 2^T gates a neuron; unrolled, its depth is T",
        "bounds.complexity.complexity",
    ),
    Statement(
        "Corollary 12",
        "bounded spike counts cannot compute PARITY",
        "",
        Status.stated,
        "bounded spikes do fail as n grows (reproduce complexity); but the reason given is wrong: PARITY lies in TC0, and n "
        "threshold neurons compute it",
        "experiments.parity_task.parity_accuracy",
    ),
    Statement(
        "Theorem 13",
        "T from d_eff and a target accuracy",
        "T = C log10(d_eff),  C = 2.3, 95 % CI [1.9, 2.7]",
        Status.unknown,
        "equation (5) is lost, and no function that grows in d_eff makes Table VI; C log10(d_eff) fits the first row of each "
        "dataset within 5 % and ignores the accuracy",
        "bounds.timesteps.RULES",
    ),
)

_BY_NAME = {s.name: s for s in STATEMENTS}


def statement(name: str) -> Statement:
    """The statement called ``name``."""
    return _BY_NAME[name]
