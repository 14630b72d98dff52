"""A .net file as layers: what each reads, by which integers, and what is told of its neurons."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from neurocompile.advice import warn
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.netx.file import NetxBlock, NetxFile
from neurocompile.frontends.netx.weights import LARGEST, dense_weights, whole

__all__ = ["Cuba", "NetxLayer", "NetxPlan", "Part", "plan_netx"]

ALL = 4096
"""Decay that keeps nothing."""
NEVER = 1 << 17
"""Threshold from which on no membrane of 24 bits fires."""
_BIAS = (-4096, 4095)
_INPUT_WEIGHT = 64
"""Of an input block that says none."""
_DELAY = 62


@dataclass(frozen=True)
class Cuba:
    """Parameters of a layer's neurons, as Lava's LIF has them (``du`` is ``current`` - 1)."""

    current: int
    leak: int
    threshold: int
    bias: np.ndarray
    """int64: () or one a neuron (dense), or one a channel (conv)."""


@dataclass(frozen=True)
class Part:
    """A layer's synapses from one source."""

    source: int
    """Number of the block whose spikes they carry; -1 for the network's input."""
    weight: np.ndarray
    """int64 (out, in), in of the flattened (C, H, W); or (out, in / groups, kH, kW)."""
    delay: np.ndarray | None = None
    """int64 (out, in): further steps that each synapse takes."""


@dataclass(frozen=True)
class NetxLayer:
    """A block with neurons. ``shape`` is (n,) or (C, H, W)."""

    number: int
    kind: str
    shape: tuple[int, ...]
    neuron: Cuba
    parts: tuple[Part, ...] = ()
    back: np.ndarray | None = None
    """int64 (n, n): from its own spikes of the step before."""
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def name(self) -> str:
        """In graphs."""
        return f"{self.kind}_{self.number}"


@dataclass(frozen=True)
class NetxPlan:
    """A network."""

    shape: tuple[int, ...]
    """Of the input in one step."""
    weight: int
    """With an input block that has neurons: the host gives them ``rint(weight * x)``; else 0, and
    inputs are spikes.
    """
    layers: tuple[NetxLayer, ...]
    groups: int = 0
    """Of an average block behind the last layer; 0 for none."""
    steps: int | None = None
    """Of a sample, where the file has them."""

    def layer(self, number: int) -> NetxLayer | None:
        """Of a block's number; None for the input."""
        return next((n for n in self.layers if n.number == number), None)

    def shape_of(self, number: int) -> tuple[int, ...]:
        """Of a block's value."""
        layer = self.layer(number)
        return self.shape if layer is None else layer.shape

    @property
    def adds_up(self) -> bool:
        """Whether the last layer's neurons keep all that they receive."""
        last = self.layers[-1]
        return (
            last.kind == "dense"
            and not self.groups
            and (last.neuron.current, last.neuron.leak) in ((ALL, 0), (0, ALL))
        )

    def integrates(self, steps: int) -> bool:
        """Whether the last layer only adds up, for its neurons cannot fire within ``steps``."""
        last, n = self.layers[-1], self.layers[-1].neuron
        if not self.adds_up:
            return False
        reach = sum(np.abs(p.weight).sum(axis=1) for p in last.parts) + np.abs(n.bias)
        return n.threshold >= NEVER or int(np.max(reach)) * steps <= n.threshold


def plan_netx(file: NetxFile, origin: str) -> NetxPlan:
    """Check every block against those before it; NC1003 names the first that cannot be."""
    return _Planner(file, origin).plan()


