"""What weights on a grid a channel cost, and what rounding them to fewer scales loses.

    python benchmarks/bench_grids.py [--layers | --models] [--images N] [--bound] [--json]
        [--onnx FILE --samples X.npz]

Layers: random ones as quantization-aware training leaves them (a scale a channel, as Brevitas has
by default), read by a neuron with hard or soft reset; n of 64 channels' grids differ. Every spike is
compared with a float64 network. Models: trained ones (digits, from the zoo; others with --onnx),
every layer that a neuron reads put on the grid of each channel's largest weight, not trained
further; compared with the same in float32: right images, equal spikes, cores of Loihi 2 without a
limit (--bound: at least). "rounded" keeps no grid of a channel (what the compiler does beyond
`grids`), "kept" all. Five minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.build_steps import build_circuit
from neurocompile.calibration import calibrate_on, calibration_from_metadata
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import encode_input
from neurocompile.ir.quick import evaluate_quickly
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.mapping import lower_bound_cores, map_circuit
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.quantize import Quantize
from neurocompile.targets import load_target

T, CHANNELS, SAMPLES = 4, 64, 32
GRIDS = (1, 2, 4, 8, 16, 32, 64)
KEPT = {"rounded": 0, "kept": 1 << 20}
DIGITS = ("spikformer", "spike_driven_transformer", "spiking_resformer")


def layer(bits: int, grids: int, soft: bool, conv: bool, rng: np.random.Generator) -> Any:
    """Spikes, a layer of 64 channels on ``grids`` grids, a neuron, one more layer, a mean."""
    levels, shape = (1 << (bits - 1)) - 1, (CHANNELS, 32, 3, 3) if conv else (CHANNELS, 128)
    weight = rng.normal(size=shape)
    flat = weight.reshape(CHANNELS, -1)
    scale = np.exp(rng.normal(0, 0.6, grids))[np.arange(CHANNELS) % grids]
    q = np.clip(np.rint(flat / np.abs(flat).max(axis=1, keepdims=True) * levels), -levels, levels)
    weight = (q * (scale / levels * (0.35 if conv else 0.5))[:, None]).reshape(shape)
    x, made = ((32, 8, 8), s.Conv2d) if conv else ((128,), s.Linear)
    more = {"padding": (1, 1)} if conv else {}
    last = rng.integers(-127, 128, (10, CHANNELS, *((1, 1) if conv else ()))) / 256
    tensors = {"w": weight.astype(np.float32), "last": last.astype(np.float32)}
    neuron = {"tau": 2.0, "v_threshold": 1.0, "decay_input": False}
    nodes = (
        s.Input(name="x", shape=x),
        s.LIF(name="first", x=Ref("x"), tau=1.0, v_threshold=0.5, decay_input=False),
        made(name="layer", x=Ref("first"), weight=TensorRef("w"), **more),
        s.LIF(name="second", x=Ref("layer"), soft_reset=soft, **neuron),
        made(name="head", x=Ref("second"), weight=TensorRef("last")),
        s.LIF(name="third", x=Ref("head"), **neuron),
        s.TimeMean(name="mean", x=Ref("third")),
        s.Output(name="y", x=Ref("mean")),
    )
    return s.SpikingGraph("layer", "canonical", nodes, tensors)


def float64_spikes(graph: s.SpikingGraph, x: np.ndarray) -> np.ndarray:
    """Of the second neuron, (samples, T, ...)."""
    spikes, weight = (x >= 0.5).astype(np.float64), graph.tensors["w"].astype(np.float64)
    if weight.ndim == 4:
        padded = np.pad(spikes, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        current = np.einsum("bcyxij,ocij->boyx", windows, weight, optimize=True)
    else:
        current = spikes @ weight.T
    h, found, soft = np.zeros_like(current), [], graph.node["second"].soft_reset
    for _ in range(T):
        h = h / 2 + current
        found.append(h >= 1.0)
        h = h - found[-1] if soft else np.where(found[-1], 0.0, h)
    return np.stack(found, 1)


def built(quantized: s.SpikingGraph, target: Any, bound: bool = False) -> dict[str, int | float]:
    """Cores, populations, and seconds of lowering and mapping."""
    start = time.process_time()
    circuit = build_circuit(quantized, T, 8, target)
    at_least = lower_bound_cores(circuit, target)
    return {
        "cores": at_least if bound else map_circuit(circuit, target, {}).cores_used,
        "populations": len(circuit.populations),
        "seconds": round(time.process_time() - start, 1),
    }


def measure_layer(bits: int, grids: int, soft: bool, conv: bool, target: Any) -> dict[str, Any]:
    """One row: agreement with float64 and cost, with and without grids of channels."""
    rng = np.random.default_rng(bits + 100 * grids)
    graph = layer(bits, grids, soft, conv, rng)
    x = (rng.random((SAMPLES, *graph.input.shape)) < 0.15).astype(np.float32)
    right, statistics = float64_spikes(graph, x), calibrate_on(graph, x, T)
    row: dict[str, Any] = {
        "layer": "convolution" if conv else "linear",
        "reset": "soft" if soft else "hard",
        "bits": bits,
        "grids": grids,
    }
    for name, most in KEPT.items():
        made = Quantize(T, statistics, bits, most_grids=most)(graph)
        spikes = evaluate_quickly(made, encode_input(made.input, x), T, ["second"])["second"]
        row[name] = {"agreement": float((spikes == right).mean()), **built(made, target)}
    return row


def on_grids(graph: s.SpikingGraph, bits: int) -> s.SpikingGraph:
    """Layers in front of neurons with weights on the grid of each channel's largest one."""
    levels, tensors, nodes = (1 << (bits - 1)) - 1, dict(graph.tensors), []
    for node in graph.nodes:
        if isinstance(node, (s.Conv2d, s.Linear)):
            weight = np.asarray(tensors[node.weight], np.float64)
            rows = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
            scale = np.maximum(rows / levels, 1e-30).reshape(-1, *[1] * (weight.ndim - 1))
            tensors[f"{node.weight}.grid"] = (np.rint(weight / scale) * scale).astype(np.float32)
            node = replace(node, weight=TensorRef(f"{node.weight}.grid"))
        nodes.append(node)
    return graph.replace(nodes=tuple(nodes), tensors=tensors)


