"""Measured: how much the logits move when the input, or a layer's spikes, move a little.

These are values on data, lower bounds of whatever constant holds everywhere. For a spiking network
they depend on how large the disturbance is (a spike is a step, so no limit exists), so the size is
part of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import decode, encode
from neurocompile.errors import NeurocompileError
from neurocompile.gpu.definition import definition_on
from neurocompile.ir import spiking as s
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.evaluate import encode_input
from neurocompile.parameters import between, count, fraction
from neurocompile.progress import chunks

__all__ = ["LocalLipschitz", "affordable", "layer_sensitivity", "local_lipschitz"]

FLIPPED = 0.02
"""Share of a layer's spikes and silences that are flipped."""


_NEURONS = 2_000_000
LEAST_RADIUS, LARGEST_RADIUS = 1e-6, 100.0
"""Of a disturbance: a share of a sample's size that float32 resolves, and that the host's grid does
not merely clip.
"""


@dataclass(frozen=True)
class LocalLipschitz:
    """Largest and root mean square quotient ``|f(x + e) - f(x)| / |e|`` over ``pairs``, with ``|e|
    = radius |x|``.
    """

    largest: float
    mean_square: float
    radius: float
    pairs: int


def local_lipschitz(
    circuit: CircuitGraph,
    x: np.ndarray,
    radius: float = 0.1,
    directions: int = 4,
    seed: int = 0,
    on: tuple[s.SpikingGraph, str] | None = None,
    progress: bool = False,
) -> LocalLipschitz:
    """Quotients on the emulator, with ``directions`` random disturbances a sample.

    The quotient uses the disturbance that the host's grid leaves: inputs are rounded before they
    are injected.

    Args:
        x: float32 (samples, *input shape).
        radius: Euclidean size of the disturbance, as a share of the sample's own (of the data's,
            for an all-zero sample).
        on: the quantized graph and a device that computes the logits in place of the emulator.
    """
    (
        between("radius", radius, LEAST_RADIUS, LARGEST_RADIUS),
        count("directions", directions),
        count("samples", len(x)),
    )
    rng = np.random.default_rng(seed)
    scale = circuit.inputs[0].scale
    axes = tuple(range(1, x.ndim))
    size = np.sqrt((x.astype(np.float64) ** 2).sum(axis=axes))
    size = np.where(size > 0, size, max(float(size.mean()), scale))
    quotients = []
    with _logits_of(circuit, on) as logits:
        encoded = encode(circuit, x)
        base = logits(x)
        for _ in chunks(directions, 1, "disturbances", progress):
            step = rng.standard_normal(x.shape)
            step *= (radius * size / np.sqrt((step**2).sum(axis=axes))).reshape(
                -1, *[1] * (x.ndim - 1)
            )
            beside = (x + step).astype(np.float32)
            moved = encode(circuit, beside)
            distance = scale * np.sqrt(
                ((moved - encoded).astype(np.float64) ** 2).reshape(len(x), -1).sum(axis=1)
            )
            change = np.linalg.norm(logits(beside) - base, axis=1)
            quotients.append(change / np.where(distance > 0, distance, np.inf))
    all_of_them = np.concatenate(quotients)
    return LocalLipschitz(
        float(all_of_them.max()), float(np.sqrt((all_of_them**2).mean())), radius, all_of_them.size
    )


@contextmanager
def _logits_of(
    circuit: CircuitGraph, on: tuple[s.SpikingGraph, str] | None
) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Float32 samples to logits (samples, outputs), on the emulator or on a device."""
    graph, device = on or (None, "cpu")
    if graph is None or device == "cpu":
        readout = circuit.readouts[0].src
        with Emulator().open(circuit) as executor:
            yield lambda x: decode(circuit, executor.run(encode(circuit, x), [readout]))
        return
    from neurocompile.gpu import Evaluator

    evaluator = Evaluator(graph, circuit.steps, device)
    yield lambda x: evaluator.run(encode_input(graph.input, x)).logits


def affordable(neurons: int) -> int:
    """Samples that :func:`layer_sensitivity` is given: 8, fewer beyond 250,000 neurons, where each
    layer's run takes long.
    """
    return int(np.clip(_NEURONS // max(neurons, 1), 1, 8))


def layer_sensitivity(
    graph: s.SpikingGraph,
    x: np.ndarray,
    steps: int,
    layers: Sequence[str],
    flipped: float = FLIPPED,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = False,
) -> dict[str, float]:
    """How far the logits move per unit (Euclidean) by which a layer's rates are off: root mean
    square over samples.

    Flips a random share ``flipped`` of the layer's values at random places and steps, and evaluates
    the rest of the quantized ``graph`` from its definitions.

    Args:
        x: float32 (samples, *input shape).
        layers: names of spiking layers.
        device: where the quantized graph is evaluated.
    """
    fraction("flipped", flipped), count("steps", steps), count("samples", len(x))
    known = {node.name for node in graph.spiking_layers}
    for layer in layers:
        if layer not in known:
            raise NeurocompileError(
                "NC8003",
                f"'{layer}' is no spiking layer of '{graph.name}'; its first is '{min(known, default='')}'",
            )
    encoded = encode_input(graph.input, x)
    output = graph.output.name
    definition = definition_on(graph, steps, device)
    known_values = definition(encoded, [*layers, output])
    clean, found = known_values[output].reshape(len(x), -1), {}
    for part in chunks(len(layers), 1, "sensitivity of layers", progress):
        layer = layers[part.start]
        rng = np.random.default_rng((seed, graph.spiking_layers.index(graph.node[layer])))
        value = known_values[layer]
        at = rng.random(value.shape) < max(flipped, 1 / (value[0].size or 1))
        at.reshape(len(x), -1)[:, 0] |= ~at.reshape(len(x), -1).any(axis=1)
        changed = np.where(at, 1 - value, value)
        difference = (changed.astype(np.int64) - value).mean(axis=1).reshape(len(x), -1)
        moved = np.sqrt((difference**2).sum(axis=1))
        disturbed = definition(encoded, [output], {layer: changed})[output].reshape(len(x), -1)
        change = ((disturbed - clean) ** 2).sum(axis=1)
        found[layer] = float(np.sqrt(change.sum() / max((moved**2).sum(), 1e-300)))
    return found
