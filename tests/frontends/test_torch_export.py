"""Exported files in plain onnxruntime against SpikingJelly, spike for spike; and what the exporter
refuses.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

from neurocompile.models.qkformer import QKFormer  # noqa: E402
from spikingjelly.activation_based import functional, layer, neuron  # noqa: E402
from torch import nn  # noqa: E402

from neurocompile.calibration import value_grid  # noqa: E402
from neurocompile.errors import NeurocompileError  # noqa: E402
from neurocompile.frontends.torch.export import export_onnx  # noqa: E402

torch.set_num_threads(1)
EXAMPLE = np.zeros((2, 6), np.float32)


class Net(nn.Module):
    """Linear, then a neuron, in (B, 6) repeated over ``steps``."""

    def __init__(self, spiking: nn.Module, steps: int = 5) -> None:
        super().__init__()
        self.steps = steps
        self.fc = nn.Linear(6, 8)
        self.unused = nn.Linear(6, 8)
        self.block = nn.Sequential(spiking)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(self.fc(x.unsqueeze(0).repeat(self.steps, 1, 1)))


def make_dyadic(model: nn.Module) -> nn.Module:
    """Round weights to few bits, so that float32 sums are exact in any order and no rounding flips
    a spike.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                # The variance that makes the gain exactly gamma.
                module.running_var.fill_(1.0).sub_(module.eps)
                assert (torch.sqrt(module.running_var + module.eps) == 1).all()
                module.weight.copy_(torch.randint(2, 5, module.weight.shape) / 2)
                module.bias.copy_(torch.randint(-1, 5, module.bias.shape) / 2)
            elif isinstance(module, (nn.Conv2d, nn.Linear)):
                for parameter in module.parameters():
                    parameter.copy_(torch.round(parameter * 32) / 16)
    return model


def run_float(model: nn.Module, x: np.ndarray) -> dict[str, np.ndarray]:
    """Spikes of every neuron by module path, and the output as '', from reset neurons."""
    found: dict[str, np.ndarray] = {}
    hooks = [
        module.register_forward_hook(
            lambda _m, _i, out, path=path: found.__setitem__(path, out.numpy())
        )
        for path, module in model.named_modules()
        if isinstance(module, neuron.BaseNode)
    ]
    functional.reset_net(model)
    with torch.no_grad():
        found[""] = model(torch.from_numpy(x)).numpy()
    functional.reset_net(model)
    for hook in hooks:
        hook.remove()
    return found


def run_onnx(path: Path, x: np.ndarray) -> dict[str, np.ndarray]:
    """The same from the file, by the names of its LIF nodes."""
    proto = onnx.load(path)
    names = [node.name for node in proto.graph.node if node.op_type == "LIF"]
    output = proto.graph.output[0].name
    for node in proto.graph.node:
        if node.op_type == "LIF" and node.output[0] != output:
            assert node.output[0] == node.name
            proto.graph.output.append(
                onnx.helper.make_tensor_value_info(node.name, onnx.TensorProto.FLOAT, None)
            )
    results = onnxruntime.InferenceSession(proto.SerializeToString()).run(
        [*names, output], {"x": x}
    )
    return dict(zip([*names, ""], results))


@pytest.fixture(scope="module")
def qkformer() -> nn.Module:
    torch.manual_seed(1)
    return make_dyadic(QKFormer().eval())


