"""Random spiking programs whose meaning has no rounding, and that meaning in float64.

A program is a list of layers over (C, H, W). Weights are whole numbers of -127..127 times a power
of two, inputs whole numbers, biases and thresholds whole numbers of the unit that both make, and
tau is 2 or none. So every potential is a dyadic number that float64 holds, and an 8-bit compiler
has nothing to round: every spike of every layer has to be the one of :func:`spikes_of`. A potential
that meets its threshold exactly fires, and is made to be frequent.

The promise ends where the chip's membranes do: 17 bits hold a current, and in a loop (a soft reset,
spikes that feed back) a membrane and the inhibition that silences it between two samples as well.
What adds up to more over the steps has no integer form without rounding, whoever compiles it, so it
is not drawn: such a neuron resets hard, and reads no spikes of its own (:meth:`_Maker.fits`).

Neurons send one spike a step or several, some feed back into their own layer one step later, others
round without a memory to 0..D or to -1..1; a program has one head or more.

:func:`spikes_of` shares no code with the compiler: it loops over the steps and adds shifted arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

__all__ = ["Layer", "Program", "logits_of", "random_program", "spikes_of"]

NEURONS = ("fire", "round")
_CURRENT = 131_071
"""Largest input of a neuron in a step: 17 bits with their sign."""
_FED_BACK = 63_000
"""The same where spikes feed back into a hard reset: silence takes as much again, beside a bias."""


@dataclass(frozen=True)
class Layer:
    """``op`` of the values ``inputs``: "conv" (weight (C', C / groups, k, k), bias (C',) or None,
    stride, padding, groups), "fire" (threshold, tau: 2.0 or inf, soft, levels: the most spikes of a
    step, strict: one that only meets its threshold stays silent, back: (C, C) what the spikes of the step before add at the same place, or None), "round"
    (threshold, low, levels: the nearest multiple of the threshold of low..levels, halves to even),
    "max" and "mean" (window), "add", "mul", or "head" (weight (K, C H W)).
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    stride: int = 1
    padding: int = 0
    groups: int = 1
    threshold: float = 1.0
    tau: float = 2.0
    soft: bool = False
    strict: bool = False
    low: int = 0
    levels: int = 1
    back: np.ndarray | None = None
    window: int = 2


