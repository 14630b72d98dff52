"""Spikes that feed back into their own layer, one step later: from torch, from both exporters'
files and from a file with a Loop; every value equal on the emulator, the spikes those of torch.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

from plain_export import exported  # noqa: E402
from recover_files import charge, model  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.errors import NeurocompileError  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402
from neurocompile.ir.evaluate import evaluate  # noqa: E402

X = (np.random.default_rng(0).integers(0, 33, (32, 12)) / 16).astype(np.float32)
WAYS = pytest.mark.parametrize(
    "way",
    [
        pytest.param("module", marks=pytest.mark.slow),
        pytest.param("TorchScript", marks=pytest.mark.slow),
        "dynamo",
    ],
)


def backward(kind: str) -> torch.nn.Module:
    """What makes currents of the spikes of the step before."""
    if kind == "conv":
        return torch.nn.Conv2d(2, 2, 3, padding=1, bias=False)
    return torch.nn.Linear(8, 8, bias=kind == "biased")


class ByHand(torch.nn.Module):
    """``x_t = fc1(x) + r(s(t-1))`` and a LIF by arithmetic, hard or soft reset."""

    T = 4

    def __init__(self, kind: str, soft: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.kind, self.soft = kind, soft
        self.fc1, self.r, self.fc2 = torch.nn.Linear(12, 8), backward(kind), torch.nn.Linear(8, 4)

    def forward(self, x):
        shape = (len(x), 2, 2, 2) if self.kind == "conv" else (len(x), 8)
        v = spikes = torch.zeros(shape)
        out = []
        for t in range(self.T):
            current = self.fc1(x).reshape(shape)
            if t or self.kind == "biased":  # without a bias nothing is added at first
                current = current + self.r(spikes)
            h = 0.5 * v + current
            spikes = (h >= 1.0).float()
            v = h - spikes if self.soft else h * (1 - spikes)
            out.append(self.fc2(spikes.flatten(1)))
        return torch.stack(out).mean(0)


def check(net, way: str, tmp_path, least: float = 0.8):
    """Compile ``net`` in one way: exact, and the spikes' mean outputs are those of torch."""
    net = net.eval()
    if way == "module":
        program = neurocompile.compile(net, X[:2], calibration=X)
    else:
        path = exported(net, tmp_path / "net.onnx", way == "dynamo", X[:2])
        program = neurocompile.compile(path, calibration=X)
    assert program.manifest.import_agreement in (None, 1.0)
    graph = program.quantized
    (layer,) = graph.spiking_layers
    assert graph.fed_back == {layer.name}
    with torch.no_grad():
        theirs = net(torch.from_numpy(X)).numpy()
    found = program.run(X)
    close = np.abs(found.logits - theirs).max(axis=1) < 0.1 * theirs.std()
    assert close.mean() > least and program.parity(X, against=("emulator",)).exact
    return program


@WAYS
@pytest.mark.parametrize(
    ("kind", "soft"),
    [("linear", True), pytest.param("biased", False, marks=pytest.mark.slow), ("conv", False)],
)
def test_a_loop_by_hand(kind, soft, way, tmp_path):
    check(ByHand(kind, soft), way, tmp_path)


def test_the_file_means_what_torch_computes(tmp_path):
    """The imported graph, evaluated, is the module: every logit, to float32 rounding."""
    from neurocompile.frontends.onnx.frontend import import_model

    net = ByHand("biased", False).eval()
    path = exported(net, tmp_path / "net.onnx", True, X[:2])
    graph = import_model(path)[1].graph
    found = evaluate(graph, X, 4, [graph.output.name])[graph.output.name]
    with torch.no_grad():
        np.testing.assert_allclose(found, net(torch.from_numpy(X)).numpy(), atol=1e-5)
    (back,) = (n for n in graph.nodes if isinstance(n, s.Previous))
    assert back.shape == (8,) and back.levels == 1


def test_a_loop_operator(tmp_path):
    """A whole recurrent network in one Loop, spikes and membrane its states."""
    text = f"""v0 = Expand (zero, shape)
    last, mast, total = Loop (count, true, v0, v0, v0) <body = body
        (int64 t, bool go, float[B, 8] v, float[B, 8] s, float[B, 8] sum)
        => (bool go2, float[B, 8] pv, float[B, 8] ps, float[B, 8] sum2) {{
        go2 = Identity (go)
        x1 = MatMul (x, w1)
        x2 = MatMul (s, back)
        x3 = Add (x1, x2)
        i = Add (x3, b1)
        {charge("v", "i", "p")}
        sum2 = Add (sum, ps) }}>
    y = Div (total, number)"""
    path = tmp_path / "loop.onnx"
    back = np.random.default_rng(3).normal(0, 0.5, (8, 8))
    fields = {"count": np.int64(4), "true": np.True_, "number": 4.0, "shape": np.asarray([2, 8])}
    onnx.save(
        model(f"g (float[2, 6] x) => (float[2, 8] y) {{ {text} }}", back=back, **fields), path
    )
    program = neurocompile.compile(path, calibration=X[:, :6])
    assert program.manifest.import_agreement == 1.0
    result = program.parity(X[:, :6], against=("emulator",), reference=path)
    assert result.exact and min(layer.agreement for layer in result.reference.layers) > 0.97
    assert any(q.recurrent for q in program.circuit.projections)


