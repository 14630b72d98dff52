"""A program as Python code for Lava: one statement a process, its weights in an .npz beside it.

The code needs lava-nc 0.10.0 and scipy, and nothing of neurocompile. It says what
:mod:`neurocompile.backends.lava.network` builds, by the same rules (which see for why), with Lava's own
processes alone, so that it may be read, changed, and taken to Lava on Loihi 2.
"""

from __future__ import annotations

import keyword
import pprint
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.backends.lava.network import (
    GRADED_BITS,
    LONGEST_DELAY,
    aligned_weights,
    closing,
    takes_lava_conv,
)
from neurocompile.backends.lava.unroll import conv_csr, strided_csr
from neurocompile.errors import NeurocompileError
from neurocompile.files import write_output
from neurocompile.ir.circuit import (
    LIF,
    CircuitGraph,
    Conv2d,
    Dense,
    GradedRelay,
    GradedRelu,
    HostInput,
    Population,
    Projection,
    Strided,
)

if TYPE_CHECKING:
    from neurocompile.program import Program

__all__ = ["export_lava", "write_lava"]

_RESERVED = {"np", "sys", "build", "main", "stream", "sparse", "logits", "rounds", "data", "ports"}


def export_lava(program: Program, path: str | Path) -> tuple[Path, Path]:
    """Write ``path`` (a .py file) and the weights beside it (.npz): the two paths.

    Raises:
        NeurocompileError: NC5005 where they cannot be written, NC3103 for a delay that Lava has not.
    """
    note = "" if program.host is None else "\nWhat the host computes of these values is not in it."
    return write_lava(program.circuit, path, note)


def write_lava(circuit: CircuitGraph, path: str | Path, note: str = "") -> tuple[Path, Path]:
    """The same of a scheduled circuit."""
    path = Path(path)
    if path.suffix != ".py":
        raise NeurocompileError("NC5005", f"cannot write '{path}': give it a name that ends in .py")
    code = _Code(circuit)
    text = "".join(code.lines(note, path.name))
    data = path.with_suffix(".npz")
    write_output(data, lambda file: np.savez_compressed(file, **code.arrays))
    write_output(path, text.encode())
    return path, data


