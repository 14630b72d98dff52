"""NIR files: as their frameworks run them, spike for spike, and no file of a stranger does harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import neurocompile
from neurocompile.discretization import parse_discretization
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.door import open_model
from neurocompile.options import BuildOptions

h5py = pytest.importorskip("h5py")

from nir_files import STEPS, affine, chain, events, node, write  # noqa: E402


def layers_of(path: Path, x: np.ndarray, how: str) -> list[np.ndarray]:
    """Spikes (samples, steps, ...) of each layer of the file, in order, as the graph says; its definition
    and the file's own run agree, and the program is exact.
    """
    model = open_model(path, options=BuildOptions(discretize=how), calibration=x)
    program = neurocompile.compile(path, calibration=x, discretize=how)
    assert program.manifest.import_agreement == 1.0
    assert program.parity(x, against=("emulator",), reference=path).exact
    return [
        np.asarray(spikes).reshape(len(x), STEPS, -1)
        for spikes in model.reference.run(x).layers.values()
    ]


def _as_snntorch_writes(linears, neurons) -> list:
    """What snntorch.export_nir makes of its modules; 1.0 calls NIR 1.1, which Norse's pin leaves out."""
    found, dt = [], 1e-4
    for linear, neuron in zip(linears, neurons, strict=True):
        weight, bias = (t.detach().numpy() for t in (linear.weight, linear.bias))
        beta, threshold = neuron.beta.numpy(), neuron.threshold.numpy()
        tau = dt / (1 - beta)
        fields = {"r": tau / dt, "v_leak": np.zeros_like(beta), "v_threshold": threshold}
        fields["v_reset"] = np.zeros_like(beta)
        found.append(node("Affine", weight=weight, bias=bias))
        if not hasattr(neuron, "alpha"):
            found.append(node("LIF", tau=tau, **fields))
            continue
        tau_syn = dt / (1 - np.ones_like(beta) * neuron.alpha.numpy())
        found.append(node("CubaLIF", tau_syn=tau_syn, tau_mem=tau, w_in=tau_syn / dt, **fields))
    return found


def test_samples_of_a_file_bring_their_steps(tmp_path: Path) -> None:
    path = chain(tmp_path / "net.nir", (4,), [node("Threshold", threshold=np.ones(4))], (4,))
    np.savez(tmp_path / "x.npz", x=events((4,)))
    opened = open_model(path, calibration=tmp_path / "x.npz")
    assert opened.options.T == opened.graph.input.steps == STEPS


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Leaky", "Synaptic", "zero"])
def test_snntorch(tmp_path: Path, kind: str) -> None:
    snn = pytest.importorskip("snntorch")
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    more = {"alpha": 0.7} if kind == "Synaptic" else {}
    more |= {"reset_mechanism": "zero"} if kind == "zero" else {}
    made = snn.Synaptic if kind == "Synaptic" else snn.Leaky
    neurons = [
        made(beta=torch.full((n,), b), threshold=torch.full((n,), 1.0), init_hidden=True, **more)
        for n, b in ((20, 0.8), (6, 0.5))
    ]
    linears = [torch.nn.Linear(10, 20), torch.nn.Linear(20, 6)]
    with torch.no_grad():
        for linear in linears:
            linear.weight *= 3
    path = chain(tmp_path / "net.nir", (10,), _as_snntorch_writes(linears, neurons), (6,))
    x = events((10,))
    expected: list[list[np.ndarray]] = [[], []]
    for neuron in neurons:
        neuron.reset_hidden()
    with torch.no_grad():
        for t in range(STEPS):
            value = torch.tensor(x[:, t])
            for i in range(2):
                value = neurons[i](linears[i](value))
                expected[i].append(value.numpy())
    found = layers_of(path, x, "snntorch" + (",reset=zero" if kind == "zero" else ""))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.any()
        np.testing.assert_array_equal(ours, np.stack(theirs, axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LIFBoxCell", "LIFCell"])
def test_norse(tmp_path: Path, kind: str) -> None:
    norse = pytest.importorskip("norse.torch")
    torch = pytest.importorskip("torch")
    from norse.torch.utils.export_nir import _extract_norse_module as extract

    torch.manual_seed(2)
    linears = [torch.nn.Linear(10, 20), torch.nn.Linear(20, 6)]
    with torch.no_grad():
        for linear in linears:
            linear.weight *= 12
    cells = [getattr(norse, kind)(), getattr(norse, kind)()]
    nodes = [extract(module) for pair in zip(linears, cells, strict=True) for module in pair]
    path = chain(tmp_path / "net.nir", (10,), nodes, (6,))
    x = events((10,))
    expected: list[list[np.ndarray]] = [[], []]
    states = [None, None]
    with torch.no_grad():
        for t in range(STEPS):
            value = torch.tensor(x[:, t])
            for i in range(2):
                value, states[i] = cells[i](linears[i](value), states[i])
                expected[i].append(value.numpy())
    for ours, theirs in zip(layers_of(path, x, "norse"), expected, strict=True):
        assert ours.any()
        np.testing.assert_array_equal(ours, np.stack(theirs, axis=1))


@pytest.mark.slow
def test_sinabs(tmp_path: Path) -> None:
    sl = pytest.importorskip("sinabs.layers")
    torch = pytest.importorskip("torch")
    from sinabs.activation import SingleSpike
    from sinabs.nir import _extract_sinabs_module as extract

    torch.manual_seed(3)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1),
        sl.IAFSqueeze(batch_size=1, spike_fn=SingleSpike),
        sl.SumPool2d((2, 2)),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 5),
        sl.IAFSqueeze(batch_size=1, spike_fn=SingleSpike),
    )
    shape = (2, 8, 8)
    with torch.no_grad():
        net(torch.zeros(1, *shape))
    pool = node("SumPool2d", kernel_size=[2, 2], stride=[2, 2], padding=[0, 0])
    flat = node("Flatten", start_dim=0, end_dim=-1)
    nodes = [pool if i == 2 else flat if i == 3 else extract(layer) for i, layer in enumerate(net)]
    path = chain(tmp_path / "net.nir", shape, nodes, (5,))
    x = events(shape, samples=3)
    seen: list[list[np.ndarray]] = [[], []]
    hooks = [
        net[i].register_forward_hook(lambda m, a, out, k=k: seen[k].append(out.detach().numpy()))
        for k, i in enumerate((1, 5))
    ]
    with torch.no_grad():
        for sample in x:
            for layer in (net[1], net[5]):
                layer.reset_states()
            net(torch.tensor(sample))
    for hook in hooks:
        hook.remove()
    found = layers_of(path, x, "sinabs")
    for ours, theirs in zip(found, seen, strict=True):
        np.testing.assert_array_equal(ours, np.stack(theirs).reshape(len(x), STEPS, -1))
        assert ours.any()