def measure_model(
    name: str, path: str, x: np.ndarray, y: np.ndarray, bits: int, target: Any, bound: bool
) -> dict[str, Any]:
    """One row: right images and equal spikes, with and without grids of channels."""
    from neurocompile import pipeline

    loaded, imported = pipeline.import_model(path)
    statistics = calibration_from_metadata(loaded.metadata)
    graph = on_grids(canonicalize(imported.graph), bits)
    layers = [n.name for n in graph.spiking_layers]
    wanted = [*layers, graph.output.name]
    theirs = evaluate_quickly(graph, x, T, wanted)
    row: dict[str, Any] = {
        "model": name,
        "bits": bits,
        "images": len(x),
        "float": _right(theirs[graph.output.name], y),
    }
    for label, most in {"rounded": 0, "8": 8, "kept": 1 << 20}.items():
        made = Quantize(T, statistics, bits, most_grids=most)(graph)
        ours = evaluate_quickly(made, encode_input(made.input, x), T, wanted)
        equal = [float((ours[n] == theirs[n]).mean()) for n in layers]
        row[label] = {
            "right": _right(ours[graph.output.name], y),
            "agreement": float(np.mean(equal)),
            "worst": min(equal),
            **built(made, target, bound),
        }
    return row


def _right(logits: np.ndarray, y: np.ndarray) -> int:
    return int((logits.reshape(len(y), -1).argmax(axis=1) == y).sum())


def main() -> None:
    """Tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", action="store_true", help="random layers alone")
    parser.add_argument("--models", action="store_true", help="trained models alone")
    parser.add_argument("--images", type=int, default=360, help="of each model")
    parser.add_argument("--bound", action="store_true", help="models are not mapped")
    parser.add_argument("--onnx", help="another trained model")
    parser.add_argument("--samples", help="its images and labels: .npz with x and y")
    parser.add_argument("--json", action="store_true", help="the same as data")
    options, target = parser.parse_args(), load_target("hala_point")
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    if not options.models:
        print(
            "| layer | reset | bits | grids | equal spikes, rounded | kept | cores | populations |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for conv in (True, False):
            for soft in (False, True):
                for bits in (4, 6):
                    for grids in GRIDS:
                        row = measure_layer(bits, grids, soft, conv, target)
                        rows.append(row)
                        a, b = row["rounded"], row["kept"]
                        print(
                            f"| {row['layer']} | {row['reset']} | {bits} | {grids} | {a['agreement']:.3%} | "
                            f"{b['agreement']:.3%} | {a['cores']} -> {b['cores']} | "
                            f"{a['populations']} -> {b['populations']} |",
                            flush=True,
                        )
    if not options.layers:
        print(
            "\n| model | bits | images | float | kept grids | right | equal spikes | worst layer |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for name, path, x, y in _models(options):
            for bits in (4, 6):
                part = slice(options.images)
                row = measure_model(name, path, x[part], y[part], bits, target, options.bound)
                rows.append(row)
                for label in ("rounded", "8", "kept"):
                    one = row[label]
                    print(
                        f"| {name} | {bits} | {row['images']} | {row['float']} | {label} | {one['right']} | "
                        f"{one['agreement']:.3%} | {one['worst']:.3%} | {one['cores']} cores, "
                        f"{one['populations']} populations, {one['seconds']} s |",
                        flush=True,
                    )
    if options.json:
        print(json.dumps(rows, indent=2))


def _models(options: argparse.Namespace) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    if options.onnx:
        with np.load(options.samples, allow_pickle=False) as file:
            return [(options.onnx, options.onnx, file["x"], file["y"])]
    zoo = Path(__file__).parents[1] / "models" / "zoo"
    with np.load(zoo / "qkformer_digits" / "test.npz", allow_pickle=False) as file:
        x, y = file["x"], file["y"]
    return [(name, str(zoo / "digits" / f"{name}.onnx"), x, y) for name in DIGITS]


if __name__ == "__main__":
    main()