@dataclass(frozen=True)
class Program:
    """Layers in order, the last ones heads whose means over ``T`` steps are the outputs; ``x``
    float64 (samples, C, H, W), the same in every step.
    """

    T: int
    x: np.ndarray
    layers: tuple[Layer, ...]

    @property
    def written(self) -> bool:
        """Whether a file has to write its neurons out: some are none of the LIF operator's."""
        return any(
            k.op == "round" or k.back is not None or k.levels > 1 or k.strict for k in self.layers
        )

    def strictly(self) -> Program:
        """The same with ``h > threshold`` where one spike a step is all there is."""
        one = [k.op == "fire" and k.levels == 1 for k in self.layers]
        layers = (replace(k, strict=own) for k, own in zip(self.layers, one, strict=True))
        return replace(self, layers=tuple(layers))

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is in the program beside plain neurons, in words."""
        fires = [k for k in self.layers if k.op == "fire"]
        ops, sums = {k.op for k in self.layers}, [k for k in self.layers if k.op == "add"]
        found = {
            "soft resets": any(k.soft and k.levels == 1 for k in fires),
            "spikes that feed back": any(k.back is not None for k in fires),
            "several spikes a step": any(k.levels > 1 for k in fires),
            "numbers 0..D without memory": any(k.op == "round" and not k.low for k in self.layers),
            "ternary spikes": any(k.low for k in self.layers),
            "several heads": len(self.heads) > 1,
            "sums of spikes": any(i.startswith("fire") for k in sums for i in k.inputs),
            "sums of currents": any(i.startswith("conv") for k in sums for i in k.inputs),
            "products": "mul" in ops,
            "pooling": bool(ops & {"max", "mean"}),
        }
        return tuple(kind for kind, has in found.items() if has)

    @property
    def fired(self) -> tuple[str, ...]:
        """Names of the layers of neurons."""
        return tuple(layer.name for layer in self.layers if layer.op in NEURONS)

    @property
    def heads(self) -> tuple[Layer, ...]:
        """What the program returns."""
        return tuple(layer for layer in self.layers if layer.op == "head")


# ---- meaning -------------------------------------------------------------------------------------


def spikes_of(program: Program) -> dict[str, np.ndarray]:
    """Every value of the program, float64 (samples, T, ...), by name."""
    values = {"x": np.repeat(program.x[:, None], program.T, axis=1)}
    for layer in program.layers:
        values[layer.name] = _value(layer, [values[i] for i in layer.inputs])
    return values


def logits_of(program: Program, values: dict[str, np.ndarray]) -> list[np.ndarray]:
    """(samples, K) of every head."""
    return [values[head.name].mean(axis=1) for head in program.heads]


def _value(layer: Layer, inputs: list[np.ndarray]) -> np.ndarray:
    x = inputs[0]
    if layer.op == "conv":
        return _conv(layer, x)
    if layer.op == "fire":
        return _fire(layer, x)
    if layer.op == "round":
        return np.clip(np.rint(x / layer.threshold), layer.low, layer.levels)
    if layer.op == "head":
        assert layer.weight is not None
        return x.reshape(*x.shape[:2], -1) @ layer.weight.T
    if layer.op in ("max", "mean"):
        n = layer.window
        shifted = [
            x[..., i : x.shape[-2] - n + 1 + i : n, j : x.shape[-1] - n + 1 + j : n]
            for i in range(n)
            for j in range(n)
        ]
        return np.max(shifted, axis=0) if layer.op == "max" else sum(shifted) / (n * n)
    return inputs[0] + inputs[1] if layer.op == "add" else inputs[0] * inputs[1]


def _conv(layer: Layer, x: np.ndarray) -> np.ndarray:
    weight, p, n = layer.weight, layer.padding, layer.stride
    assert weight is not None
    out, group_in, kernel, _ = weight.shape
    x = np.pad(x, ((0, 0), (0, 0), (0, 0), (p, p), (p, p)))
    rows, columns = ((size - kernel) // n + 1 for size in x.shape[-2:])
    y = np.zeros((*x.shape[:2], out, rows, columns))
    share = out // layer.groups
    for o in range(out):
        for c in range(group_in):
            source = x[:, :, o // share * group_in + c]
            for i in range(kernel):
                for j in range(kernel):
                    part = source[:, :, i : i + n * rows : n, j : j + n * columns : n]
                    y[:, :, o] += weight[o, c, i, j] * part[:, :, :rows, :columns]
    return y if layer.bias is None else y + layer.bias[:, None, None]


def _fire(layer: Layer, x: np.ndarray) -> np.ndarray:
    """``h = v + (x - v) / tau`` (``v + x`` without tau), a spike where ``h >= threshold`` (``>`` if strict), or as
    many as the threshold goes into h.
    """
    v, spikes = np.zeros_like(x[:, 0]), np.zeros_like(x)
    for t in range(x.shape[1]):
        drive = x[:, t]
        if layer.back is not None and t:
            drive = drive + np.einsum("oc,nchw->nohw", layer.back, spikes[:, t - 1])
        h = v + drive if np.isinf(layer.tau) else v + (drive - v) / layer.tau
        if layer.levels == 1:
            spikes[:, t] = h > layer.threshold if layer.strict else h >= layer.threshold
        else:
            spikes[:, t] = np.clip(np.floor(h / layer.threshold), 0, layer.levels)
        v = h - layer.threshold * spikes[:, t] if layer.soft else h * (1 - spikes[:, t])
    return spikes


# ---- generator -----------------------------------------------------------------------------------


def random_program(seed: int) -> Program:
    """The program of ``seed``."""
    return _Maker(np.random.default_rng(seed)).program()


class _Maker:
    """Makes layers with the values that they have, so that thresholds lie where neurons fire."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.layers = rng, []  # type: np.random.Generator, list[Layer]
        self.T = int(rng.integers(1, 5))
        channels, size = int(rng.integers(1, 4)), int(rng.integers(3, 7))
        x = rng.integers(0, int(rng.choice([2, 16])), (3, channels, size, size)).astype(np.float64)
        self.x = x
        self.values = {"x": np.repeat(x[:, None], self.T, axis=1)}
        self.unit = {"x": 1.0}  # what every value is a whole number of
        self.most = {"x": float(x.max())}  # bounds of magnitudes

    def add(self, op: str, *inputs: str, unit: float, **fields) -> str:
        name = f"{op}{len(self.layers)}"
        layer = Layer(op, name, inputs, **fields)
        self.layers.append(layer)
        self.values[name] = _value(layer, [self.values[i] for i in inputs])
        self.unit[name], self.most[name] = unit, self.bound(layer)
        return name

    def bound(self, layer: Layer) -> float:
        """Of a layer's magnitude, whatever its inputs are within their own bounds."""
        inputs = [self.most[i] for i in layer.inputs]
        if layer.op in NEURONS:
            return float(layer.levels)
        if layer.weight is not None:
            rows = np.abs(layer.weight).reshape(len(layer.weight), -1).sum(axis=1)
            bias = 0.0 if layer.bias is None else float(np.abs(layer.bias).max())
            return float(rows.max()) * inputs[0] + bias
        return {"add": sum(inputs), "mul": prod(inputs)}.get(layer.op, inputs[0])

    def fits(self, source: str, threshold: float, fields: dict) -> bool:
        """Whether a neuron's loops hold its sums of all steps: a membrane with soft reset grows for
        T steps (with tau 2 to twice a step's current) and silence takes as much again; spikes of
        its own come on top of what it reads.
        """
        levels, back = fields.get("levels", 1), fields.get("back")
        most = self.most[source]
        if back is not None:
            most += float(np.abs(back).sum(axis=1).max()) * levels
        if fields["soft"]:
            grown = 2 * self.T + 3 if np.isinf(fields["tau"]) else 2 * 8  # a half of a threshold
            most = max(1.05 * most, levels * threshold)
            return grown * most / self.unit[source] <= _CURRENT
        return back is None or 1.05 * most / self.unit[source] <= _FED_BACK

    def conv(self, source: str, out: int | None = None) -> str:
        rng, x = self.rng, self.values[source]
        channels, size = x.shape[2], min(x.shape[3:])
        out = int(rng.integers(1, 6)) if out is None else out
        kernel = int(rng.choice([1, 3])) if size >= 3 else 1
        depthwise = out == channels and rng.random() < 0.3
        shape = (out, 1 if depthwise else channels, kernel, kernel)
        largest = int(rng.choice([1, 7, 127]))
        whole = rng.integers(-largest // 2, largest + 1, shape).astype(np.float64)
        whole[rng.random(shape) < 0.1] = 0
        if not whole.any():
            whole[0, 0, 0, 0] = 1
        step = 2.0 ** -int(rng.integers(0, 6))
        unit = step * self.unit[source]
        bias = None
        if rng.random() < 0.3:
            bias = unit * rng.integers(-largest, largest + 1, out)
        return self.add(
            "conv",
            source,
            unit=unit,
            weight=whole * step,
            bias=bias,
            stride=int(rng.choice([1, 1, 2])) if size >= 3 else 1,
            padding=int(rng.choice([0, kernel // 2])),
            groups=channels if depthwise else 1,
        )

    def fire(self, source: str) -> str:
        rng, x, unit = self.rng, self.values[source], self.unit[source]
        positive = x[x > 0]
        typical = float(np.quantile(positive, rng.choice([0.3, 0.6, 0.9]))) if positive.size else 1
        # the first neuron has a memory, which says in a file how many steps there are
        if any(layer.op == "fire" for layer in self.layers) and rng.random() < 0.2:
            return self.round(source, typical)
        tau = float(rng.choice([2.0, 2.0, np.inf]))
        share = (
            0.5 if tau == 2.0 and rng.random() < 0.5 else 1.0
        )  # x / 2 meets it at the first step
        fields = {"tau": tau, "soft": bool(rng.random() < 0.2)}
        if rng.random() < 0.08:
            fields |= {"soft": True, "levels": int(rng.integers(2, 5))}
            share /= 2
        threshold = max(round(typical * share / unit), 1) * unit
        if self.T > 1 and rng.random() < 0.15:
            whole = rng.integers(-3, 4, (x.shape[2], x.shape[2]))
            whole[0, 0] = 2
            fields["back"] = (
                whole * 2.0 ** np.floor(np.log2(max(threshold / 4, unit) / unit)) * unit
            )
        if not self.fits(source, threshold, fields):
            fields |= {"soft": False, "levels": 1}
        if not self.fits(source, threshold, fields):
            fields["back"] = None
        return self.add("fire", source, unit=1.0, threshold=threshold, **fields)

    def round(self, source: str, typical: float) -> str:
        """Numbers of spikes 0..D or spikes of either sign; halves of the unit are met."""
        low, levels = ((0, int(self.rng.integers(2, 5))), (-1, 1))[int(self.rng.integers(2))]
        unit = self.unit[source]
        threshold = 2 * unit * 2.0 ** max(round(np.log2(max(typical / 2 / unit, 1))), 0)
        return self.add("round", source, unit=1.0, threshold=threshold, low=low, levels=levels)

    def block(self, source: str) -> str:
        rng = self.rng
        kind = rng.choice(["plain", "plain", "max", "mean", "add", "mul", "shortcut"])
        spikes = self.fire(self.conv(source))
        shape = self.values[spikes].shape
        if kind in ("max", "mean") and min(shape[3:]) >= 2:
            return self.add(kind, spikes, unit=1.0 if kind == "max" else 0.25)
        if kind == "shortcut":  # currents are added, and a neuron reads the sum
            x = self.one_by_one(spikes, int(rng.integers(1, 5)))
            branch = self.one_by_one(self.fire(x), self.values[x].shape[2])
            unit = min(self.unit[x], self.unit[branch])
            return self.fire(self.add("add", x, branch, unit=unit))
        if kind in ("add", "mul"):
            fields = {"out": shape[2]}
            other = self.fire(self.one_by_one(spikes, **fields))
            return self.add(str(kind), spikes, other, unit=1.0)
        return spikes

    def one_by_one(self, source: str, out: int) -> str:
        whole = self.rng.integers(-3, 8, (out, self.values[source].shape[2], 1, 1))
        whole[0, 0] = 5
        return self.add("conv", source, unit=self.unit[source], weight=whole.astype(np.float64))

    def program(self) -> Program:
        value = "x"
        for _ in range(int(self.rng.integers(1, 4))):
            value = self.block(value)
        if self.layers[-1].op not in NEURONS:
            value = self.fire(self.conv(value))
        width = prod(self.values[value].shape[2:])
        for classes in (3,) if self.rng.random() < 0.85 else (3, 2):
            whole = self.rng.integers(-127, 128, (classes, width)) / 64
            self.add("head", value, unit=self.unit[value] / 64, weight=whole)
        return Program(self.T, self.x, tuple(self.layers))
