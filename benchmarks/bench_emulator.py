"""The emulator's speed, as ratios of one run: against a hand-written AVX-512 sketch, SpikingJelly's
float forward, an earlier checkout, and folded programs against unfolded ones.

    uv run python benchmarks/bench_emulator.py [--model MODEL.onnx --images X.npz] [--before CHECKOUT]
        [--pairs 7] [--only reference,model,digits,folded,kernels] [--json]

Each ratio is the median over pairs: the two take turns, so that what else runs on the machine
disturbs both. ``cpu`` ratios count processor time of one thread, ``wall`` ratios clock time with
one thread a processor for both. ``--model`` takes a file with LIF layers, ``--images`` its inputs
(``x``, float32); random ones otherwise. ``--before`` is the root of another checkout, whose emulator
runs the digits model in a process of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
LAYERS, WIDTH, STEPS, RATE = 10, 512, 100, 0.1
DIGITS = ROOT / "models" / "zoo" / "qkformer_digits" / "qkformer.onnx"
Found = dict[str, float]


def paired(
    ours: Callable[[], Any], theirs: Callable[[], Any], pairs: int, clock: Callable[[], float]
) -> tuple[float, float, float]:
    """Median seconds of both, and the median of theirs / ours over pairs that take turns."""
    times: list[tuple[float, float]] = []
    ours(), theirs()
    for _ in range(pairs):
        took = []
        for function in (ours, theirs):
            start = clock()
            function()
            took.append(clock() - start)
        times.append((took[0], took[1]))
    return (
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(b / a for a, b in times),
    )


# ---- the reference net ---------------------------------------------------------------------------


def reference_net() -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Inputs bool (T, N), weights int8 (layers, targets, sources) and thresholds at which every
    layer spikes at the input's rate.
    """
    rng = np.random.default_rng(0)
    x = rng.random((STEPS, WIDTH)) < RATE
    weights = rng.integers(-127, 128, (LAYERS, WIDTH, WIDTH)).astype(np.int8)
    thresholds, spikes = [], x
    for layer in weights:
        sums = spikes.astype(np.int64) @ layer.astype(np.int64).T
        low, high = 1, 100_000
        while low < high:
            middle = (low + high) // 2
            if lif(sums, middle).mean() > RATE:
                low = middle + 1
            else:
                high = middle
        thresholds.append(low)
        spikes = lif(sums, low)
    return x, weights, thresholds


def lif(sums: np.ndarray, threshold: int) -> np.ndarray:
    """Spikes bool (T, N) of LIF neurons that lose half of their membrane in each step."""
    v, out = np.zeros(sums.shape[1], np.int64), np.zeros(sums.shape, bool)
    for t, a in enumerate(sums):
        v = np.sign(v) * ((np.abs(v) * 2048) >> 12) + (a << 6)
        out[t] = v > threshold << 6
        v[out[t]] = 0
    return out


def reference_circuit(weights: np.ndarray, thresholds: list[int]) -> Any:
    """The same as a circuit."""
    from neurocompile.ir import circuit as c
    from neurocompile.ir.text import Ref, TensorRef

    populations: list[c.Population] = [
        c.HostInput(name="x", shape=(WIDTH,), layer="x", low=0, high=1, stepwise=True),
        c.GradedRelay(name="l0", shape=(WIDTH,), layer="x"),
    ]
    projections: list[c.Projection] = [
        c.Strided(
            name="in",
            src=Ref("x"),
            dst=Ref("l0"),
            sizes=(WIDTH,),
            src_strides=(1,),
            dst_strides=(1,),
        )
    ]
    tensors = {}
    for k, threshold in enumerate(thresholds):
        name = f"l{k + 1}"
        populations.append(
            c.LIF(name=name, shape=(WIDTH,), layer=name, vth=threshold, dv=2048, reset=True)
        )
        tensors[f"w{k}"] = weights[k].astype(np.int16)
        projections.append(
            c.Dense(name=f"q{k}", src=Ref(f"l{k}"), dst=Ref(name), weight=TensorRef(f"w{k}"))
        )
    return c.CircuitGraph("net", STEPS, tuple(populations), tuple(projections), (), tensors)


def sketch(folder: str) -> Any:
    """The AVX-512 sketch as a library; None without a compiler or such a processor."""
    compiler = shutil.which("cc")
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if compiler is None or "avx512bw" not in flags:
        return None
    library = Path(folder) / "reference_net.so"
    source = ROOT / "benchmarks" / "reference_net_avx512.c"
    command = [
        compiler,
        "-O3",
        "-march=native",
        "-shared",
        "-fPIC",
        str(source),
        "-o",
        str(library),
    ]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