class _Code:
    """Text and arrays of one circuit."""

    def __init__(self, circuit: CircuitGraph) -> None:
        self.circuit = circuit
        self.arrays: dict[str, np.ndarray] = {}
        self.names: dict[str, str] = {}
        for p in circuit.populations:
            self.names[p.name] = self._identifier(p.name)
        self.convs = {
            q.name
            for q in circuit.projections
            if isinstance(q, Conv2d) and takes_lava_conv(circuit, q)
        }
        self.spatial = {
            end for q in circuit.projections if q.name in self.convs for end in (q.src, q.dst)
        }

    def _identifier(self, name: str) -> str:
        found = re.sub(r"\W+", "_", name).strip("_") or "p"
        found = f"p_{found}" if found[0].isdigit() else found
        if keyword.iskeyword(found) or found in _RESERVED or re.fullmatch(r"q\d+", found):
            found += "_"
        while found in self.names.values():
            found += "_"
        return found

    def shape(self, population: Population) -> tuple[int, ...]:
        return population.shape if population.name in self.spatial else (population.size,)

    def lines(self, note: str, file: str) -> Iterator[str]:
        circuit = self.circuit
        yield _HEAD.format(
            circuit=circuit.name.replace("\\", "/").replace('"', "'"),
            populations=len(circuit.populations),
            processes=len(circuit.populations) + len(circuit.projections) + 1,
            file=file,
            note=note,
            steps=circuit.steps,
            period=circuit.period,
            windows=circuit.windows,
            depth=circuit.depth,
        )
        yield from self._host()
        yield "\n\ndef build(data):\n"
        yield '    """All processes by name; ``data``: what the host sends, name -> (rounds, steps, ...)."""\n'
        yield "    ports = {}\n"
        loops = closing(circuit)
        number = {q.name: i for i, q in enumerate(circuit.projections)}
        for p in circuit.topological():
            forward = [q for q in circuit.incoming[p.name] if q.name not in loops]
            for q in forward:
                yield from self._projection(q, number[q.name])
            yield from self._population(p)
            for q in forward:
                yield f"    q{number[q.name]}.a_out.connect({self.names[p.name]}.a_in)\n".replace(
                    ".a_out.connect", self._reshape(q, p)
                )
        later = [q for q in circuit.projections if q.name in loops]
        if later:
            yield "\n    # what feeds back\n"
        for q in later:
            yield from self._projection(q, number[q.name])
            yield f"    q{number[q.name]}.a_out.connect({self.names[q.dst]}.a_in)\n".replace(
                ".a_out.connect", self._reshape(q, circuit.population[q.dst])
            )
        yield "    return ports\n"
        yield _TAIL.format(**self._readout())

    def _reshape(self, q: Projection, p: Population) -> str:
        """How the connection joins its destination, whose array may have other axes."""
        if (q.name in self.convs) == (p.name in self.spatial):
            return ".a_out.connect"
        return f".a_out.reshape({self.shape(p)}).connect"

    def _host(self) -> Iterator[str]:
        yield "\nHOST = {\n"
        for host in self.circuit.inputs:
            about: dict[str, Any] = dict(
                shape=self.shape(host),
                array=host.shape,
                depth=host.depth,
                low=host.low,
                high=host.high,
                scale=host.scale,
                axes=host.source_axes,
                stepwise=host.stepwise,
                sample=host.sample_shape or host.shape,
            )
            for name in ("places", "pattern"):
                ref = getattr(host, name)
                about[name] = None
                if ref is not None:
                    about[name] = f"{name}_{self.names[host.name]}"
                    self.arrays[about[name]] = self.circuit.tensors[ref]
            text = pprint.pformat(about, width=88, compact=True, sort_dicts=False)
            yield f"    {self.names[host.name]!r}: {text.replace(chr(10), chr(10) + '    ')},\n"
        yield "}\n"
        yield "DEPTH = {  # steps until a population's first sample arrives\n"
        for p in self.circuit.populations:
            yield f"    {self.names[p.name]!r}: {p.depth},\n"
        yield "}\n"

    def _population(self, p: Population) -> Iterator[str]:
        name, shape = self.names[p.name], self.shape(p)
        told = f"{p.name!r}, {' x '.join(map(str, p.shape))}"
        told += "" if p.name == p.layer else f", of layer {p.layer!r}"
        yield f"\n    # {told}\n"
        yield f"    {name} = {self._neurons(p, name, shape)}\n"
        yield f"    ports[{name!r}] = {name}.s_out\n"

    def _neurons(self, p: Population, name: str, shape: tuple[int, ...]) -> str:
        """The process of a population."""
        if isinstance(p, HostInput):
            return f"RingBuffer(data=stream(data[{name!r}], {p.depth}))"
        if isinstance(p, GradedRelay):
            return f"GradedVec(shape={shape}, vth=0)"
        if isinstance(p, GradedRelu):
            return f"GradedReluVec(shape={shape}, vth=0)"
        if isinstance(p, LIF):
            return self._lif(p, name, shape)
        raise NeurocompileError("NC9001", f"population '{p.name}': Lava has no {type(p).__name__}")

    def _lif(self, p: LIF, name: str, shape: tuple[int, ...]) -> str:
        bias = "0"
        if p.bias is not None and self.circuit.tensors[p.bias].any():
            values = self.circuit.tensors[p.bias].astype(np.int32)
            values = np.ascontiguousarray(np.broadcast_to(values, p.shape)).reshape(shape)
            self.arrays[f"bias_{name}"] = values
            bias = f'DATA["bias_{name}"]'
        parts = f"shape={shape}, du={p.du}, dv={p.dv}, vth={p.vth}, bias_mant={bias}"
        parts += f", bias_exp={p.bias_exp}"
        if not p.reset:
            return f"LIF({parts})"
        # Lava's time_step starts at 1: the first step of a sample is depth + 1
        offset = (p.depth + 1) % self.circuit.period
        return f"LIFReset({parts}, reset_interval={self.circuit.period}, reset_offset={offset})"

    def _projection(self, q: Projection, number: int) -> Iterator[str]:
        name, src = f"q{number}", self.circuit.population[q.src]
        bits = 0 if src.spiking else GRADED_BITS
        common = f"num_weight_bits={q.weight_bits}, num_message_bits={bits}"
        yield f"    # {type(q).__name__} {q.src} -> {q.dst}\n"
        yield f"    {name} = {self._connection(q, name, common)}\n"
        wanted = src.shape if q.name in self.convs else (src.size,)
        turn = "" if wanted == self.shape(src) else f".reshape({wanted})"
        yield f"    {self.names[q.src]}.s_out{turn}.connect({name}.s_in)\n"

    def _connection(self, q: Projection, name: str, common: str) -> str:
        """The process of a projection."""
        circuit = self.circuit
        src, dst = circuit.population[q.src], circuit.population[q.dst]
        signed = f"{common}, sign_mode=SignMode.{q.sign.upper()}"
        delay = q.delay - 1
        if q.delay > LONGEST_DELAY:
            raise NeurocompileError(
                "NC3103",
                f"projection '{q.name}' has a delay of {q.delay} steps, the limit of Lava and Loihi 2 is "
                f"{LONGEST_DELAY}: insert a relay",
            )
        if isinstance(q, Dense):
            self.arrays[name], exponent = aligned_weights(circuit.tensors[q.weight], q)
            kind, more = ("DelayDense", f"delays={delay}, ") if delay else ("Dense", "")
            return f'{kind}(weights=DATA["{name}"], {more}weight_exp={exponent}, {signed})'
        if isinstance(q, Conv2d) and q.name in self.convs:
            weight, exponent = aligned_weights(circuit.tensors[q.weight], q)
            self.arrays[name] = np.ascontiguousarray(weight[:, ::-1, ::-1])  # Lava convolves
            return (
                f'Conv(weight=DATA["{name}"], weight_exp={exponent}, input_shape={src.shape}, '
                f"padding={q.padding}, stride={q.stride}, dilation={q.dilation}, groups={q.groups}, "
                f"{common})"
            )
        if isinstance(q, Conv2d):
            matrix = conv_csr(q, circuit.tensors[q.weight], src.shape, dst.shape)
            return self._sparse(q, name, matrix, delay, signed)
        if isinstance(q, Strided):
            return self._sparse(q, name, strided_csr(q, src.size, dst.size), delay, signed)
        raise NeurocompileError("NC9001", f"projection '{q.name}': Lava has no {type(q).__name__}")

    def _sparse(self, q: Projection, name: str, matrix: Any, delay: int, signed: str) -> str:
        matrix.data, exponent = aligned_weights(matrix.data, q)
        for part in ("data", "indices", "indptr"):
            self.arrays[f"{name}_{part}"] = getattr(matrix, part)
        weights = f'sparse("{name}", {matrix.shape})'
        if not delay:
            return f"Sparse(weights={weights}, weight_exp={exponent}, {signed})"
        return (
            f"DelaySparse(weights={weights}, delays=same({weights}, {delay}), max_delay={delay}, "
            f"weight_exp={exponent}, {signed})"
        )

    def _readout(self) -> dict[str, Any]:
        readout = self.circuit.readouts[0]
        if readout.bias is not None:
            self.arrays["readout_bias"] = self.circuit.tensors[readout.bias]
        shape = (
            ""
            if readout.shape is None
            else f"    sums = sums.reshape(len(sums), *{readout.shape})\n"
        )
        return {
            "readout": repr(self.names[readout.src]),
            "shape": shape,
            "bias": "" if readout.bias is None else ' + DATA["readout_bias"]',
            "scale": repr(float(readout.scale)),
        }