@pytest.fixture(scope="module")
def qkformer_file(qkformer: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "qkformer.onnx"
    export_onnx(qkformer, np.zeros((1, 1, 8, 8), np.float32), path)
    return path


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_qkformer_file_equals_the_model(
    qkformer: nn.Module, qkformer_file: Path, batch: int
) -> None:
    x = np.random.default_rng(batch).integers(0, 17, (batch, 1, 8, 8)).astype(np.float32) / 16
    expected, got = run_float(qkformer, x), run_onnx(qkformer_file, x)
    assert expected.keys() == got.keys() and len(got) == 20
    assert all(0 < expected[path].mean() < 1 for path in got if path)
    for path, values in expected.items():
        np.testing.assert_array_equal(got[path], values, err_msg=path)


def test_qkformer_graph_is_small_and_named(qkformer_file: Path) -> None:
    proto = onnx.load(qkformer_file)
    kinds = {node.op_type for node in proto.graph.node}
    assert not kinds & {"BatchNormalization", "Shape", "Gather", "Concat", "Loop", "Identity"}
    assert len(proto.graph.node) < 100
    names = {tensor.name for tensor in proto.graph.initializer}
    assert {
        "patch_embed1.proj.conv.weight",
        "patch_embed1.proj.conv.bias",
        "head.weight",
        "head.bias",
    } <= names
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("v_reset", [None, 0.0, -0.25])
def test_every_reset_and_charge(v_reset: float | None, decay_input: bool, tmp_path: Path) -> None:
    common = {"v_reset": v_reset, "step_mode": "m"}
    spiking = nn.Sequential(
        neuron.LIFNode(tau=2.0, decay_input=decay_input, v_threshold=0.5, **common),
        neuron.ParametricLIFNode(init_tau=2.0, decay_input=decay_input, v_threshold=0.25, **common),
        neuron.IFNode(v_threshold=1.5, **common),
    )
    torch.manual_seed(0)
    model = make_dyadic(Net(spiking).eval())
    model.fc.bias.data.abs_()
    export_onnx(model, EXAMPLE, tmp_path / "net.onnx")
    x = np.random.default_rng(0).integers(-16, 33, (9, 6)).astype(np.float32) / 16
    expected, got = run_float(model, x), run_onnx(tmp_path / "net.onnx", x)
    assert list(got) == ["block.0.0", "block.0.1", "block.0.2", ""]
    for path, values in expected.items():
        assert 0 < values.mean() < 1, path
        np.testing.assert_array_equal(got[path], values, err_msg=path)


def test_layers_of_spikingjelly_export(tmp_path: Path) -> None:
    model = make_dyadic(Net(neuron.LIFNode(v_threshold=0.125, step_mode="m")).eval())
    model.fc = layer.Linear(6, 8, step_mode="m")
    make_dyadic(model)
    export_onnx(model, EXAMPLE, tmp_path / "net.onnx")
    x = np.random.default_rng(0).integers(-16, 33, (4, 6)).astype(np.float32) / 16
    np.testing.assert_array_equal(run_onnx(tmp_path / "net.onnx", x)[""], run_float(model, x)[""])


def test_model_is_not_modified_and_bytes_repeat(tmp_path: Path) -> None:
    model = Net(neuron.LIFNode(step_mode="m")).train()
    with torch.no_grad():
        model(torch.ones(3, 6))
    potential = model.block[0].v.clone()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kinds = [(path, type(module), module.training) for path, module in model.named_modules()]
    contents = []
    for name in ("first.onnx", "second.onnx"):
        export_onnx(model, EXAMPLE, tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    assert b"stack_trace" not in contents[0] and b"site-packages" not in contents[0]
    assert (
        str(Path(__file__).parent).encode() not in contents[0]
        and str(tmp_path).encode() not in contents[0]
    )
    assert [
        (path, type(module), module.training) for path, module in model.named_modules()
    ] == kinds
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(model.block[0].v, potential)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["first.onnx", "second.onnx"]


def test_calibration_is_stored(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = make_dyadic(Net(neuron.LIFNode(v_threshold=0.125, step_mode="m"), steps=3).eval())
    samples = np.random.default_rng(0).integers(0, 5, (130, 6)).astype(np.float32) / 4
    export_onnx(model, EXAMPLE, tmp_path / "net.onnx", calibration=samples)
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    statistics = json.loads(metadata["neurocompile.calibration"])
    spikes = run_float(model, samples)[""]
    assert metadata["neurocompile.T"] == "3"
    assert (statistics["samples"], statistics["T"]) == (130, 3)
    assert statistics["input"] == {"min": 0.0, "max": 1.0, "grid": 0.25}
    assert list(statistics["layers"]) == ["block.0"]
    assert statistics["layers"]["block.0"]["rate"] == pytest.approx(
        spikes.mean(dtype=np.float64), rel=1e-8
    )
    assert statistics["layers"]["block.0"]["channel_rate"] == pytest.approx(
        spikes.mean((0, 1), dtype=np.float64).tolist(), rel=1e-8
    )


@pytest.mark.parametrize(
    ("values", "grid"),
    [
        ([0, 1 / 16, 5 / 16, 1], 1 / 16),
        ([-0.4, 0.2, 0.6], 0.2),
        ([2, 4, 10], 2.0),
        ([4, 6, 9], 1.0),
        ([3, 3], 3.0),
        (np.arange(256) / 255, 1 / 255),
        (np.arange(300) / 299, None),
        ([0, 1, np.sqrt(2)], None),
        ([0, 0], None),
    ],
)
def test_value_grid(values: list[float], grid: float | None) -> None:
    assert value_grid(np.asarray(values, np.float32)) == (
        None if grid is None else pytest.approx(grid, abs=1e-6)
    )


def refused(model: nn.Module, tmp_path: Path, **arguments) -> NeurocompileError:
    with pytest.raises(NeurocompileError) as caught:
        export_onnx(model, EXAMPLE, tmp_path / "net.onnx", **arguments)
    assert not list(tmp_path.iterdir())
    return caught.value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_non_finite_parameters_that_are_used(value: float, tmp_path: Path) -> None:
    model = Net(neuron.LIFNode(step_mode="m"))
    model.fc.weight.data[2, 1] = value
    error = refused(model, tmp_path)
    assert error.code == "NC1004" and "'fc.weight'" in error.message and "1 of 48" in error.message


def test_accepts_non_finite_parameters_that_are_not_used(tmp_path: Path) -> None:
    model = Net(neuron.LIFNode(step_mode="m"))
    model.unused.weight.data.fill_(float("nan"))
    export_onnx(model, EXAMPLE, tmp_path / "net.onnx")


class Doubled(neuron.LIFNode):
    """Looks like a LIF, and charges otherwise."""

    def neuronal_charge(self, x: torch.Tensor) -> None:
        self.v = self.v + 2 * x


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: neuron.QIFNode(step_mode="m"), "'block.0' is a QIFNode"),
        (lambda: Doubled(step_mode="m"), "'block.0' is a Doubled"),
    ],
)
def test_refuses_neurons_without_marker(make, text: str, tmp_path: Path) -> None:
    error = refused(Net(make()), tmp_path)
    assert error.code == "NC1013" and "block.0" in error.message and text in error.message