def jelly_net(weights: np.ndarray, thresholds: list[int]) -> Callable[[Any], Any]:
    """The same net of SpikingJelly's multi-step neurons, float32."""
    import torch
    from spikingjelly.activation_based import functional, layer, neuron

    modules: list[torch.nn.Module] = []
    for weight, threshold in zip(weights, thresholds):
        linear = layer.Linear(WIDTH, WIDTH, bias=False, step_mode="m")
        linear.weight.data[:] = torch.from_numpy(weight.astype(np.float32))
        node = neuron.LIFNode(
            tau=2.0, decay_input=False, v_threshold=threshold + 1 / 128, v_reset=0.0, step_mode="m"
        )
        modules += [linear, node]
    net = torch.nn.Sequential(*modules).eval()

    def forward(x: Any) -> Any:
        with torch.no_grad():
            functional.reset_net(net)
            return net(x)

    return forward


def reference(pairs: int) -> Found:
    """The net of 10 x 512 neurons, 100 steps."""
    from neurocompile.backends.emulator import Emulator

    x, weights, thresholds = reference_net()
    samples = np.repeat(x[None].astype(np.int32), 16, axis=0)
    last = f"l{LAYERS}"
    circuit = reference_circuit(weights, thresholds)
    one = Emulator(1).open(circuit)
    found: Found = {}
    spikes = one.run(samples[:1], [last])[last][0]
    with tempfile.TemporaryDirectory() as folder:
        library = sketch(folder)
        if library is not None:
            given = np.ascontiguousarray(x, np.uint8)
            rows = np.ascontiguousarray(weights.transpose(0, 2, 1))
            limits, out = np.array(thresholds, np.int32) << 6, np.empty((STEPS, WIDTH), np.uint8)
            pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (given, rows, limits, out)]

            def written() -> None:
                for _ in samples:
                    library.run(*pointers, STEPS, LAYERS)

            written()
            assert np.array_equal(out, spikes), "the sketch's spikes differ"
            a, b, ratio = paired(
                lambda: one.run(samples, [last]), written, pairs, time.process_time
            )
            count = len(samples) * STEPS
            found["reference net, emulator, steps/s of one thread"] = count / a
            found["reference net, AVX-512 sketch, steps/s of one thread"] = count / b
            found["reference net, emulator / sketch (cpu)"] = ratio
    try:
        import torch

        forward = jelly_net(weights, thresholds)
    except ImportError:
        return found
    real = torch.from_numpy(x.astype(np.float32))[:, None].repeat(1, len(samples), 1)
    rate = float(forward(real[:, :1]).mean())  # rounding moves single spikes of ten such layers
    assert abs(rate - RATE) < RATE / 5, f"SpikingJelly's last layer spikes at {rate}"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for batch in (1, len(samples)):
        _, _, ratio = paired(
            partial(one.run, samples[:batch], [last]),
            partial(forward, real[:, :batch]),
            pairs,
            time.process_time,
        )
        found[f"reference net, emulator / SpikingJelly, batch {batch} (cpu)"] = ratio
    torch.set_num_threads(threads)
    every = Emulator().open(circuit)
    _, _, ratio = paired(
        lambda: every.run(samples, [last]), lambda: forward(real), pairs, time.perf_counter
    )
    found["reference net, emulator / SpikingJelly, all cores (wall)"] = ratio
    return found


# ---- models --------------------------------------------------------------------------------------


def front(path: Path, samples: np.ndarray | None = None) -> tuple[Any, Any, Any]:
    """The imported graph, the quantized one and its circuit."""
    from neurocompile.build_steps import build_circuit, canonical_graph, statistics_of
    from neurocompile.frontends.door import open_model
    from neurocompile.options import BuildOptions
    from neurocompile.passes.quantize import Quantize
    from neurocompile.progress import Stages
    from neurocompile.targets import load_target

    chip = load_target("loihi2")
    opened = open_model(str(path), None, BuildOptions(), calibration=samples, stages=Stages(False))
    options = opened.options.settled(opened.options.steps, chip)
    canonical = canonical_graph(opened, chip)
    quantize = Quantize(options.steps, statistics_of(opened, canonical), options.bits)
    quantized = quantize(canonical)
    circuit = build_circuit(quantized, options.steps, options.bits, chip)
    return opened.graph, quantized, circuit