_HEAD = '''"""{circuit} for Lava 0.10.0: {populations} populations, {processes} processes.

    python {file} x.npz                      # array x, samples first: prints what each sample gives
    python {file} x.npz -o out.npz --record  # and keeps it, with every population's (rounds, steps, ...)

Lava's runtime starts a process of the operating system for each of its processes.{note}
Written by neurocompile, of which it needs nothing: change what you like.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np


def fix_lava():
    """lava-nc 0.10.0 imports on Python 3.11 and later once one dataclass may be hashed."""
    name = "lava.magma.compiler.var_model"
    if sys.version_info < (3, 11) or name in sys.modules:
        return
    import lava.magma.compiler as parent

    spec = importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    source = spec.loader.get_source(name).replace(
        "@dataclass\\nclass ByteEncoder:", "@dataclass(unsafe_hash=True)\\nclass ByteEncoder:"
    )
    exec(compile(source, spec.origin, "exec"), module.__dict__)
    parent.var_model = module


fix_lava()
sys.setrecursionlimit(100_000)  # Lava looks for connected processes one inside the other

from lava.magma.core.run_conditions import RunSteps  # noqa: E402
from lava.magma.core.run_configs import Loihi2SimCfg  # noqa: E402
from lava.proc.conv.process import Conv  # noqa: E402, F401
from lava.proc.dense.process import DelayDense, Dense  # noqa: E402, F401
from lava.proc.graded.process import GradedReluVec, GradedVec  # noqa: E402, F401
from lava.proc.io import sink  # noqa: E402
from lava.proc.io.source import RingBuffer  # noqa: E402
from lava.proc.lif.process import LIF, LIFReset  # noqa: E402, F401
from lava.proc.sparse.process import DelaySparse, Sparse  # noqa: E402, F401
from lava.utils.weightutils import SignMode  # noqa: E402, F401
from scipy.sparse import csr_matrix  # noqa: E402

DATA = dict(np.load(Path(__file__).with_suffix(".npz")))
STEPS = {steps}  # of a sample, or of each of its windows
PERIOD = {period}  # steps from one sample (or window) to the next
WINDOWS = {windows}  # of a sample, where it is folded in time
LATENCY = {depth}  # steps until the deepest population sees the first sample


def sparse(name, shape):
    """A matrix of DATA."""
    parts = [DATA[f"{{name}}_{{part}}"] for part in ("data", "indices", "indptr")]
    return csr_matrix(tuple(parts), shape=shape)


def same(matrix, value):
    """The matrix with one value for all of its synapses."""
    found = matrix.astype(np.int64)
    found.data[:] = value
    return found


def stream(rounds, depth):
    """What the host sends in each global step, time last: ``rounds`` is (rounds, steps, ...)."""
    total = LATENCY + (len(rounds) - 1) * PERIOD + STEPS
    found = np.zeros((*rounds.shape[2:], total), np.int32)
    for k, values in enumerate(rounds):
        first = depth + k * PERIOD
        found[..., first : first + STEPS] = np.moveaxis(values, 0, -1)
    return found


def encode(x):
    """Real samples as the integers of each input and round: name -> (rounds, steps, ...)."""
    found = {{}}
    first = next(iter(HOST.values()))
    lead = 2 if first["stepwise"] else 1
    if first["axes"]:
        x = x.transpose(*range(lead), *(axis + lead for axis in first["axes"]))
    x = np.clip(np.rint(x.astype(np.float64) / first["scale"]), first["low"], first["high"])
    x = x.astype(np.int32)
    if not first["stepwise"]:
        x = x[:, None]  # one value for all steps
    x = x.reshape(len(x), x.shape[1], *first["sample"])
    for name, host in HOST.items():
        if host["pattern"] is not None:  # the same for every sample
            values = np.tile(DATA[host["pattern"]], (len(x), *[1] * len(host["array"])))[:, None]
        elif host["places"] is not None:  # windows bring pieces of the sample
            places = DATA[host["places"]]
            flat = x.reshape(*x.shape[:2], -1, host["array"][-1])
            values = flat[:, :, np.maximum(places, 0)]
            values[:, :, places < 0] = 0
            values = np.moveaxis(values, 2, 1).reshape(-1, x.shape[1], *host["array"])
        else:
            values = x
        values = np.broadcast_to(values, (len(values), STEPS, *values.shape[2:]))
        found[name] = values.reshape(len(values), STEPS, *host["shape"])
    return found

'''

