"""Tables II and III: attention on rate-coded inputs.

The paper's target function is lost; its spike counts (about 450 a step) fit 1,024 values of mean
rate 0.44, so we take n = 16 tokens of d = 64 values, uniform in 0..1, and ``f(X) = softmax(X X^T /
sqrt(d)) X``. The attention itself is computed in floating point on the decoded rates, so the error
is that of the code alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.parameters import whole_steps
from neurocompile.theory.bounds.codes import CODES
from neurocompile.theory.bounds.pattern_bound import bits_of_rms, least_spikes
from neurocompile.theory.experiments.paper import TABLE2, TABLE3
from neurocompile.theory.experiments.result import Result, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TARGETS", "slope", "table2", "table3"]

N, D = 16, 64
_LARGEST_T = 1 << 18
_RESAMPLES = 1000


def attention(x: np.ndarray) -> np.ndarray:
    """``softmax(X X^T / sqrt(d)) X`` for X (..., n, d)."""
    scores = x @ np.swapaxes(x, -1, -2) / np.sqrt(x.shape[-1])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)) @ x


TARGETS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the values": lambda x: x,
    "attention": attention,
}
"""What is read from the rates: the encoded values themselves, or attention on them."""


def slope(T: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """Least-squares slope of log error over log T, and its standard error."""
    x, y = np.log(np.asarray(T, float)), np.log(np.asarray(error, float))
    x, y = x - x.mean(), y - y.mean()
    found = float((x * y).sum() / (x**2).sum())
    rest = ((y - found * x) ** 2).sum() / max(len(x) - 2, 1)
    return found, float(np.sqrt(rest / (x**2).sum()))


def _trial(code: str, target: str, T: int, seed: int) -> tuple[float, int]:
    """(mean squared error, spikes) of one random input."""
    x = np.random.default_rng((seed, 0)).random((N, D))
    counts = CODES[code](x, T, np.random.default_rng((seed, 1, T)))
    read = TARGETS[target]
    return float(((read(counts / T) - read(x)) ** 2).mean()), int(counts.sum())


def table2(seeds: int = 10) -> Result:
    """MSE and spikes against T, ``seeds`` random inputs each."""
    steps = [T for T, _, _ in TABLE2]
    found: dict[str, Any] = {}
    for target in TARGETS:
        for code in CODES:
            trials = np.array(
                [[_trial(code, target, T, seed) for seed in range(seeds)] for T in steps], float
            )
            fit = slope(np.array(steps), trials[:, :, 0].mean(axis=1))
            found[f"{target}, {code}"] = {
                "mse": trials[:, :, 0].mean(axis=1).tolist(),
                "std": trials[:, :, 0].std(axis=1, ddof=1).tolist(),
                "spikes": trials[:, :, 1].mean(axis=1).tolist(),
                "slope": fit[0],
                "slope_error": fit[1],
            }
    tables = tuple(
        Table(
            f"MSE x 1000 of {target} (mean +- std over {seeds} inputs)",
            (">T", ">paper", ">1/T^2", *(f">{code}" for code in CODES)),
            tuple(
                (
                    T,
                    f"{1e3 * mse:.3g}",
                    f"{1e3 / T**2:.3g}",
                    *(
                        f"{1e3 * found[f'{target}, {code}']['mse'][i]:.3g} +- {1e3 * found[f'{target}, {code}']['std'][i]:.1g}"
                        for code in CODES
                    ),
                )
                for i, (T, mse, _) in enumerate(TABLE2)
            )
            + (
                (
                    "slope",
                    f"{slope(np.array(steps), np.array([m for _, m, _ in TABLE2]))[0]:.2f}",
                    "-2.00",
                    *(
                        f"{found[f'{target}, {code}']['slope']:.2f} +- {found[f'{target}, {code}']['slope_error']:.2f}"
                        for code in CODES
                    ),
                ),
            ),
        )
        for target in TARGETS
    )
    spikes = Table(
        "spikes",
        (">T", ">paper", *(f">{code}" for code in CODES)),
        tuple(
            (
                T,
                f"{paper:,}",
                *(f"{found[f'the values, {code}']['spikes'][i]:,.0f}" for code in CODES),
            )
            for i, (T, _, paper) in enumerate(TABLE2)
        ),
    )
    notes = (
        "The codes run in numpy; the same as circuits of neurons, on the emulator: neurocompile reproduce circuits.",
        "The paper's MSE falls as 1/T^2, which is deterministic coding; its Lemma 1 and Theorem 4 promise only 1/T (Bernoulli).",
        "Its target function is lost, so absolute errors need not agree; the slopes and the spikes do not depend on it.",
        "A hard reset with leak (the models' neuron) is no rate code of the value: its error stays, whatever T.",
    )
    return Result(
        "table2",
        f"n = {N}, d = {D}, uniform inputs; codes in numpy, attention in floating point",
        (*tables, spikes),
        notes,
        found,
        lambda: _draw(steps, found),
    )


def _draw(steps: list[int], found: dict[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.3), dpi=110, layout="constrained")
    for axes, target in zip(figure.subplots(1, 2, sharey=True), TARGETS, strict=True):
        for i, code in enumerate(CODES):
            one = found[f"{target}, {code}"]
            axes.loglog(
                steps, one["mse"], "o-", color=f"C{i}", label=f"{code} ({one['slope']:.2f})", ms=4
            )
        axes.loglog(steps, [m for _, m, _ in TABLE2], "kx--", lw=1, label="the paper's (claim)")
        axes.loglog(steps, [T**-2.0 for T in steps], ":", color="0.5", lw=1, label="1/T^2")
        axes.set_xlabel("T")
        axes.set_title(f"error of {target}", fontsize=10)
        axes.legend(fontsize=8)
        axes.set_xticks(steps, [str(T) for T in steps])
    figure.axes[0].set_ylabel("mean squared error")
    figure.suptitle("Table II again: MSE against T (slope in brackets)", fontsize=11)
    return figure


def _needed(code: str, target: str, eps: float, seed: int) -> int | None:
    """Spikes at the smallest T whose root mean square error is at most eps, for one input; None if
    no T reaches it.
    """

    def reach(T: int) -> bool:
        return _trial(code, target, T, seed)[0] <= eps * eps

    high = 1
    while not reach(high):
        high *= 2
        if high > (_LARGEST_T if code != "hard-reset LIF" else 256):
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reach(middle) else (middle, high)
    return _trial(code, target, high, seed)[1]


def table3(seeds: int = 10) -> Result:
    """Spikes needed for epsilon and the ratio to the paper's theory, with bootstrap intervals over
    ``seeds`` inputs.
    """
    found: dict[str, Any] = {}
    tables = []
    rng = np.random.default_rng(0)
    for target in TARGETS:
        rows = []
        for eps, paper, theory in TABLE3:
            T = whole_steps(1 / eps - 1e-9)
            least = least_spikes(N * D, T, bits_of_rms(N * D, eps))
            row: list[Any] = [
                f"{eps:g}",
                f"{paper:,} ({paper / theory:.2f})",
                f"{theory:,}",
                f"{least:,}" if target == "the values" else "",
            ]
            for code in CODES:
                trials = [_needed(code, target, eps, seed) for seed in range(seeds)]
                spikes = np.array([t for t in trials if t is not None], float)
                entry: dict[str, Any] = {
                    "eps": eps,
                    "theory": theory,
                    "spikes": None,
                    "ratio": None,
                    "interval": None,
                }
                if len(spikes) == seeds:
                    means = (
                        spikes[rng.integers(0, seeds, (_RESAMPLES, seeds))].mean(axis=1) / theory
                    )
                    entry |= {
                        "spikes": float(spikes.mean()),
                        "ratio": float(spikes.mean() / theory),
                        "interval": [float(v) for v in np.percentile(means, (2.5, 97.5))],
                    }
                    low, high = entry["interval"]
                    row.append(
                        f"{spikes.mean():,.0f} ({entry['ratio']:.3g} [{low:.3g}, {high:.3g}])"
                    )
                else:
                    row.append("never")
                found.setdefault(f"{target}, {code}", []).append(entry)
            rows.append(tuple(row))
        tables.append(
            Table(
                f"spikes until the rms error of {target} is epsilon (ratio to theory, 95 % interval)",
                (
                    ">epsilon",
                    ">paper",
                    ">10.24/eps^2",
                    ">any code, T = 1/eps",
                    *(f">{code}" for code in CODES),
                ),
                tuple(rows),
            )
        )
    slopes = {}
    for name, entries in found.items():
        if all(e["spikes"] for e in entries):
            slopes[name] = slope(
                np.array([e["eps"] for e in entries]), np.array([e["spikes"] for e in entries])
            )[0]
    notes = (
        "The codes run in numpy; the same as circuits of neurons, on the emulator: neurocompile reproduce circuits.",
        "Theorem 8's 1/eps^2 is the law of Bernoulli coding alone: exponents found are "
        + "; ".join(f"{name} {value:.2f}" for name, value in slopes.items())
        + ".",
        "Deterministic codes fall below the 'lower bound' 10.24/eps^2 as epsilon shrinks, by a factor that grows: Theorem 8 bounds "
        "stochastic rate coding, not spiking networks.",
        "Any code: the fewest spikes that make enough patterns for these numbers in 1/epsilon steps (bound; "
        "neurocompile.theory.bounds.pattern_bound). It does hold below every code, and falls as steps grow.",
        "The constant 10.24 belongs to the paper's lost target. Attention averages over tokens, so there Bernoulli spikes are "
        "below it too, by a constant factor; the exponent is what can be compared.",
        "The paper's ratios fall with epsilon: its own measurements do not go as 1/eps^2 either.",
    )
    return Result(
        "table3",
        f"n = {N}, d = {D}, uniform inputs, {seeds} of them; codes in numpy",
        tuple(tables),
        notes,
        {"points": found, "exponents": slopes},
        lambda: _draw3(found),
    )


def _draw3(found: dict[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.3), dpi=110, layout="constrained")
    for axes, target in zip(figure.subplots(1, 2, sharey=True), TARGETS, strict=True):
        for i, code in enumerate(CODES):
            good = [e for e in found[f"{target}, {code}"] if e["spikes"]]
            label = code if good else f"{code}: never"
            axes.loglog(
                [e["eps"] for e in good],
                [e["spikes"] for e in good],
                "o-",
                color=f"C{i}",
                label=label,
                ms=4,
            )
        axes.loglog(
            [e for e, _, _ in TABLE3],
            [p for _, p, _ in TABLE3],
            "kx--",
            lw=1,
            label="the paper's (claim)",
        )
        axes.loglog(
            [e for e, _, _ in TABLE3],
            [t for _, _, t in TABLE3],
            ":",
            color="0.4",
            label="10.24/eps^2 ('lower bound')",
        )
        axes.set_xlabel("epsilon (rms)")
        axes.set_title(f"error of {target}", fontsize=10)
        axes.legend(fontsize=8)
    figure.axes[0].set_ylabel("spikes needed")
    figure.suptitle("Table III again: spikes against epsilon", fontsize=11)
    return figure
