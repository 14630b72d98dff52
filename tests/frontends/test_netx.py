"""lava-dl's .net files: their integers kept, as netx runs them, and no file of a stranger does harm."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurocompile
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.door import open_model
from neurocompile.frontends.netx.file import read_netx
from neurocompile.frontends.netx.plan import plan_netx
from neurocompile.frontends.netx.reference import encoded
from neurocompile.frontends.netx.weights import dense_weights
from neurocompile.ir.evaluate import encode_input
from neurocompile.ir.quick import evaluate_quickly
from neurocompile.options import BuildOptions

h5py = pytest.importorskip("h5py")

STEPS = 9
RNG = np.random.default_rng(3)
LAVA_DL = os.environ.get("NEUROCOMPILE_LAVA_DL")


def cuba(**more: Any) -> dict[str, Any]:
    """A neuron as SLAYER writes it."""
    fields = {"type": b"CUBA", "iDecay": 4096, "vDecay": 410, "vThMant": 80, "refDelay": 1}
    return {**fields, "gradedSpike": False, **more}


def dense(out: int, into: int, neuron: Any = ..., low: int = -60, **more: Any) -> dict[str, Any]:
    weight = RNG.integers(low // 2, 64, (out, into)) * 2
    fields = {"type": "dense", "shape": (out,), "weight": weight.astype(np.float32), **more}
    return fields if neuron is None else {**fields, "neuron": cuba() if neuron is ... else neuron}


def conv(out: tuple[int, int, int], into: int, kernel: int = 3, **more: Any) -> dict[str, Any]:
    groups = more.get("groups", 1)
    weight = RNG.integers(-30, 48, (out[0], into // groups, kernel, kernel)) * 2
    fields = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    fields |= {"type": "conv", "shape": out, "weight": weight.astype(np.float32)}
    return {**fields, "neuron": cuba(), **more}


def spikes_in(*shape: int) -> dict[str, Any]:
    return {"type": "input", "shape": shape}


def values_in(*shape: int, **more: Any) -> dict[str, Any]:
    return {"type": "input", "shape": shape, "neuron": cuba(iDecay=1000, vThMant=90), **more}


def write(path: Path, *blocks: dict[str, Any], steps: int | None = STEPS) -> Path:
    """A file as SLAYER's export_hdf5 writes it."""
    with h5py.File(path, "w") as file:
        for i, block in enumerate(blocks):
            group = file.create_group(f"layer/{i}")
            kind = str(block["type"]).encode()
            group.create_dataset("type", (1,), "S10", [kind])
            for name, value in block.items():
                if name == "neuron":
                    for key, parameter in value.items():
                        group[f"neuron/{key}"] = parameter
                elif name != "type":
                    group[name] = np.asarray(value)
        if steps is not None:
            file["simulation/tSample"] = steps
    return path


def samples(path: Path, count: int = 3, seed: int = 0) -> np.ndarray:
    """Spikes step by step, or values, for the file's input."""
    plan = plan_netx(read_netx(path), str(path))
    rng = np.random.default_rng(seed)
    if plan.weight:
        return rng.random((count, *plan.shape), dtype=np.float32)
    return (rng.random((count, STEPS, *plan.shape)) < 0.35).astype(np.float32)