def test_refuses_a_single_step_neuron_that_gets_all_steps(tmp_path: Path) -> None:
    error = refused(Net(neuron.LIFNode(step_mode="s")), tmp_path, T=5)
    assert (
        error.code == "NC1008"
        and "'block.0' is in single-step mode" in error.message
        and "set_step_mode" in error.message
    )


def test_names_all_neurons_without_marker_at_once(tmp_path: Path) -> None:
    error = refused(
        Net(nn.Sequential(Doubled(step_mode="m"), neuron.QIFNode(step_mode="m"))), tmp_path
    )
    assert (
        len(error.messages) == 2
        and "'block.0.0'" in error.messages[0]
        and "'block.0.1'" in error.messages[1]
    )


def test_refuses_a_neuron_that_is_called_twice(tmp_path: Path) -> None:
    shared = neuron.LIFNode(step_mode="m")
    error = refused(Net(nn.Sequential(shared, shared)), tmp_path)
    assert error.code == "NC1013" and "'block.0.0' is called twice" in error.message


def test_refuses_samples_that_follow_each_other_in_time(tmp_path: Path) -> None:
    """QKFormer's published attention runs its last neuron over T * B."""
    spiking = nn.Sequential(
        neuron.LIFNode(step_mode="m"),
        neuron.LIFNode(step_mode="m"),
        nn.Flatten(0, 1),
        neuron.LIFNode(step_mode="m"),
    )
    error = refused(Net(spiking), tmp_path)
    assert error.code == "NC1008" and "'block.0.3'" in error.message


def test_refuses_models_without_neurons(tmp_path: Path) -> None:
    assert refused(Net(nn.ReLU()), tmp_path).code == "NC1010"


def test_refuses_what_torch_cannot_trace(tmp_path: Path) -> None:
    class Branching(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.sum() > 0 else -x)

    error = refused(Branching(neuron.LIFNode(step_mode="m")), tmp_path)
    assert error.code == "NC1013" and "Branching" in error.message


def test_refuses_wrong_arrays(tmp_path: Path) -> None:
    model = Net(neuron.LIFNode(step_mode="m"))
    assert refused(model, tmp_path, calibration=np.zeros((3, 7), np.float32)).code == "NC1006"
    assert refused(model, tmp_path, calibration=np.zeros((3, 6), bool)).code == "NC1006"
    assert (
        refused(model, tmp_path, calibration=np.full((3, 6), np.nan, np.float32)).code == "NC1012"
    )


def test_leaves_nothing_where_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(NeurocompileError) as caught:
        export_onnx(Net(neuron.LIFNode(step_mode="m")), EXAMPLE, tmp_path / "missing" / "net.onnx")
    assert caught.value.code == "NC5005" and not list(tmp_path.iterdir())