CONTAINERS = {
    "linear": lambda layer, lif: layer.LinearRecurrentContainer(lif(), 8, 8, step_mode="m"),
    "soft": lambda layer, lif: layer.LinearRecurrentContainer(
        lif(v_reset=None), 8, 8, step_mode="m"
    ),
    "added": lambda layer, lif: layer.ElementWiseRecurrentContainer(
        lif(), lambda y, x: x + y, step_mode="m"
    ),
    "taken": lambda layer, lif: layer.ElementWiseRecurrentContainer(
        lif(), lambda y, x: x - 0.5 * y, step_mode="m"
    ),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k == "linear" else pytest.mark.slow) for k in CONTAINERS]
)
def test_containers_of_spikingjelly(kind, tmp_path):
    pytest.importorskip("spikingjelly", reason="spikingjelly is not installed")
    from spikingjelly.activation_based import layer, neuron

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.fc1 = layer.Linear(12, 8, step_mode="m")
            self.recurrent = CONTAINERS[kind](layer, neuron.LIFNode)
            self.fc2 = layer.Linear(8, 4, step_mode="m")

        def forward(self, x):
            x = x.unsqueeze(0).repeat(4, 1, 1)
            return self.fc2(self.recurrent(self.fc1(x))).mean(0)

    program = neurocompile.compile(Net().eval(), X[:2], calibration=X)
    assert program.parity(X, against=("emulator",)).exact
    assert program.quantized.fed_back == {"recurrent.sub_module"}


ONE_TO_ONE = {
    "all": {"linear_features": 8},
    "number": {"all_to_all": False, "V": 0.5},
    "negative": {"all_to_all": False, "V": -1.5},
    "more": {"all_to_all": False, "V": 2.5},
    "channels": {"all_to_all": False, "V": torch.linspace(-1, 1, 8)},
}


@WAYS
@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k == "channels" else pytest.mark.slow) for k in ONE_TO_ONE]
)
def test_rleaky_of_snntorch(kind, way, tmp_path):
    """A number for all channels is an amount of reset; other connections feed back."""
    snn = pytest.importorskip("snntorch", reason="snntorch is not installed")
    program = rleaky(snn, way, tmp_path, **ONE_TO_ONE[kind])
    assert program.parity(X, against=("emulator",)).exact
    assert bool(program.quantized.fed_back) == (kind in ("all", "channels", "more"))


def rleaky(snn, way: str, tmp_path, **fields):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.fc1, self.fc2 = torch.nn.Linear(12, 8), torch.nn.Linear(8, 4)
            self.lif = snn.RLeaky(beta=0.9, **fields)

        def forward(self, x):
            spikes, membrane = self.lif.init_rleaky()
            out = []
            for _ in range(4):
                spikes, membrane = self.lif(self.fc1(x), spikes, membrane)
                out.append(self.fc2(spikes))
            return torch.stack(out).mean(0)

    net = Net().eval()
    if way == "module":
        return neurocompile.compile(net, X[:2], calibration=X)
    path = exported(net, tmp_path / "net.onnx", way == "dynamo", X[:2])
    program = neurocompile.compile(path, calibration=X)
    result = program.parity(X, against=("emulator",), reference=path)
    assert min(layer.agreement for layer in result.reference.layers) > 0.97
    return program


def test_a_reset_that_takes_the_next_input_too_is_named(tmp_path):
    snn = pytest.importorskip("snntorch", reason="snntorch is not installed")
    with pytest.raises(NeurocompileError, match="NC1009.*reset_mechanism='zero'"):
        rleaky(snn, "module", tmp_path, linear_features=8, reset_mechanism="zero")


class TopDown(torch.nn.Module):
    """The second layer's spikes reach the first one step later."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2, self.r = (torch.nn.Linear(n, 8) for n in (12, 8, 8))

    def forward(self, x):
        v = w = late = torch.zeros(len(x), 8)
        out = []
        for _ in range(4):
            h = 0.5 * v + self.fc1(x) + self.r(late)
            s1 = (h >= 1.0).float()
            v = h * (1 - s1)
            u = 0.5 * w + self.fc2(s1)
            late = (u >= 1.0).float()
            w = u * (1 - late)
            out.append(late)
        return torch.stack(out).mean(0)


def test_spikes_of_another_layer_one_step_later_are_refused_by_name(tmp_path):
    path = exported(TopDown().eval(), tmp_path / "net.onnx", True, X[:2])
    with pytest.raises(NeurocompileError, match="NC1009.*only a layer's own spikes feed back"):
        neurocompile.compile(path)


@pytest.mark.slow
def test_a_batch_of_one_and_of_two_give_the_same_integers(tmp_path):
    texts = set()
    for n in (1, 2):
        path = exported(ByHand("linear", False).eval(), tmp_path / f"{n}.onnx", True, X[:n])
        program = neurocompile.compile(path, calibration=X)
        texts.add(program.run(X).logits.tobytes())
    assert len(texts) == 1


class Maps(torch.nn.Module):
    """Feature maps of 4 x 4, of which folding takes rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.r, self.fc = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False), torch.nn.Linear(16, 4)

    def forward(self, x):
        v, out = torch.zeros(len(x), 1, 4, 4), []
        spikes = v
        for _ in range(4):
            h = 0.5 * v + x + self.r(spikes)
            spikes = (h >= 1.0).float()
            v = h * (1 - spikes)
            out.append(self.fc(spikes.flatten(1)))
        return torch.stack(out).mean(0)


def test_folding_refuses_it_by_name(tmp_path):
    images = np.random.default_rng(0).uniform(0, 2, (8, 1, 4, 4)).astype(np.float32)
    path = exported(Maps().eval(), tmp_path / "net.onnx", True, images[:2])
    assert neurocompile.compile(path, calibration=images).parity(images).exact
    with pytest.raises(NeurocompileError, match="Previous.*not known to folding"):
        neurocompile.compile(path, calibration=images, fold="1x2")
