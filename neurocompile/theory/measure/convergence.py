"""How fast the circuits converge: errors against T on random inputs, measured on the emulator, with
slopes and intervals.

One run of the longest T gives all shorter ones, because a rate after T steps is a mean over the
first T. Softmax attention divides a sample into phases, so it is a circuit of its own for each T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import encode
from neurocompile.circuits.attention import attention, softmax_attention
from neurocompile.circuits.exponential import (
    LEVELS,
    exponential,
    exponential_on_chip,
    random_thresholds,
    sobol_thresholds,
)
from neurocompile.circuits.normalize import normalization, stochastic_normalization
from neurocompile.circuits.one_winner import one_winner
from neurocompile.circuits.random_bits import seeds
from neurocompile.circuits.rate_relu import rate_relu
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.evaluate import encode_input
from neurocompile.parameters import whole
from neurocompile.passes.schedule import schedule
from neurocompile.targets.fields import LOIHI2
from neurocompile.theory.measure.attention_block import (
    attention_block,
    compiled_block,
    float_attention,
)

__all__ = ["CIRCUITS", "STEPS", "Curve", "measure", "prepared"]

STEPS = tuple(1 << i for i in range(2, 13))
_N, _LARGEST, _K, _BITS, _RELU_UNIT = 16, 63, 6, 10, 15
_TOKENS, _CHANNELS, _LEVELS, _SCORE = 8, 4, 63, 3.0
_BATCH = 25
_BOOTSTRAP = 1000


@dataclass(frozen=True)
class Curve:
    """``errors`` float64 (number of T, inputs): the largest error over a circuit's outputs.
    ``error`` is their root mean square over inputs, ``slope`` the least-squares slope of log error
    against log T, with a 95 % bootstrap interval over inputs."""

    name: str
    steps: tuple[int, ...]
    errors: np.ndarray
    slope: float
    interval: tuple[float, float]

    @property
    def error(self) -> np.ndarray:
        """Root mean square over inputs, float64 (number of T,)."""
        return np.sqrt((self.errors**2).mean(axis=1))

    @property
    def mean(self) -> np.ndarray:
        """Mean over inputs, float64 (number of T,)."""
        return self.errors.mean(axis=1)

    @property
    def largest(self) -> np.ndarray:
        """Of all inputs, float64 (number of T,)."""
        return self.errors.max(axis=1)


@dataclass(frozen=True)
class Case:
    """A circuit, its random input and what its readout should be."""

    circuit: CircuitGraph
    x: np.ndarray
    expected: np.ndarray


def _normalization(kind: str, samples: int, steps: int, rng: np.random.Generator) -> Case:
    x = rng.integers(1, _LARGEST + 1, (samples, _N)).astype(np.int32)
    total = x.sum(axis=1, keepdims=True)
    if kind == "one winner":
        return Case(one_winner(_N, _N * _LARGEST, steps), x, x / total)
    if kind == "stochastic":
        noise = rng.integers(0, total[:, None], (samples, steps, _N))
        fed = np.concatenate([np.broadcast_to(x[:, None], noise.shape), noise], axis=2).astype(
            np.int32
        )
        return Case(stochastic_normalization(_N, _N * _LARGEST, steps), fed, x / total)
    return Case(normalization(_N, _N * _LARGEST, steps, half=kind == "half"), x, x / total)


def _exponential(kind: str, samples: int, steps: int, rng: np.random.Generator) -> Case:
    x = rng.random(samples)
    if kind == "on chip":
        level = np.rint(x * (1 << _BITS)).astype(np.int32)
        fed = np.concatenate([level[:, None], seeds(samples, _K * _BITS, rng)], axis=1)
        return Case(
            exponential_on_chip(_K, _BITS, steps), fed, np.exp(level / (1 << _BITS))[:, None]
        )
    level = np.rint(x * LEVELS).astype(np.int32)
    if kind == "sobol":
        thresholds = sobol_thresholds(samples, steps, _K, int(rng.integers(1 << 30)))
    else:
        thresholds = random_thresholds(samples, steps, _K, rng)
    fed = np.concatenate(
        [np.broadcast_to(level[:, None, None], (samples, steps, 1)), thresholds], axis=2
    )
    return Case(exponential(_K, steps), fed.astype(np.int32), np.exp(level / LEVELS)[:, None])


def _relu(kind: str, samples: int, steps: int, rng: np.random.Generator) -> Case:
    x = rng.integers(-_RELU_UNIT, _RELU_UNIT + 1, (samples, 1)).astype(np.int32)
    return Case(rate_relu(1, _RELU_UNIT, steps), x, np.maximum(x, 0) / _RELU_UNIT)


def _attention(samples: int, steps: int, rng: np.random.Generator) -> Case:
    """Queries, keys and values uniform on -1..1, scores 3 q k / sqrt(d)."""
    x = rng.integers(-_LEVELS, _LEVELS + 1, (samples, 3, _TOKENS, _CHANNELS)).astype(np.int32)
    unit = _SCORE / _LEVELS**2 / np.sqrt(_CHANNELS)
    circuit = attention(_TOKENS, _CHANNELS, _LEVELS, unit, steps)
    readout = replace(circuit.readouts[0], scale=circuit.readouts[0].scale / _LEVELS)
    return Case(
        circuit.replace(readouts=(readout,)),
        x,
        softmax_attention(x, unit).reshape(samples, -1) / _LEVELS,
    )


def _block(samples: int, steps: int, rng: np.random.Generator) -> Case:
    graph = attention_block(_TOKENS, _CHANNELS, _CHANNELS, _SCORE / np.sqrt(_CHANNELS), seed=0)
    quantized, circuit = compiled_block(graph, steps)
    x = rng.uniform(0, 2, (samples, *graph.input.shape))
    integers = encode_input(quantized.input, x)
    expected = float_attention(graph, quantized, integers, steps).reshape(samples, -1)
    return Case(circuit, encode(circuit, x.astype(np.float32)), expected)


CIRCUITS: dict[str, Callable[[int, int, np.random.Generator], Case]] = {
    "normalization, membrane 0": lambda *a: _normalization("zero", *a),
    "normalization, membrane S/2": lambda *a: _normalization("half", *a),
    "normalization, one winner a step": lambda *a: _normalization("one winner", *a),
    "normalization, stochastic": lambda *a: _normalization("stochastic", *a),
    "exp, Sobol trains": lambda *a: _exponential("sobol", *a),
    "exp, Bernoulli trains": lambda *a: _exponential("bernoulli", *a),
    "exp, registers on the chip": lambda *a: _exponential("on chip", *a),
    "ReLU by rate": lambda *a: _relu("", *a),
    "softmax attention": _attention,
    "softmax attention in a model": _block,
}
"""Name -> a case of so many samples and steps from a generator."""
_PHASED = ("softmax attention", "softmax attention in a model")


def prepared(circuit: CircuitGraph) -> CircuitGraph:
    """Scheduled as for Loihi 2."""
    return schedule(circuit, max_spike_delay=LOIHI2.max_spike_delay, power_of_two_period=True)


def measure(name: str, inputs: int = 200, steps: Sequence[int] = STEPS, seed: int = 0) -> Curve:
    """Run ``inputs`` random inputs of a circuit of :data:`CIRCUITS` on the emulator for the longest
    of ``steps``.
    """
    whole("inputs", inputs), whole("seed", seed, 0, 1 << 60)
    rng, errors = np.random.default_rng(seed), []
    for start in range(0, inputs, _BATCH):
        few = min(_BATCH, inputs - start)
        if name in _PHASED:
            cases = [
                CIRCUITS[name](few, t, np.random.default_rng((seed, start))) for t in steps
            ]  # the same inputs for each T
            errors.append(np.concatenate([_errors(case, (t,)) for case, t in zip(cases, steps)]))
        else:
            errors.append(_errors(CIRCUITS[name](few, max(steps), rng), steps))
    table = np.concatenate(errors, axis=1)
    slopes = [_slope(steps, table[:, rng.integers(0, inputs, inputs)]) for _ in range(_BOOTSTRAP)]
    low, high = np.quantile(slopes, (0.025, 0.975))
    return Curve(name, tuple(steps), table, _slope(steps, table), (float(low), float(high)))


def _errors(case: Case, steps: Sequence[int]) -> np.ndarray:
    """Largest error over the outputs after each number of steps, float64 (number of T, samples)."""
    readout = case.circuit.readouts[0]
    trace = Emulator().open(prepared(case.circuit)).run(case.x, [readout.src])[readout.src]
    total = np.cumsum(trace.reshape(*trace.shape[:2], -1), axis=1, dtype=np.int64)
    bias = 0 if readout.bias is None else case.circuit.tensors[readout.bias]
    return np.stack(
        [
            np.abs(readout.scale * (total[:, t - 1] / t + bias) - case.expected).max(axis=1)
            for t in steps
        ]
    )


def _slope(steps: Sequence[int], errors: np.ndarray) -> float:
    error = np.sqrt((errors**2).mean(axis=1))
    return float(np.polyfit(np.log(steps), np.log(np.maximum(error, 1e-12)), 1)[0])
