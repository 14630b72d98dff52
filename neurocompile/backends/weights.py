"""Weights and biases of a circuit as the interpreter reads them, and which values are small counts,
kept as octets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurocompile.backends.bias import lif_bias
from neurocompile.backends.ranges import Range, ranges
from neurocompile.backends.silence import Silence, silent_windows
from neurocompile.backends.vectors import PAD
from neurocompile.ir.circuit import LIF, CircuitGraph, Conv2d, Dense, HostInput, powered

__all__ = ["Weights", "is_octets", "make_weights"]

_MOST_COUNT = 64
"""Largest value that is kept as an octet, whose row of weights is added so many times."""


@dataclass(frozen=True)
class PlacedWeights:
    """Weights of one projection in the pools."""

    at: int
    row: int
    words: bool
    shift: int
    at_once: int


@dataclass(frozen=True)
class Weights:
    """All that a circuit's plans share."""

    small: np.ndarray
    """int8: rows of weights, (kH, kW, C_in) of them one after another, each padded to 32."""
    wide: np.ndarray
    """int32: the same of what does not fit, and (kH, kW, inputs of a group, C_out) of groups."""
    bias: np.ndarray
    """int32."""
    placed: dict[str, PlacedWeights]
    bias_at: dict[str, int]
    reach: dict[str, Range]
    """Least and largest output of each population; :data:`ANY` within loops."""
    inputs: dict[str, Range]
    """The same of its sums."""
    silence: Silence
    """Of a folded circuit: what is known of it before any sample."""


def make_weights(circuit: CircuitGraph) -> Weights:
    """Weights and biases as the interpreter reads them, and what they let populations reach."""
    weighted = [q for q in circuit.projections if isinstance(q, (Dense, Conv2d))]
    rows: dict[tuple[object, ...], np.ndarray] = {}
    gains: dict[tuple[object, ...], Range] = {}
    for q in weighted:
        if _key(q) not in rows:
            rows[_key(q)], gains[_key(q)] = _rows(q, circuit.weight(q))
    by_name = {q.name: gains[_key(q)] for q in weighted}
    reach, inputs = ranges(circuit, by_name)
    silence = Silence({}, {}, {}, {})
    if circuit.windows > 1:
        silence = silent_windows(circuit, by_name)
        reach = silence.reach
    small: list[np.ndarray] = []
    wide: list[np.ndarray] = []
    sizes = [0, 0]
    placed: dict[str, PlacedWeights] = {}
    kept: dict[tuple[object, ...], PlacedWeights] = {}
    for q in weighted:
        events = is_octets(circuit, reach, q.src) and _key(q)[2] == 1
        key = (*_key(q), events)
        if key not in kept:
            table, shift = _table(rows[_key(q)], events, _key(q)[2] == 1)
            words = table.dtype == np.int32
            most = int(np.abs(table.astype(np.int32)).max(initial=1))
            kept[key] = PlacedWeights(
                sizes[words], table.shape[-1], words, shift, max(32767 // max(most, 1), 1)
            )
            (wide if words else small).append(table.reshape(-1))
            sizes[words] += table.size
        placed[q.name] = kept[key]
    bias, bias_at = [], {}
    at = 0
    for p in circuit.populations:
        if isinstance(p, LIF):
            bias_at[p.name] = at
            bias.append(lif_bias(circuit, p))
            at += p.size
    return Weights(
        _padded(small, np.int8),
        _padded(wide, np.int32),
        _padded(bias, np.int32),
        placed,
        bias_at,
        reach,
        inputs,
        silence,
    )


def _padded(parts: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([*(p.astype(kind, copy=False) for p in parts), np.zeros(PAD, kind)])


def _key(q: Dense | Conv2d) -> tuple[object, ...]:
    """What projections have in common that share a table."""
    dense = isinstance(q, Dense)
    return str(q.weight), q.weight_exp, q.groups if isinstance(q, Conv2d) else 1, dense


def _rows(q: Dense | Conv2d, weight: np.ndarray | None) -> tuple[np.ndarray, Range]:
    """Weights int32 (kH, kW, C_in of a group, C_out), and least and largest sum that inputs 0..1
    make at one neuron.
    """
    assert weight is not None
    found = powered(weight.astype(np.int32), q.weight_exp)
    found = found[:, None, None, :] if isinstance(q, Dense) else found
    flat = found.reshape(len(found), -1)
    low = np.minimum(flat, 0).sum(axis=1, dtype=np.int64).min(initial=0)
    high = np.maximum(flat, 0).sum(axis=1, dtype=np.int64).max(initial=0)
    return found.transpose(1, 2, 3, 0), (int(low), int(high))


def _table(rows: np.ndarray, events: bool, pad: bool) -> tuple[np.ndarray, int]:
    """Rows as they are kept, int8 for ``events`` where a common power of two allows it, else
    int32; and the shift of their sums.
    """
    shift = 0
    if events:
        bits = int(np.bitwise_or.reduce(rows, axis=None)) if rows.size else 0
        shift = (bits & -bits).bit_length() - 1 if bits else 0
        narrow = rows >> shift
        events = not rows.size or bool(narrow.min() >= -128 and narrow.max() <= 127)
        rows, shift = (narrow, shift) if events else (rows, 0)
    columns = rows.shape[-1]
    row = -(-columns // 32) * 32 if pad else columns
    table = np.zeros((*rows.shape[:-1], row), np.int8 if events else np.int32)
    table[..., :columns] = rows
    return table, shift


def is_octets(circuit: CircuitGraph, reach: dict[str, Range], name: str) -> bool:
    """Whether a population's values are kept as octets."""
    p = circuit.population[name]
    low, high = reach[name]
    return isinstance(p, LIF) or (not isinstance(p, HostInput) and low >= 0 and high <= _MOST_COUNT)
