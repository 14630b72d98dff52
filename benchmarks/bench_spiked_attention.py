"""SpikedAttention beside its dense transformer and beside our digits, on the held-out digits.

    python benchmarks/bench_spiked_attention.py [--base B --steps T] [--samples N] [--map] [--time] [--json]

* accuracy: the transformer in float, converted (its spikes' values), and compiled: the integers of the
  quantized graph, which every backend computes; ``digits``: the same transformer, real values by binary
  digits and the exact softmax, with one-spike neurons in front of the head alone; with ``--map`` both
  are mapped to Kapoho Point;
* softmax: total variation of the winner-oriented shift, with its division, from the exact softmax of
  each row, over codes; ``python benchmarks/bench_circuits.py`` has that of the digits' circuit;
* time (``--time`` alone): heads that run spike by spike on the chip, their membranes growing by each
  base that integers have (:mod:`neurocompile.circuits.one_spike_attention`), beside the same head by
  digits: rms error of 200 inputs from the exact softmax attention over its rms, sizes, steps a sample;
* energy: multiply-adds of the dense transformer at 4.6 pJ, accumulations of SpikedAttention's spikes
  (one of each neuron that fires, times its fan-out) and growth of its membranes (one a neuron and step
  of two windows) at 0.9 pJ (``horowitz45``); neurons of the compiled circuits.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import warnings
from typing import Any

import numpy as np
import torch
from bench_circuits import built
from neurocompile.models.spiked_attention import Layer, OneSpike, SpikedTransformer, spike_shift
from neurocompile.models.zoo import spiked_digits
from neurocompile.models.zoo.qkformer_digits.train import load_split

import neurocompile
from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import decode
from neurocompile.circuits.one_spike import OneSpikeCode
from neurocompile.circuits.one_spike_attention import (
    one_spike_attention,
    one_spike_attention_values,
)
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref
from neurocompile.mapping import lower_bound_cores
from neurocompile.passes.lower import lower
from neurocompile.targets import load_target
from neurocompile.theory.measure.convergence import prepared

MULTIPLY_ADD, ADD = 4.6e-12, 0.9e-12
CODES = (
    *((1.15, 40), (1.25, 24), (1.3247, 20), (1.3803, 16)),
    *((1.4656, 14), (1.5, 12), (1.618, 10), (2.0, 8)),
)
BATCH = 60
TARGET = "kapoho_point"


def coded(base: float, steps: int) -> SpikedTransformer:
    """The shipped model with another code."""
    model = spiked_digits.load()
    for neuron in model.neurons:
        neuron.base, neuron.steps = base, steps
    for block in model.blocks:
        block.config = dataclasses.replace(block.config, base=base, steps=steps)
    return model


def right(logits: np.ndarray, y: np.ndarray) -> int:
    """Predictions at their labels."""
    return int((logits.argmax(1) == y).sum())


@torch.no_grad()
def by_torch(model: SpikedTransformer, mode: str, x: np.ndarray) -> np.ndarray:
    """Logits in a mode."""
    return model.set_mode(mode)(torch.from_numpy(x)).numpy()


def compiled(
    model: SpikedTransformer, mode: str, calibration: np.ndarray, x: np.ndarray, mapped: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    """Logits in a mode, and of the circuit its sizes and steps from input to output."""
    staged = neurocompile.open(
        model.set_mode(mode), calibration[:2], calibration=calibration, target=TARGET
    )
    quantized = staged.canonical().quantize()
    parts = [quantized.logits(x[k : k + BATCH]) for k in range(0, len(x), BATCH)]
    lowered = quantized.lower()
    circuit = lowered.graph
    facts: dict[str, Any] = {
        "neurons": sum(p.size for p in circuit.populations),
        "populations": len(circuit.populations),
        "depth": circuit.depth,
        "least cores": lower_bound_cores(circuit, load_target(TARGET)),
    }
    if mapped:
        facts["cores"] = lowered.map().mapping.cores_used
    return np.concatenate(parts), facts


def softmax_error(base: float, steps: int, n: int) -> float:
    """Mean total variation over 1,000 rows of n normal scores of deviation 2."""
    rng = np.random.default_rng(n)
    scores = torch.from_numpy(2 * rng.normal(size=(1000, n)))
    e = spike_shift(scores, base, steps)
    apart = e / e.sum(-1, keepdim=True) - scores.softmax(-1)
    return float(apart.abs().sum(-1).mean() / 2)


@torch.no_grad()
def energy(model: SpikedTransformer, x: np.ndarray) -> dict[str, float]:
    """Joules an image, dense and by spikes, and spikes an image."""
    spikes: dict[str, float] = {}
    adds = [0.0, 0.0]  # of spikes in layers, multiply-adds of layers
    hooks = []

    def layer(module: Layer, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        fan_out = output[0].numel() / inputs[0][0].numel() * module.linear.weight[0].numel()
        if inputs[0].ndim == 4:  # pixels, which are no spikes
            macs = output[0].numel() * module.linear.weight[0].numel()
            adds[1] += macs
            return
        fan_out = module.linear.weight.shape[0]
        adds[0] += float((inputs[0] != 0).sum()) / len(x) * fan_out
        adds[1] += inputs[0][0].numel() * fan_out

    def neuron(name: str) -> Any:
        def note(module: OneSpike, inputs: Any, output: torch.Tensor) -> None:
            spikes[name] = float((output != 0).sum()) / len(x)
            spikes[f"{name}.neurons"] = output[0].numel()

        return note

    for name, module in model.named_modules():
        if isinstance(module, Layer):
            hooks.append(module.register_forward_hook(layer))
        if isinstance(module, OneSpike):
            hooks.append(module.register_forward_hook(neuron(name)))
    by_torch(model, "spikes", x)
    for hook in hooks:
        hook.remove()
    config = model.config
    tokens, dim = (config.image_size // config.patch_size) ** 2, config.dim
    products = 2 * config.depth * tokens * tokens * dim
    count = sum(v for k, v in spikes.items() if not k.endswith(".neurons"))
    neurons = sum(v for k, v in spikes.items() if k.endswith(".neurons"))
    neurons += config.depth * config.num_heads * tokens * tokens  # of the scores
    steps = model.embed_spike.steps
    met = (
        sum(
            (
                spikes[f"blocks.{b}.{n}"]
                for b in range(config.depth)
                for n in ("q_spike", "k_spike", "v_spike")
            )
        )
        * tokens
    )
    grown = 2 * steps * neurons
    return {
        "spikes an image": count,
        "neurons": neurons,
        "dense, uJ": 1e6 * MULTIPLY_ADD * (adds[1] + products),
        "spikes' additions, uJ": 1e6 * ADD * (adds[0] + met),
        "growth of membranes, uJ": 1e6 * ADD * grown,
    }


TOKENS, CHANNELS, HEADS = 4, 8, ((2.0, 6), (1.618, 9), (1.466, 13), (1.380, 17), (1.325, 22))
"""Of :func:`in_time`; base and steps."""


def attended(x: np.ndarray) -> np.ndarray:
    """softmax(Q K^T / 2) V of float64 (samples, 3, n, d)."""
    q, k, v = np.moveaxis(x.astype(np.float64), 1, 0)
    scores = q @ k.swapaxes(-1, -2) / 2
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v


def by_digits() -> list[s.Node]:
    """The same as nodes, of 3 n d values."""
    n, d = TOKENS, CHANNELS
    views = {
        "q": ((n, d), (d, 1), 0),
        "k": ((d, n), (1, d), n * d),
        "v": ((n, d), (d, 1), 2 * n * d),
    }
    return [
        *(
            s.Rearrange(
                name=name, x=Ref("x"), shape=size, sizes=size, strides=strides, offset=start
            )
            for name, (size, strides, start) in views.items()
        ),
        s.MatMul(name="scores", a=Ref("q"), b=Ref("k")),
        s.StepSoftmax(name="p", x=Ref("scores"), gain=0.5),
        s.MatMul(name="y", a=Ref("p"), b=Ref("v")),
    ]


def in_time() -> None:
    """Print the table of heads on the chip as time."""
    largest = 256

    def inputs(rng: np.random.Generator, count: int) -> np.ndarray:
        whole = rng.integers(-largest, largest + 1, (count, 3 * TOKENS * CHANNELS))
        return whole * (2 / largest)

    x = inputs(np.random.default_rng(1), 200)
    meant = attended(x.reshape(-1, 3, TOKENS, CHANNELS))

    def row(name: str, found: np.ndarray, circuit: Any) -> None:
        error = float(np.sqrt(((found - meant) ** 2).mean() / (meant**2).mean()))
        cores = lower_bound_cores(circuit, load_target("loihi2"))
        print(
            f"| {name} | {error:.3f} | {sum(p.size for p in circuit.populations):,} | "
            f"{len(circuit.populations)} | {cores} | {circuit.period} | {circuit.depth} |",
            flush=True,
        )

    print("| head | error | neurons | populations | least cores | steps a sample | depth |")
    print("|---" * 7 + "|")
    integers = np.rint(x.reshape(-1, 3, TOKENS, CHANNELS) * (largest / 2)).astype(np.int32)
    for base, steps in HEADS:
        code, unit = OneSpikeCode(base, steps), 0.5 * (2 / largest) ** 2
        circuit = prepared(one_spike_attention(TOKENS, CHANNELS, largest, unit, code))
        few = decode(circuit, Emulator().open(circuit).run(integers[:4]))
        found = one_spike_attention_values(integers, unit, largest, code)
        np.testing.assert_allclose(few.reshape(found[:4].shape), found[:4], rtol=0, atol=1e-9)
        row(f"base {base:g}, {steps} steps", found * (2 / largest), circuit)
    for digits in (4, 6, 10):
        _, quantized, given = built(by_digits(), 3 * TOKENS * CHANNELS, inputs, digits)
        encoded = encode_input(quantized.input, given)
        found = evaluate(quantized, encoded, 1, ["out"])["out"].reshape(meant.shape)
        meant = attended((encoded * quantized.input.unit).reshape(-1, 3, TOKENS, CHANNELS))
        row(f"digits, B = {digits}", found, prepared(lower(quantized, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=float, default=1.15)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--samples", type=int, help="of the 360 held-out images; else all")
    parser.add_argument("--map", action="store_true", help="map both to Kapoho Point too")
    parser.add_argument("--time", action="store_true", help="only heads on the chip as time")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if arguments.time:
        in_time()
        return
    x_train, _, x, y = load_split()
    x, y = x[: arguments.samples], y[: arguments.samples]
    facts: dict[str, Any] = {
        "images": len(y),
        "float": right(by_torch(spiked_digits.load(), "float", x), y),
    }
    facts["converted"] = {
        f"{base:g}, {steps}": right(by_torch(coded(base, steps), "spikes", x), y)
        for base, steps in CODES
    }
    facts["softmax"] = {
        f"{base:g}, {steps}": {n: round(softmax_error(base, steps, n), 5) for n in (16, 64, 197)}
        for base, steps in CODES
    }
    facts["energy"] = {
        k: round(v, 3) for k, v in energy(coded(arguments.base, arguments.steps), x).items()
    }
    for mode, name in (("spikes", "compiled"), ("head", "digits")):
        start = time.perf_counter()
        found, sizes = compiled(
            coded(arguments.base, arguments.steps), mode, x_train[:256], x, arguments.map
        )
        theirs = by_torch(coded(arguments.base, arguments.steps), mode, x)
        facts[name] = {
            "correct": right(found, y),
            "same": int((found.argmax(1) == theirs.argmax(1)).sum()),
            **sizes,
            "seconds": round(time.perf_counter() - start, 1),
        }
        if not arguments.json:
            print(name, facts[name], flush=True)
    print(json.dumps(facts, indent=None if arguments.json else 1))


if __name__ == "__main__":
    main()