_TAIL = '''

def logits(values):
    """What samples give, of the readout's (rounds, steps, elements)."""
    flat = values.reshape(-1, WINDOWS, STEPS, values[0, 0].size)
    sums = flat.sum(axis=1).mean(axis=1)
{shape}    return {scale} * (sums{bias})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", help=".npz with x, samples first")
    parser.add_argument("-o", "--output", help=".npz for the results")
    parser.add_argument("--record", action="store_true", help="keep every population's output")
    chosen = parser.parse_args()
    data = encode(np.load(chosen.input)["x"])
    rounds = len(next(iter(data.values())))
    total = LATENCY + (rounds - 1) * PERIOD + STEPS
    ports = build(data)
    sinks = {{}}
    for name, port in ports.items():
        if chosen.record or name == {readout}:
            sinks[name] = sink.RingBuffer(shape=port.shape, buffer=total)
            port.connect(sinks[name].a_in)
    last = sinks[{readout}]
    last.run(condition=RunSteps(num_steps=total), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    kept = {{}}
    for name, where in sinks.items():
        values = np.moveaxis(where.data.get(), -1, 0).astype(np.int64)
        steps = DEPTH[name] + np.arange(rounds)[:, None] * PERIOD + np.arange(STEPS)
        kept[name] = values[steps]
    last.stop()
    found = logits(kept[{readout}])
    print(found)
    if chosen.output:
        np.savez(chosen.output, **{{"output/logits": found}}, **kept)


if __name__ == "__main__":
    main()
'''
