"""A tau for each channel, from torch and from ONNX to Lava: emulator and Lava agree, and the float
model is followed.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
neuron = pytest.importorskip(
    "spikingjelly.activation_based.neuron", reason="the extra 'torch' is not installed"
)

import onnx  # noqa: E402
import recover_files as files  # noqa: E402
from spikingjelly.activation_based import functional  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.errors import NeurocompileError  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402
from neurocompile.ir.circuit import LIF  # noqa: E402
from neurocompile.ir.text import Ref, TensorRef  # noqa: E402
from neurocompile.passes.lower import lower  # noqa: E402
from neurocompile.pipeline import import_model  # noqa: E402

CHANNELS = 8


class ChannelPLIF(neuron.ParametricLIFNode):
    """A learnt tau for each channel, as users write it."""

    def __init__(self, taus: np.ndarray, **fields) -> None:
        super().__init__(**fields)
        self.w = nn.Parameter(
            -torch.log(torch.as_tensor(taus, dtype=torch.float32).reshape(-1, 1, 1) - 1)
        )


class Net(nn.Module):
    """A convolution, a depthwise one, and a pool, whose neurons have taus ``taus`` and these
    reversed.
    """

    def __init__(self, taus: np.ndarray, step_mode: str = "m", **fields) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS)
        self.n1 = ChannelPLIF(taus, step_mode=step_mode, **fields)
        self.second = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)
        self.n2 = ChannelPLIF(taus[::-1].copy(), step_mode=step_mode, **fields)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(CHANNELS * 16, 10)
        torch.manual_seed(0)
        for parameter in (
            *self.first.parameters(),
            *self.second.parameters(),
            *self.head.parameters(),
        ):
            nn.init.normal_(parameter, 0.1, 0.6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.n1.step_mode == "s":
            return sum(self.step(x) for _ in range(4)) / 4
        x = x.unsqueeze(0).repeat(4, 1, 1, 1, 1)
        return self.step(x.flatten(0, 1)).unflatten(0, (4, -1)).mean(0)

    def step(self, x: torch.Tensor) -> torch.Tensor:
        def time(fire: nn.Module, x: torch.Tensor) -> torch.Tensor:
            return fire(x) if fire.step_mode == "s" else fire(x.unflatten(0, (4, -1))).flatten(0, 1)

        x = time(self.n1, self.norm(self.first(x)))
        x = time(self.n2, self.second(x))
        return self.head(self.pool(x).flatten(1))


X = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8)).astype(np.float32) / 255
FEW = np.random.default_rng(1).choice([1.25, 2.0, 4.0], CHANNELS)
MANY = np.linspace(1.2, 6.0, CHANNELS)


def logits(model: nn.Module) -> np.ndarray:
    functional.reset_net(model)
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(X)).numpy()
    functional.reset_net(model)
    return found


@pytest.mark.parametrize(
    ("taus", "fields"),
    [
        (FEW, {}),
        (MANY, {"decay_input": False}),
        (FEW, {"v_reset": -0.25}),
        (FEW, {"v_reset": None}),
        (FEW, {"step_mode": "s"}),
    ],
    ids=["few", "many", "v_reset", "soft", "single"],
)
def test_from_torch_to_lava(taus: np.ndarray, fields: dict) -> None:
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    model = Net(taus, **fields)
    expected = logits(model)
    program = neurocompile.compile(model, X, T=4)
    ours, lava = program.run(X), program.run(X, "lava")
    np.testing.assert_array_equal(ours.logits, lava.logits)
    leaks = {
        p.dv if fields.get("v_reset", 0.0) is not None else p.du + 1
        for p in program.circuit.populations
        if isinstance(p, LIF) and ".leak" in p.name
    }
    assert leaks == {round(4096 / tau) for tau in taus}
    assert (
        np.abs(expected).max() > 0.3
        and np.abs(ours.logits - expected).mean() < 0.1 * np.abs(expected).mean()
    )


def test_from_a_file_of_others_to_the_float_graph(tmp_path) -> None:
    """tau and threshold for each channel, unrolled: agreement with onnxruntime, spike for spike."""
    taus, thresholds = MANY[::-1].copy(), np.linspace(0.5, 1.0, 8)
    proto = files.unrolled(3, tau=taus, vth=thresholds)
    proto.graph.node.append(
        onnx.helper.make_node("ReduceMean", ["y"], ["mean"], axes=[0], keepdims=0)
    )
    proto.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, ["B", 8])
    )
    proto.graph.node.insert(0, onnx.helper.make_node("Expand", ["image", "repeats"], ["x"]))
    proto.graph.input[0].CopyFrom(
        onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["B", 6])
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray([3, 1, 1]), "repeats"))
    onnx.save(proto, tmp_path / "m.onnx")
    graph = import_model(tmp_path / "m.onnx")[1].graph
    (lif,) = graph.spiking_layers
    np.testing.assert_allclose(graph.tensors[lif.tau], taus, rtol=1e-6)
    x = np.random.default_rng(2).normal(0.6, 1, (8, 6)).astype(np.float32)
    program = neurocompile.compile(tmp_path / "m.onnx", T=3, calibration=x)
    assert program.manifest.import_agreement > 0.999
    assert (
        len({p.dv for p in program.circuit.populations if isinstance(p, LIF) and ".leak" in p.name})
        == 8
    )


def test_hundreds_of_channels_of_few_taus_are_few_populations_and_their_weights_are_stored_once() -> (
    None
):
    rng = np.random.default_rng(3)
    dv = rng.choice([512, 1024, 2048], 256).astype(np.int16)
    nodes = (
        s.Input(name="x", shape=(3, 8, 8), high=9, unit=1.0),
        s.Conv2d(name="c", x=Ref("x"), weight=TensorRef("w")),
        s.IntegerLIF(name="n", x=Ref("c"), vth=9, dv=TensorRef("dv")),
        s.TimeMean(name="m", x=Ref("n")),
        s.Output(name="o", x=Ref("m")),
    )
    weight = (2 * rng.integers(-5, 6, (256, 3, 3, 3))).astype(np.int16)
    circuit = lower(
        s.SpikingGraph("g", "quantized", nodes, {"w": weight, "dv": dv.reshape(-1, 1, 1)}), 2
    )
    parts = [p for p in circuit.populations if ".leak" in p.name]
    assert [p.dv for p in parts] == [512, 1024, 2048] and sum(p.size for p in parts) == 256 * 36
    assert (
        sum(circuit.tensors[q.weight].size for q in circuit.projections if hasattr(q, "stride"))
        == weight.size
    )
    assert len(circuit.projections) < 256


def test_thresholds_below_the_reset_are_named() -> None:
    model = Net(FEW)
    model.n1.v_threshold = torch.linspace(-0.1, 1.0, CHANNELS).reshape(-1, 1, 1)
    with pytest.raises(
        NeurocompileError, match="NC1009 neuron 'n1' has thresholds that are not above v_reset 0"
    ):
        neurocompile.compile(model, X, T=4)