def model(path: Path, images: np.ndarray | None, pairs: int) -> Found:
    """A model's circuit against its float forward with SpikingJelly's neurons."""
    import torch

    from neurocompile.backends.emulator import Emulator
    from neurocompile.backends.encoding import encode
    from neurocompile.reference.spikingjelly import _Runner

    imported, _, circuit = front(path)
    shape = imported.input.sample_shape
    x = images if images is not None else np.random.default_rng(0).random((16, *shape), np.float32)
    x = x[:16].astype(np.float32)
    integers, out = encode(circuit, x), circuit.readouts[0].src
    runner = _Runner(imported, circuit.steps, "cpu")

    def forward() -> None:
        with torch.no_grad():
            runner(torch.from_numpy(x))

    found: Found = {}
    name = path.stem
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one, every = Emulator(1).open(circuit), Emulator().open(circuit)
    a, b, ratio = paired(lambda: one.run(integers, [out]), forward, pairs, time.process_time)
    found[f"{name}, emulator, ms an image (cpu)"] = 1e3 * a / len(x)
    found[f"{name}, SpikingJelly, ms an image (cpu)"] = 1e3 * b / len(x)
    found[f"{name}, emulator / SpikingJelly (cpu)"] = ratio
    torch.set_num_threads(threads)
    a, b, ratio = paired(lambda: every.run(integers, [out]), forward, pairs, time.perf_counter)
    found[f"{name}, emulator, ms an image, all cores (wall)"] = 1e3 * a / len(x)
    found[f"{name}, emulator / SpikingJelly, all cores (wall)"] = ratio
    return found


EARLIER = """
import pickle, sys, time
import numpy as np
sys.path.insert(0, sys.argv[1])
from neurocompile.backends.emulator import Emulator
from neurocompile.ir.circuit import CircuitGraph
text, tensors, x, out = pickle.load(open(sys.argv[2], "rb"))
executor = Emulator().open(CircuitGraph.parse(text, tensors))
executor.run(x, out)
for line in sys.stdin:
    start = time.process_time()
    executor.run(x, out)
    print(time.process_time() - start, flush=True)
"""


def digits(before: Path | None, pairs: int) -> Found:
    """The digits model, 64 samples, all spiking layers recorded; against another checkout."""
    import pickle

    from neurocompile.backends.emulator import Emulator
    from neurocompile.backends.encoding import encode

    imported, _, circuit = front(DIGITS)
    shape = imported.input.sample_shape
    x = encode(circuit, np.random.default_rng(0).random((64, *shape), np.float32))
    record = [circuit.readouts[0].src, *(v.src for v in circuit.views)]
    executor = Emulator(1).open(circuit)
    executor.run(x, record)
    found: Found = {}
    if before is None:
        start = time.process_time()
        executor.run(x, record)
        found["digits, emulator, ms a sample (cpu)"] = 1e3 * (time.process_time() - start) / len(x)
        return found
    with tempfile.NamedTemporaryFile(suffix=".pickle") as file:
        pickle.dump((circuit.text(), dict(circuit.tensors), x, record), file)
        file.flush()
        command = [sys.executable, "-c", EARLIER, str(before.resolve()), file.name]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdin is not None and other.stdout is not None
            times = []
            for _ in range(pairs):
                start = time.process_time()
                executor.run(x, record)
                ours = time.process_time() - start
                print(file=other.stdin, flush=True)
                times.append((ours, float(other.stdout.readline())))
            other.stdin.close()
    found["digits, emulator, ms a sample (cpu)"] = 1e3 * statistics.median(
        a / len(x) for a, _ in times
    )
    found["digits, emulator / earlier checkout (cpu)"] = statistics.median(b / a for a, b in times)
    return found


def folded(pairs: int) -> Found:
    """The digits model folded in time against the unfolded one."""
    from neurocompile.backends.emulator import Emulator
    from neurocompile.backends.encoding import encode
    from neurocompile.folding.schedules import Fold
    from neurocompile.folding.search import fold_circuit
    from neurocompile.targets import load_target

    imported, quantized, circuit = front(DIGITS)
    found: Found = {}
    for fold in ("1x4", "2x8"):
        small = fold_circuit(quantized, circuit.steps, 8, load_target("loihi2"), Fold.parse(fold))
        x = np.random.default_rng(0).random((32, *imported.input.sample_shape), np.float32)
        one, other = Emulator(1).open(circuit), Emulator(1).open(small)
        (a, b), (p, q) = ((encode(c, x), c.readouts[0].src) for c in (circuit, small))
        whole, parts = one.run(a, [b])[b], other.run(p, [q])[q]
        sums = parts.reshape(len(x), small.windows, small.steps, -1).sum(axis=1)
        assert np.array_equal(sums, whole.reshape(sums.shape))
        _, _, ratio = paired(
            partial(one.run, a, [b]), partial(other.run, p, [q]), pairs, time.process_time
        )
        found[f"digits, folded {fold} / unfolded, time (cpu)"] = ratio
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--only", default="reference,model,digits,folded")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    images = np.load(options.images)["x"] if options.images else None
    parts: dict[str, Callable[[], Found]] = {
        "reference": lambda: reference(options.pairs),
        "model": lambda: model(options.model, images, options.pairs) if options.model else {},
        "digits": lambda: digits(options.before, options.pairs),
        "folded": lambda: folded(options.pairs),
    }
    found: Found = {}
    for name in options.only.split(","):
        made = parts[name]()
        found |= made
        if not options.json:
            for what, value in made.items():
                print(f"{what:<64} {value:12,.3f}", flush=True)
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