class _Planner:
    def __init__(self, file: NetxFile, origin: str) -> None:
        self.file, self.origin = file, origin
        self.layers: list[NetxLayer] = []
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.weight, self.groups = 0, 0
        self.read: tuple[int, ...] = (-1,)
        """What the next block reads."""
        self.flat = True
        self.cut: list[str] = []

    def refused(self, block: NetxBlock, why: str) -> NeurocompileError:
        return NeurocompileError("NC1003", f"{block.called} of {self.origin}: {why}")

    def plan(self) -> NetxPlan:
        for place, block in enumerate(self.file.blocks):
            if self.groups:
                raise self.refused(block, "it follows an average, which is read as the last block")
            if (block.kind == "input") != (place == 0) and block.kind == "input":
                raise self.refused(block, "an input comes first")
            getattr(self, f"_{block.kind}")(block)
        if not self.layers:
            raise NeurocompileError("NC1010", f"{self.origin} has no block with neurons")
        if self.cut:
            warn(f"{self.origin}: netx cuts numbers to whole ones in {', '.join(self.cut)}")
        layers = tuple(self.layers)
        plan = NetxPlan(self.shapes[-1], self.weight, layers, self.groups, self.file.steps)
        for layer in layers:
            self._check(layer, plan.adds_up and layer is layers[-1])
        return plan

    def _check(self, layer: NetxLayer, adds_up: bool) -> None:
        """NC1003 for neurons that the chip has not, or that say nothing to anybody."""
        n, called = layer.neuron, f"block {layer.number} ({layer.kind}) of {self.origin}"
        if n.threshold >= NEVER and not adds_up:
            raise NeurocompileError(
                "NC1003",
                f"{called} has a threshold of {n.threshold:,}, which no membrane reaches; membranes are read of a last "
                "dense block that keeps all (iDecay 4096 and vDecay 0, or 0 and 4096)",
            )
        if n.current == 0 and (n.threshold < NEVER or n.bias.any()):
            raise NeurocompileError(
                "NC1003", f"{called} has iDecay = 0: a current that never decays; 1 to 4,096 are"
            )

    # ---- blocks --------------------------------------------------------------------------------

    def _input(self, block: NetxBlock) -> None:
        shape = _shape(self, block)
        self.shapes[-1] = self.shapes[block.number] = shape
        self.flat = len(shape) == 1
        if block.neuron is None:
            return
        self.weight = self._one(block, "weight", _INPUT_WEIGHT)
        if not 1 <= self.weight < 1 << 20:
            raise self.refused(block, f"its weight is {self.weight:,}; 1 to 1,048,575 are read")
        bias = np.asarray(self._one(block, "bias", 0), np.int64)
        neuron = self._cuba(block, bias)
        self.layers.append(NetxLayer(block.number, "input", shape, neuron))
        self.read = (block.number,)

    def _flatten(self, block: NetxBlock) -> None:
        self.flat = True

    def _concat(self, block: NetxBlock) -> None:
        numbers = block.fields["layers"].reshape(-1)
        if not 1 <= numbers.size <= 1_000:
            raise self.refused(block, f"it names {numbers.size:,} blocks; 1 to 1,000 are read")
        found = list(self.read)
        for number in numbers.tolist():
            if number not in self.shapes or number >= block.number:
                raise self.refused(block, f"it names block {number:g}, which gives no spikes here")
            given = number if any(n.number == number for n in self.layers) else -1
            found.append(int(given))
        self.read = tuple(found)

    def _average(self, block: NetxBlock) -> None:
        groups, given = int(block.fields["shape"].reshape(-1)[0]), prod(self._given(block)[-1])
        if len(self.read) > 1 or self.read == (-1,) or groups < 1 or given % groups:
            raise self.refused(block, f"{given:,} neurons do not make {groups:,} groups")
        self.groups = groups

    def _dense(self, block: NetxBlock) -> None:
        shape = (prod(_shape(self, block)),)
        if self.read == (-1,) and -1 not in self.shapes:
            self.shapes[-1] = (max(block.fields["weight"].size // shape[0], 1),)
        given = self._given(block)
        for image in given:
            if not self.flat and len(image) > 1 and prod(image) > image[0]:
                raise self.refused(
                    block, f"it reads an image, {list(image)}; flatten comes between"
                )
        sizes = [prod(image) for image in given]
        weight = self._matrix(block, "weight", (shape[0], sum(sizes)))
        back = None
        if block.kind == "dense_rec":
            back = self._matrix(block, "weight_rec", (shape[0], shape[0]))
            both = dense_weights(np.hstack((weight, back)), f"{block.called} of {self.origin}")
            weight, back = both[:, : sum(sizes)], both[:, sum(sizes) :]
        else:
            weight = dense_weights(weight, f"{block.called} of {self.origin}")
        delay = self._delay(block, weight)
        ends = np.cumsum([0, *sizes])
        parts = tuple(
            Part(source, weight[:, a:b], None if delay is None else delay[:, a:b])
            for source, a, b in zip(self.read, ends[:-1], ends[1:])
        )
        bias = self._bias(block, shape[0])
        neuron = self._cuba(block, bias)
        self._add(NetxLayer(block.number, block.kind, shape, neuron, parts, back))

    _dense_rec = _dense

    def _conv(self, block: NetxBlock) -> None:
        shape, given = _shape(self, block), self._given(block)
        if len(shape) != 3 or any(len(image) != 3 for image in given):
            raise self.refused(block, f"it reads {[list(g) for g in given]}, no image")
        if len({image[1:] for image in given}) > 1:
            raise self.refused(block, f"it reads images of the sizes {[list(g) for g in given]}")
        weight = self._whole(block, "weight")
        if weight.ndim == 5 and weight.shape[4] == 1:
            weight = weight[..., 0]
        stride, padding, dilation = (_pair(self, block, f) for f in _WINDOWS)
        groups, channels = self._one(block, "groups", 1), sum(image[0] for image in given)
        good = weight.ndim == 4 and groups >= 1 and weight.shape[1] * groups == channels
        if not good or weight.shape[0] % groups or (len(given) > 1 and groups > 1):
            raise self.refused(
                block,
                f"its weights are {list(weight.shape)}, it reads {channels} channels in {groups} groups",
            )
        size = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(given[0][1:], padding, dilation, weight.shape[2:], stride)
        )
        if (weight.shape[0], *size) != shape:
            raise self.refused(
                block, f"it gives {[weight.shape[0], *size]}, and its shape says {list(shape)}"
            )
        if np.abs(weight).max(initial=0) > LARGEST - 1:
            raise self.refused(block, "it has weights beyond -255 to 255, what a synapse holds")
        if block.fields.get("delay", np.zeros(1)).any():
            raise self.refused(block, "netx takes no delays of a conv, and this one has some")
        ends = np.cumsum([0, *(image[0] for image in given)])
        parts = (
            (Part(self.read[0], weight),)
            if len(given) == 1
            else tuple(Part(n, weight[:, a:b]) for n, a, b in zip(self.read, ends[:-1], ends[1:]))
        )
        neuron = self._cuba(block, self._bias(block, shape[0]))
        layer = NetxLayer(
            block.number, "conv", shape, neuron, parts, None, stride, padding, dilation, groups
        )
        self._add(layer)

    def _add(self, layer: NetxLayer) -> None:
        self.layers.append(layer)
        self.shapes[layer.number] = layer.shape
        self.read, self.flat = (layer.number,), len(layer.shape) == 1

    # ---- fields --------------------------------------------------------------------------------

    def _given(self, block: NetxBlock) -> list[tuple[int, ...]]:
        if -1 in self.read and -1 not in self.shapes:
            raise self.refused(block, "no input block says the shape of what it reads")
        return [self.shapes[n] for n in self.read]

    def _whole(self, block: NetxBlock, field: str) -> np.ndarray:
        found, cut = whole(block.fields[field])
        if cut:
            self.cut.append(f"'{field}' of {block.called}")
        if np.abs(found).max(initial=0) >= 1 << 31:
            raise self.refused(block, f"'{field}' is beyond 32 bits")
        return found

    def _one(self, block: NetxBlock, field: str, default: int) -> int:
        if field not in block.fields:
            return default
        found = self._whole(block, field).reshape(-1)
        if found.size != 1:
            raise self.refused(block, f"'{field}' is {found.size:,} numbers; one is read")
        return int(found[0])

    def _matrix(self, block: NetxBlock, field: str, shape: tuple[int, int]) -> np.ndarray:
        found = self._whole(block, field)
        if found.size != prod(shape) or found.shape not in (shape, (found.size,)):
            raise self.refused(
                block, f"'{field}' is {list(found.shape)}, and {list(shape)} are read"
            )
        return found.reshape(shape)

    def _bias(self, block: NetxBlock, neurons: int) -> np.ndarray:
        if "bias" not in block.fields:
            return np.zeros((), np.int64)
        found = self._whole(block, "bias").reshape(-1)
        if found.size not in (1, neurons):
            raise self.refused(block, f"it has {found.size:,} biases for {neurons:,}")
        return found if found.size > 1 else found.reshape(())

    def _delay(self, block: NetxBlock, weight: np.ndarray) -> np.ndarray | None:
        if "delay" not in block.fields:
            return None
        found = self._whole(block, "delay")
        if block.kind == "dense_rec" and found.any():
            raise self.refused(
                block, "netx gives Lava its delays without the weights' exponent: other sums"
            )
        if found.min(initial=0) < 0 and found.max(initial=0) <= _DELAY:
            raise self.refused(block, f"it has a delay of {found.min()}")
        if found.max(initial=0) > _DELAY:
            warn(f"{block.called} of {self.origin}: netx clips delays to 0..{_DELAY}")
            found = np.clip(found, 0, _DELAY)
        if found.size == 1:
            found = np.full(weight.shape, found.reshape(()))
        elif found.size == weight.shape[0] and found.ndim == 1:
            found = np.repeat(found.reshape(-1, 1), weight.shape[1], axis=1)
        elif found.size == weight.shape[1] and found.ndim == 1:
            found = np.repeat(found.reshape(1, -1), weight.shape[0], axis=0)
        if found.shape != weight.shape:
            raise self.refused(
                block, f"its delays are {list(found.shape)}, its weights {list(weight.shape)}"
            )
        return found if found.any() else None

    def _cuba(self, block: NetxBlock, bias: np.ndarray) -> Cuba:
        if bias.min() < _BIAS[0] or bias.max() > _BIAS[1]:
            raise NeurocompileError(
                "NC2002",
                f"{block.called} of {self.origin} has biases of {bias.min():,} to {bias.max():,}; "
                f"the chip holds {_BIAS[0]:,} to {_BIAS[1]:,}",
            )
        if block.neuron is None:
            if block.kind == "conv":
                raise self.refused(block, "it has no neuron")
            return Cuba(0, ALL, NEVER, bias)
        limits = {"iDecay": ALL, "vDecay": ALL, "vThMant": (1 << 31) - 1}
        found = {}
        for name, most in limits.items():
            values = np.unique(whole(block.neuron[name])[0])
            if values.size != 1:
                raise self.refused(
                    block, f"{name} differs from neuron to neuron; netx gives Lava one a layer"
                )
            if not 0 <= values[0] <= most:
                raise NeurocompileError(
                    "NC2002",
                    f"{block.called} of {self.origin} has {name} = {values[0]:,}; 0 to {most:,} are",
                )
            found[name] = int(values[0])
        return Cuba(found["iDecay"], found["vDecay"], found["vThMant"], bias)


_WINDOWS = ("stride", "padding", "dilation")
_MOST = 1 << 31


def _shape(at: _Planner, block: NetxBlock) -> tuple[int, ...]:
    found = block.fields["shape"].reshape(-1)
    if not 1 <= found.size <= 3 or (found != np.rint(found)).any() or found.min() < 1:
        raise at.refused(block, f"its shape is {found[:4].tolist()}")
    shape = tuple(int(n) for n in found)
    if prod(shape) >= _MOST:
        raise at.refused(block, f"its shape {list(shape)} is more than 2^31 neurons")
    return (shape[0], 1, shape[1]) if len(shape) == 2 else shape


def _pair(at: _Planner, block: NetxBlock, field: str) -> tuple[int, int]:
    found = at._whole(block, field).reshape(-1)
    least = 0 if field == "padding" else 1
    if found.size not in (1, 2) or found.min() < least or found.max() > 1 << 16:
        raise at.refused(block, f"its {field} is {found[:4].tolist()}")
    return int(found[0]), int(found[-1])