NETWORKS: dict[str, tuple[dict[str, Any], ...]] = {
    "dense": (spikes_in(12), dense(10, 12), dense(4, 10, cuba(iDecay=1024, vDecay=0))),
    "values": (values_in(10, weight=70, bias=-9), dense(8, 10, bias=np.arange(8) - 3)),
    "membranes": (values_in(10), dense(8, 10), dense(3, 8, None)),
    "a bias of membranes": (
        spikes_in(6),
        dense(8, 6),
        dense(3, 8, cuba(vDecay=0, vThMant=(1 << 18) - 1), bias=np.array([5, -3, 0])),
    ),
    "no memory": (spikes_in(9), dense(7, 9, cuba(vDecay=4096)), dense(3, 7)),
    "images": (
        spikes_in(2, 6, 7),
        conv((4, 3, 7), 2, stride=(2, 1), padding=(1, 1), bias=np.arange(4) * 9),
        conv((4, 2, 3), 4, kernel=2, groups=2, dilation=(1, 2), stride=(1, 2)),
        {"type": "flatten", "shape": (24, 1, 1)},
        dense(5, 24),
    ),
    "odd weights": (spikes_in(8), dense(6, 8, weight=RNG.integers(-255, 255, (6, 8)))),
    "one sign": (spikes_in(8), dense(6, 8, weight=RNG.integers(0, 256, (6, 8)))),
    "delays of neurons": (spikes_in(8), dense(6, 8, delay=np.array([0, 2, 5, 2, 8, 0]))),
    "one delay": (spikes_in(5), dense(6, 5, delay=np.array([3]))),
    "delays of inputs": (spikes_in(5), dense(6, 5, delay=np.array([0, 2, 1, 0, 3]))),
    "clipped weights": (spikes_in(8), dense(6, 8, weight=RNG.integers(-400, 400, (6, 8)))),
    "a layer without weights": (spikes_in(8), dense(6, 8), dense(4, 6, weight=np.zeros((4, 6)))),
    "a kernel of three axes": (
        spikes_in(1, 4, 4),
        conv((2, 2, 2), 1, weight=RNG.integers(0, 60, (2, 1, 3, 3, 1))),
    ),
    "no input block": (dense(5, 7), dense(3, 5)),
    "delays of synapses": (spikes_in(5), dense(6, 5, delay=RNG.integers(0, 4, (6, 5)))),
    "late spikes of a lasting current": (
        spikes_in(200),
        dense(6, 200, cuba(iDecay=1024), weight=RNG.choice([-250, 250], (6, 200))),
        dense(3, 6, delay=np.array([2, 0, 1])),
    ),
    "recurrent": (
        spikes_in(7),
        {**dense(6, 7), "type": "dense_rec", "weight_rec": RNG.integers(-20, 20, (6, 6)) * 2},
        dense(3, 6),
    ),
    "joined": (
        spikes_in(6),
        dense(5, 6),
        dense(4, 5),
        {"type": "concat", "layers": (1, 0)},
        dense(3, 4 + 5 + 6),
    ),
    "joined channels": (
        spikes_in(2, 4, 4),
        conv((3, 4, 4), 2, padding=(1, 1)),
        {"type": "concat", "layers": (0,)},
        conv((2, 2, 2), 5),
    ),
    "averages": (spikes_in(8), dense(6, 8), {"type": "average", "shape": (2, 1, 1)}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_graph_is_the_file(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "net.net", *NETWORKS[name])
    x = samples(path)
    model = open_model(path, calibration=x)
    wanted, graph = model.reference.run(x), model.graph
    assert any(spikes.any() for spikes in wanted.layers.values())
    assert list(wanted.layers) == [n.name for n in graph.spiking_layers]
    found = evaluate_quickly(
        graph, encode_input(graph.input, x), STEPS, [*wanted.layers, graph.output.name]
    )
    for layer, spikes in wanted.layers.items():
        np.testing.assert_array_equal(found[layer], spikes)
    np.testing.assert_allclose(found[graph.output.name], wanted.logits, rtol=1e-12)


def test_build_keeps_the_integers(tmp_path: Path) -> None:
    path = write(tmp_path / "net.net", *NETWORKS["images"])
    x = samples(path)
    program = neurocompile.compile(path, calibration=x, cache=False)
    assert program.manifest.import_agreement == 1.0
    assert program.manifest.options.T == STEPS
    assert program.parity(x, against=("emulator",), reference=path).exact
    stored = program.quantized.tensors["conv_1_in.weight"]
    np.testing.assert_array_equal(stored, NETWORKS["images"][1]["weight"])
    assert neurocompile.check(path, calibration=x).compiles


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_programs_are_exact(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "net.net", *NETWORKS[name])
    x = samples(path)
    program = neurocompile.compile(path, calibration=x, cache=False)
    backends = ("emulator", "lava") if name in ("values", "recurrent") else ("emulator",)
    report = program.parity(x, against=backends, reference=path)
    assert report.exact and program.manifest.import_agreement == 1.0
    wanted = open_model(path, calibration=x).reference.run(x)
    np.testing.assert_allclose(program.run(x).logits, wanted.logits, rtol=1e-12)


def _as_lava_takes(weight: np.ndarray) -> np.ndarray:
    """netx's preparation in floats, then Lava's own functions; a column a spike of one source."""
    from lava.utils import weightutils

    w = np.clip(weight, -256, 254) if weight.max() > 254 and weight.min() < 0 else weight
    mixed = w.max() >= 0 > w.min()
    with np.errstate(divide="ignore"):
        scales = {
            True: min(127 / w.max() if w.max() else np.inf, -128 / w.min()),
            False: -256 / w.min() if w.max() < 0 else 255 / w.max(),
        }
    shift = int(np.floor(np.log2(scales[bool(mixed)]))) + mixed
    common = next(n for n in range(8, -1, -1) if not np.any(w % 2**n))
    w = w << shift
    sign = weightutils.determine_sign_mode(w)
    w = weightutils.clip_weights(w, sign, num_bits=8)
    w = weightutils.truncate_weights(w, sign, 8 - shift - (common - mixed))
    return w >> shift


@pytest.mark.parametrize("low, high, step", [(-254, 255, 2), (-128, 128, 1), (-255, 255, 1)])
@pytest.mark.parametrize("times", [1, 3, 16])
def test_weights_are_those_of_lava(low: int, high: int, step: int, times: int) -> None:
    pytest.importorskip("neurocompile.backends.lava.compat")
    pytest.importorskip("lava.utils.weightutils", reason="the extra lava is not installed")
    rng = np.random.default_rng(times)
    weight = rng.integers(low // times, max(high // times, 2), (5, 6)) // step * step
    np.testing.assert_array_equal(dense_weights(weight, "block"), _as_lava_takes(weight))
    one = np.abs(weight)
    np.testing.assert_array_equal(dense_weights(one, "block"), _as_lava_takes(one))
    none = -np.abs(weight) - 1
    np.testing.assert_array_equal(dense_weights(none, "block"), _as_lava_takes(none))


REFUSED: dict[str, tuple[str, str, tuple[dict[str, Any], ...]]] = {
    "SDNN": ("NC1003", "sigma-delta", (spikes_in(4), dense(3, 4, {**cuba(), "type": b"SDNN"}))),
    "ALIF": ("NC1003", "adaptive", (spikes_in(4), dense(3, 4, cuba(type=b"ALIF")))),
    "RF": ("NC1003", "resonator", (spikes_in(4), dense(3, 4, cuba(type=b"RF_PHASE")))),
    "refractory": ("NC1003", "refDelay", (spikes_in(4), dense(3, 4, cuba(refDelay=3)))),
    "norm": ("NC1003", "weight_exp", (spikes_in(4), dense(3, 4, cuba(weight_exp=2)))),
    "pool": ("NC1003", "'pool'", (spikes_in(4), {"type": "pool", "shape": (4,)})),
    "skip": ("NC1003", "'skip'", (spikes_in(4), {"type": "skip", "layers": (0,)})),
    "add": ("NC1003", "'add'", (spikes_in(4), {"type": "add", "layers": (0,)})),
    "unknown": ("NC1003", "'lstm'", (spikes_in(4), {"type": "lstm", "shape": (4,)})),
    "late conv": (
        "NC1003",
        "delays of a conv",
        (spikes_in(1, 4, 4), conv((1, 2, 2), 1, delay=np.ones(1))),
    ),
    "late loop": (
        "NC1003",
        "exponent",
        (
            spikes_in(4),
            {**dense(3, 4, delay=np.ones(3)), "type": "dense_rec", "weight_rec": np.eye(3)},
        ),
    ),
    "early": ("NC1003", "delay of -2", (spikes_in(4), dense(3, 4, delay=np.array([-2, 0, 1])))),
    "no decay": ("NC1003", "iDecay = 0", (spikes_in(4), dense(3, 4, cuba(iDecay=0)), dense(2, 3))),
    "never": ("NC1003", "threshold", (spikes_in(4), dense(3, 4, None), dense(2, 3))),
    "never at the end": (
        "NC1003",
        "threshold",
        (spikes_in(4), dense(3, 4), dense(2, 3, cuba(vThMant=1 << 18))),
    ),
    "bias": ("NC2002", "biases of", (spikes_in(4), dense(3, 4, bias=np.full(3, 5000)))),
    "decay": ("NC2002", "vDecay", (spikes_in(4), dense(3, 4, cuba(vDecay=5000)))),
    "decays": ("NC1003", "differs", (spikes_in(4), dense(3, 4, cuba(vDecay=np.arange(3))))),
    "large": ("NC1003", "300", (spikes_in(4), dense(3, 4, weight=np.full((3, 4), 300)))),
    "large conv": (
        "NC1003",
        "255",
        (spikes_in(1, 3, 3), conv((1, 1, 1), 1, weight=np.full((1, 1, 3, 3), 400))),
    ),
    "shape": ("NC1003", "weights", (spikes_in(1, 4, 4), conv((2, 2, 2), 3))),
    "size": ("NC1003", "gives", (spikes_in(1, 4, 4), conv((2, 9, 9), 1))),
    "matrix": ("NC1003", "'weight'", (spikes_in(4), dense(3, 5))),
    "image": ("NC1003", "flatten", (spikes_in(1, 4, 4), dense(3, 16))),
    "first": ("NC1003", "comes first", (spikes_in(4), dense(4, 4), spikes_in(4))),
    "behind": (
        "NC1003",
        "last block",
        (spikes_in(4), dense(4, 4), {"type": "average", "shape": (2,)}, dense(2, 2)),
    ),
    "forward": ("NC1003", "block 5", (spikes_in(4), {"type": "concat", "layers": (5,)})),
    "nothing": ("NC1010", "no block with neurons", (spikes_in(4),)),
    "a matrix of shapes": ("NC1003", "its shape", (spikes_in(4, 1, 1, 1),)),
    "huge": ("NC1003", "2\\^31", (spikes_in(1 << 20, 1 << 10, 1 << 10),)),
    "beyond 32 bits": (
        "NC1003",
        "beyond 32 bits",
        (spikes_in(4), dense(3, 4, bias=np.full(3, 1e12))),
    ),
    "a weight of nothing": ("NC1003", "its weight is 0", (values_in(4, weight=0), dense(3, 4))),
    "two weights": ("NC1003", "'weight' is 2 numbers", (values_in(4, weight=[1, 2]), dense(3, 4))),
    "joined with none": (
        "NC1003",
        "it names 0 blocks",
        (spikes_in(4), dense(4, 4), {"type": "concat", "layers": ()}, dense(2, 4)),
    ),
    "groups that do not divide": (
        "NC1003",
        "6 neurons do not make 4 groups",
        (spikes_in(8), dense(6, 8), {"type": "average", "shape": (4,)}),
    ),
    "an average of the input": (
        "NC1003",
        "4 neurons do not make 2 groups",
        (spikes_in(4), {"type": "average", "shape": (2,)}, dense(2, 2)),
    ),
    "a conv of a vector": ("NC1003", "no image", (spikes_in(4), conv((1, 1, 1), 4))),
    "a conv to a vector": (
        "NC1003",
        "no image",
        (spikes_in(2, 4, 4), {**conv((1, 2, 2), 2), "shape": (4,)}),
    ),
    "images of two sizes": (
        "NC1003",
        "images of the sizes",
        (
            spikes_in(1, 4, 4),
            conv((1, 2, 2), 1),
            {"type": "concat", "layers": (0,)},
            conv((1, 1, 1), 2),
        ),
    ),
    "no shape": ("NC1003", "no input block says", (conv((2, 2, 2), 1),)),
    "five biases": ("NC1003", "5 biases for 3", (spikes_in(4), dense(3, 4, bias=np.arange(5)))),
    "five delays": ("NC1003", "its delays are", (spikes_in(4), dense(3, 4, delay=np.arange(5)))),
    "a stride of 0": (
        "NC1003",
        "its stride is",
        (spikes_in(1, 4, 4), conv((1, 2, 2), 1, stride=(0, 1))),
    ),
    "a padding below 0": (
        "NC1003",
        "its padding is",
        (spikes_in(1, 4, 4), conv((1, 2, 2), 1, padding=(-1, 0))),
    ),
    "a conv without neurons": (
        "NC1003",
        "it has no neuron",
        (spikes_in(1, 4, 4), {k: v for k, v in conv((1, 2, 2), 1).items() if k != "neuron"}),
    ),
    "a conv that waits": (
        "NC1003",
        "takes no delays of a conv",
        (spikes_in(1, 4, 4), conv((1, 2, 2), 1, delay=[1])),
    ),
    "all below 0": (
        "NC1003",
        "scale them so that one is above 0",
        (spikes_in(4), dense(3, 4, weight=-np.tile([0, 101, 128, 1], (3, 1)))),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_named(tmp_path: Path, name: str) -> None:
    code, why, blocks = REFUSED[name]
    path = write(tmp_path / "net.net", *blocks)
    with pytest.raises(NeurocompileError, match=why) as refused:
        open_model(path)
    assert refused.value.code == code and "\n" not in refused.value.message


def _links(file: Any, path: Path) -> None:
    del file["layer/1/weight"]
    file["layer/1/weight"] = h5py.ExternalLink("/etc/other.h5", "x")


def _soft(file: Any, path: Path) -> None:
    del file["layer/1/weight"]
    file["layer/1/weight"] = h5py.SoftLink("/layer/1/bias")


def _external(file: Any, path: Path) -> None:
    del file["layer/1/weight"]
    raw = path.with_suffix(".raw")
    raw.write_bytes(bytes(1 << 10))
    file.create_dataset("layer/1/weight", (3, 4), "f4", external=[(str(raw), 0, 48)])


def _virtual(file: Any, path: Path) -> None:
    del file["layer/1/weight"]
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3, 4))
    file.create_virtual_dataset("layer/1/weight", layout)


def _huge(file: Any, path: Path) -> None:
    del file["layer/1/weight"]
    file.create_dataset("layer/1/weight", (1 << 24, 1 << 24), "f8", chunks=(64, 64))


def _words(file: Any, path: Path) -> None:
    del file["layer/1/weight"]
    file["layer/1/weight"] = np.full((3, 4), b"x")


def _not_finite(file: Any, path: Path) -> None:
    file["layer/1/weight"][0, 0] = np.nan


def _gap(file: Any, path: Path) -> None:
    file.move("layer/1", "layer/7")


def _no_type(file: Any, path: Path) -> None:
    del file["layer/1/type"]


def _flat(file: Any, path: Path) -> None:
    del file["layer"]
    file["layer"] = np.zeros(3)


HOSTILE = [_links, _soft, _external, _virtual, _huge, _words, _not_finite, _gap, _no_type, _flat]


@pytest.mark.parametrize("harm", HOSTILE)
def test_hostile_files(tmp_path: Path, harm: Any) -> None:
    path = write(tmp_path / "net.net", spikes_in(4), dense(3, 4))
    with h5py.File(path, "r+") as file:
        harm(file, path)
    with pytest.raises(NeurocompileError) as refused:
        open_model(path)
    assert refused.value.code == "NC1002" and "\n" not in refused.value.message


def test_no_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "net.net"
    for content in (b"", b"\x89HDF\r\n\x1a\n" + bytes(40), b"not at all"):
        path.write_bytes(content)
        with pytest.raises(NeurocompileError) as refused:
            open_model(path)
        assert refused.value.code == "NC1002" and "\n" not in refused.value.message
    with pytest.raises(NeurocompileError) as refused:
        open_model(tmp_path / "none.net")
    assert refused.value.code == "NC1001"


def test_what_netx_does_silently_is_said(tmp_path: Path) -> None:
    weight = np.full((3, 4), 10.6)
    path = write(
        tmp_path / "net.net",
        spikes_in(4),
        dense(3, 4, weight=weight, delay=[70, -1, 2]),
        steps=None,
    )
    with pytest.warns(UserWarning, match="whole ones") as said:
        model = open_model(path, options=BuildOptions(T=4))
    assert any("clips delays" in str(w.message) for w in said)
    assert np.array_equal(np.unique(model.graph.tensors["dense_1_in_late2.weight"]), [0, 10])


def test_steps(tmp_path: Path) -> None:
    path = write(tmp_path / "net.net", spikes_in(4), dense(3, 4), steps=None)
    with pytest.warns(UserWarning, match="does not say how many"):
        assert open_model(path).options.T == 4
    x = np.ones((2, 6, 4), np.float32)
    opened = neurocompile.open(path, calibration=x)
    assert opened.steps == 6
    assert neurocompile.open(path, calibration=x[:, 0]).graph.input.steps == 0
    np.savez(tmp_path / "x.npz", x=x)
    opened = neurocompile.open(path, calibration=tmp_path / "x.npz")
    assert opened.steps == opened.graph.input.steps == 6
    write(path, values_in(4), dense(3, 4), steps=5)
    opened = neurocompile.open(path)
    assert opened.graph.input.steps == 0
    with pytest.raises(NeurocompileError, match="open it with") as refused:
        opened.canonical().quantize(T=7)
    assert refused.value.code == "NC1015"


def test_fewer_bits_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "net.net", *NETWORKS["dense"])
    with pytest.raises(NeurocompileError, match="nothing is quantized again") as refused:
        neurocompile.compile(path, calibration=samples(path), weight_bits=4)
    assert refused.value.code == "NC2003"


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    not LAVA_DL, reason="tools/lava_dl_env.py makes what NEUROCOMPILE_LAVA_DL names"
)
def test_netx_itself(tmp_path: Path) -> None:
    """Every spike of every layer, and membranes, of netx on Lava's own runtime; and of the files with
    which lava-dl's wheel tests itself.
    """
    paths = {}
    for name, blocks in NETWORKS.items():
        if not name.startswith("joined"):  # netx has no concat
            paths[name] = write(tmp_path / f"{name.replace(' ', '_')}.net", *blocks)
    held = Path(str(LAVA_DL)).parents[1].glob("lib/python3*/site-packages/tests/lava/lib/dl/netx")
    for folder in held:
        for file in (
            folder / "tiny.net",
            folder / "mnist.net",
            *folder.glob("gts/*/ntidigits.net"),
        ):
            paths[file.stem] = Path(shutil.copy(file, tmp_path))
    given = {name: samples(path, count=2) for name, path in paths.items()}
    for name, path in paths.items():
        plan = plan_netx(read_netx(path), str(path))
        x = encoded(plan, given[name])
        x = x + plan.layers[0].neuron.bias if plan.weight else x
        np.savez(path.with_suffix(".x.npz"), x=x, steps=STEPS)
    oracle = Path(__file__).with_name("netx_oracle.py")
    subprocess.run([str(LAVA_DL), str(oracle), str(tmp_path)], check=True, timeout=3500)
    for name, path in paths.items():
        model = open_model(path, options=BuildOptions(T=STEPS), calibration=given[name])
        layers = plan_netx(read_netx(path), str(path)).layers
        run = model.reference.run(given[name])
        assert sum(int(spikes.sum()) for spikes in run.layers.values())
        with np.load(path.with_suffix(".out.npz")) as found:
            for i, layer in enumerate(layers):
                if layer.name in run.layers:
                    mine, theirs = run.layers[layer.name], found[f"layer{i}"]
                else:
                    mine, theirs = run.logits, found["v"]
                differ = int((mine != theirs.reshape(mine.shape)).sum())
                print(f"{name}: {layer.name}: {differ:,} of {mine.size:,} differ")
                assert not differ, (name, layer.name)