@pytest.mark.slow
def test_every_primitive(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    n = np.ones(4)
    convolution = node(
        "Conv2d",
        input_shape=(8, 8),
        weight=rng.normal(0, 0.5, (4, 2, 3, 3)).astype(np.float32),
        bias=np.zeros(4, np.float32),
        stride=1,
        padding=1,
        dilation=1,
        groups=1,
    )
    lif = node("LIF", tau=4 * n, r=2 * n, v_leak=0 * n, v_threshold=np.array([0.8, 1.0, 1.3, 0.9]))
    nodes = [
        convolution,
        lif,
        node(
            "AvgPool2d",
            kernel_size=np.array([2, 2]),
            stride=np.array([2, 2]),
            padding=np.array([0, 0]),
        ),
        node("Threshold", threshold=np.full((4, 4, 4), 0.4)),
        node(
            "SumPool2d",
            kernel_size=np.array([2, 2]),
            stride=np.array([2, 2]),
            padding=np.array([0, 0]),
        ),
        node("Flatten", start_dim=0, end_dim=-1),
        node("Delay", delay=np.full(16, 2.0)),
        affine(rng, 12, 16),
        node("IF", r=np.ones(12), v_threshold=np.full(12, 1.5)),
        node("Scale", scale=np.full(12, 1.5)),
        node("Linear", weight=rng.normal(0, 1, (6, 12)).astype(np.float32)),
        node(
            "CubaLIF",
            tau_syn=2 * np.ones(6),
            tau_mem=3 * np.ones(6),
            r=np.full(6, 2.0),
            v_leak=np.zeros(6),
            v_threshold=np.ones(6),
            w_in=np.ones(6),
        ),
    ]
    path = chain(tmp_path / "all.nir", (2, 8, 8), nodes, (6,))
    found = layers_of(path, events((2, 8, 8)), "euler")
    assert len(found) == 4 and all(layer.any() for layer in found)


@pytest.mark.slow
def test_one_axis_and_feedback(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    ones = np.ones(10)
    nodes = {
        "input": node("Input", shape=[2, 12]),
        "conv": node(
            "Conv1d",
            input_shape=12,
            weight=rng.normal(0, 1, (3, 2, 3)).astype(np.float32),
            bias=np.zeros(3, np.float32),
            stride=2,
            padding=1,
            dilation=1,
            groups=1,
        ),
        "if": node("IF", r=np.ones((3, 6)), v_threshold=np.ones((3, 6))),
        "flat": node("Flatten", start_dim=0, end_dim=-1),
        "fc": affine(rng, 10, 18),
        "lif": node("LIF", tau=3 * ones, r=2 * ones, v_leak=0 * ones, v_threshold=ones),
        "back": affine(rng, 10, 10, 0.3),
        "output": node("Output", shape=[10]),
    }
    edges = [
        ("input", "conv"),
        ("conv", "if"),
        ("if", "flat"),
        ("flat", "fc"),
        ("fc", "lif"),
        ("lif", "back"),
        ("back", "lif"),
        ("lif", "output"),
    ]
    path = write(tmp_path / "loop.nir", nodes, edges)
    found = layers_of(path, events((2, 12)), "euler")
    assert len(found) == 2 and all(layer.any() for layer in found)


def refused(path: Path, code: str, match: str, how: str | None = "euler") -> None:
    with pytest.raises(NeurocompileError, match=match) as caught:
        open_model(path, options=BuildOptions(discretize=how), calibration=events((4,)))
    assert caught.value.code == code, caught.value


def small(path: Path, **fields: np.ndarray) -> Path:
    n = np.ones(3)
    lif = {"tau": 2 * n, "r": n, "v_leak": 0 * n, "v_threshold": n} | fields
    rng = np.random.default_rng(0)
    return chain(path, (4,), [affine(rng, 3, 4), node("LIF", **lif)], (3,))


def test_steps_have_to_be_said(tmp_path: Path) -> None:
    path = small(tmp_path / "a.nir")
    refused(path, "NC1015", "NIR does not say in what steps", None)
    refused(path, "NC1003", "another dt", "euler,dt=3")
    for text in ("brian", "euler,dt=0", "euler,dt=x", "euler,reset=soft", "norse,"):
        with pytest.raises(NeurocompileError) as caught:
            parse_discretization(text)
        assert caught.value.code == "NC1015"
    assert parse_discretization("snntorch,dt=1e-3,reset=zero").dt == 1e-3


def test_what_cannot_be_taken_is_named(tmp_path: Path) -> None:
    n = np.ones(3)
    path = small(tmp_path / "b.nir", tau=np.zeros(3))
    refused(path, "NC1003", "'tau' of node '1' is not above 0")
    refused(
        small(tmp_path / "c.nir", r=np.array([1, np.nan, 1])),
        "NC1002",
        "'r' of node '1' is not finite",
    )
    rng = np.random.default_rng(0)
    uneven = node("IF", r=n, v_threshold=np.array([1.0, 2.0, 3.0]))
    two = [affine(rng, 3, 4), node("Scale", scale=n), uneven]
    refused(
        chain(tmp_path / "d.nir", (4,), two, (3,)), "NC1003", "a layer in front cannot take that"
    )
    loop = {
        "input": node("Input", shape=[4]),
        "a": affine(rng, 4, 4),
        "b": affine(rng, 4, 4),
        "output": node("Output", shape=[4]),
    }
    edges = [("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")]
    refused(write(tmp_path / "e.nir", loop, edges), "NC1003", "a cycle without a spiking neuron")
    refused(chain(tmp_path / "f.nir", (4,), [affine(rng, 3, 5)], (3,)), "NC1003", "its weights are")


def test_files_of_strangers(tmp_path: Path) -> None:
    path = tmp_path / "no.nir"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    refused(path, "NC1002", "is no NIR file")
    path.write_text("nothing")
    refused(path, "NC1002", "is no NIR file")
    refused(tmp_path / "absent.nir", "NC1001", "no such file")

    def edited(change) -> Path:
        small(path)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    def set_type(file, word: bytes) -> None:
        del file["node/nodes/1/type"]
        file["node/nodes/1/type"] = word

    refused(edited(lambda f: set_type(f, b"Izhikevich")), "NC1003", "node '1' .* is a 'Izhikevich'")

    def external(file) -> None:
        del file["node/nodes/1/tau"]
        file["node/nodes/1/tau"] = h5py.ExternalLink("/etc/passwd", "/x")

    refused(edited(external), "NC1002", "'tau' is a link to elsewhere")

    def raw(file) -> None:
        del file["node/nodes/1/tau"]
        file["node/nodes/1"].create_dataset("tau", (3,), "f8", external=[("/etc/passwd", 0, 24)])

    refused(edited(raw), "NC1002", "lies outside of the file")

    def huge(file) -> None:
        del file["node/nodes/0/weight"]
        file["node/nodes/0"].create_dataset("weight", (1 << 20, 1 << 20), "f8", chunks=(1, 1 << 10))

    refused(edited(huge), "NC1002", "more than 4,294,967,296 bytes")

    def itself(file) -> None:
        set_type(file, b"NIRGraph")
        del file["node/nodes/1"]
        file["node/nodes/1"] = file["node"]

    refused(edited(itself), "NC1002", "deep")

    def missing(file) -> None:
        del file["node/nodes/1/r"]

    refused(edited(missing), "NC1002", "has no 'r'")
    refused(
        edited(lambda f: f["node/edges"].__setitem__((0, 0), b"x")),
        "NC1002",
        "'x', which is no node",
    )
