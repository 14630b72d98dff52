"""Fine-tuning with the compiler's rounding: the trained module, and what compiling makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("spikingjelly", reason="the extra 'torch' is not installed")

import neurocompile  # noqa: E402
from neurocompile.errors import NeurocompileError  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402
from neurocompile.ir.evaluate import encode_input, evaluate  # noqa: E402
from neurocompile.passes.quantize import Quantize  # noqa: E402
from neurocompile.qat import prepare  # noqa: E402
from neurocompile.qat.grid import FakeQuantizer, short_step  # noqa: E402
from neurocompile.qat.model import TrainableModel  # noqa: E402
from neurocompile.qat.operators import OPERATORS, rearranged  # noqa: E402
from neurocompile.qat.training import Recipe, finetune, logits_of, train  # noqa: E402

DIGITS = Path(__file__).parents[2] / "models" / "zoo" / "qkformer_digits"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    with np.load(DIGITS / "test.npz") as file:
        return file["x"], file["y"]


@pytest.fixture(scope="module")
def trained(digits) -> TrainableModel:
    """4 bits, two batches."""
    torch.set_num_threads(1)
    x, y = digits
    model = prepare(DIGITS / "qkformer.onnx", bits=4, calibration=x[:32])
    train(model, x[:32], y[:32], Recipe(epochs=1, batch=16))
    return model.eval()


def quantized(model: TrainableModel) -> s.SpikingGraph:
    return Quantize(model.T, model.statistics, model.bits)(model.trained_graph())


def test_steps_have_six_bits() -> None:
    for step in np.exp(np.random.default_rng(0).uniform(-12, 4, 200)):
        found = short_step(float(step))
        mantissa = np.frexp(found)[0] * 64
        assert mantissa == np.rint(mantissa) and abs(found - step) <= step / 64


def test_the_fake_quantizer() -> None:
    quantizer = FakeQuantizer(0.25, 7)
    value = torch.tensor([-3.0, -0.3, 0.1, 0.13, 1.8, 9.0], requires_grad=True)
    found = quantizer(value)
    assert found.tolist() == [-1.75, -0.25, 0.0, 0.25, 1.75, 1.75]
    found.sum().backward()
    assert value.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]  # nothing where it is clipped


def test_unrounded_it_is_the_model(digits, trained) -> None:
    x = digits[0][:8]
    fresh = prepare(DIGITS / "qkformer.onnx", bits=4, calibration=digits[0][:32])
    expected = evaluate(fresh.graph, x, fresh.T, [fresh.graph.output.name])
    found = logits_of(fresh, x, rounding=False)
    np.testing.assert_allclose(found, expected[fresh.graph.output.name], atol=1e-5)


def test_training_moves_weights_and_compiling_keeps_them(trained) -> None:
    graph = quantized(trained)
    moved = kept = 0
    for before, after in zip(trained.graph.nodes, graph.nodes):
        if not isinstance(before, (s.Conv2d, s.Linear)):
            continue
        assert before.name == after.name
        values, stored = trained.on_grid()[before.weight], graph.tensors[after.weight]
        start = trained.quantizers[trained.slots[before.weight]](
            torch.tensor(trained.graph.tensors[before.weight])
        )
        moved += int((values != start.numpy()).sum())
        # one factor for all of a layer: stored integers are the trained multiples
        at = np.unravel_index(np.abs(stored).argmax(), stored.shape)
        factor = np.float64(values[at]) / stored[at]
        np.testing.assert_allclose(stored * factor, values, rtol=1e-6, atol=0)
        multiples = np.abs(stored).max() // np.gcd.reduce(np.abs(stored).reshape(-1))
        assert multiples <= 7
        kept += stored.size
    assert moved > 0.01 * kept


def spikes_of(model: TrainableModel, x: np.ndarray, layers: list[str]) -> dict[str, np.ndarray]:
    """(samples, T, ...) of each layer."""
    found: dict[str, np.ndarray] = {}
    hooks = [
        model.get_submodule(model.neurons[name]).register_forward_hook(
            lambda _module, _inputs, out, name=name: found.update({name: out.numpy()})
        )
        for name in layers
    ]
    with torch.no_grad():
        model(torch.from_numpy(x))
    for hook in hooks:
        hook.remove()
    return {name: value.swapaxes(0, 1) for name, value in found.items()}


def test_spikes_of_the_module_are_the_compiled_ones(digits, trained) -> None:
    x, graph = digits[0][:24], quantized(trained)
    layers = [n.name for n in graph.spiking_layers]
    expected = evaluate(graph, encode_input(graph.input, x), trained.T, layers)
    found = spikes_of(trained, x, layers)
    for name in layers:
        assert np.array_equal(found[name], expected[name]), name


@pytest.mark.parametrize("bits", [4, pytest.param(6, marks=pytest.mark.slow)])
def test_a_residual_of_real_values_keeps_its_grids(bits: int, digits) -> None:
    x = digits[0][:40]
    model = prepare(
        DIGITS.parent / "digits" / "spike_driven_transformer.onnx", bits=bits, calibration=x
    )
    generator = torch.Generator().manual_seed(bits)
    with torch.no_grad():  # as training moves them
        for value in model.values.values():
            value += (
                0.02 * value.std(unbiased=False) * torch.randn(value.shape, generator=generator)
            )
    graph = quantized(model.eval())
    layers = [n.name for n in graph.spiking_layers]
    expected = evaluate(graph, encode_input(graph.input, x[:16]), model.T, layers)
    found = spikes_of(model, x[:16], layers)
    for name in layers:
        assert np.array_equal(found[name], expected[name]), name


@pytest.mark.slow
def test_an_exported_file_keeps_the_grid(digits, trained, tmp_path: Path) -> None:
    x, path = digits[0], tmp_path / "trained.onnx"
    neurocompile.export_onnx(trained, torch.from_numpy(x[:4]), path, calibration=x[:32])
    again = prepare(path, bits=4, calibration=x[:32])
    mine = {n.name for n in trained.graph.spiking_layers}
    assert {n.name for n in again.graph.spiking_layers} == mine
    weights = [
        [g.tensors[n.weight] for n in g.nodes if isinstance(n, (s.Conv2d, s.Linear))]
        for g in (again.graph, trained.trained_graph())
    ]
    for found, expected in zip(*weights, strict=True):
        assert np.array_equal(found, expected)
    graphs = [Quantize(4, again.statistics, 4)(again.graph), quantized(trained)]
    outputs = [
        evaluate(g, encode_input(g.input, x[:16]), 4, [g.output.name])[g.output.name]
        for g in graphs
    ]
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-6)


def test_the_same_call_gives_the_same_weights(digits) -> None:
    x, y = digits
    found = [
        finetune(DIGITS / "qkformer.onnx", data=x[:8], labels=labels, bits=3, epochs=1, batch=8)
        for labels in (y[:8], y[:8])
    ]
    first, second = (f.model.on_grid() for f in found)
    assert found[0].losses == found[1].losses
    assert all(np.array_equal(first[name], second[name]) for name in first)


OPERATIONS = """spiking "g" {stage = "canonical"}
%x = Input {shape = [4, 5, 6], unit = 1.0, low = 0, high = 1, steps = 2}
%conv = Conv2d {x = %x, weight = @k, bias = @kb, stride = [1, 2], padding = [1, 0], groups = 2}
%max = MaxPool2d {x = %conv, kernel = [2, 2], stride = [1, 1]}
%more = MaxPool2d {x = %conv, kernel = [2, 2], stride = [2, 2], padding = [1, 0], more = [1, 1]}
%sum = SumPool2d {x = %conv, kernel = [2, 2], stride = [1, 1], padding = [0, 1], more = [1, 0]}
%plain = SumPool2d {x = %conv, kernel = [2, 1], stride = [2, 1]}
%over = Sum {x = %conv, axes = [1, 2], keepdims = true}
%add = Add {a = %conv, b = %over}
%mul = Mul {a = %over, b = %add}
%off = Offset {x = %mul, offset = @o}
%half = Scale {x = %off, factor = 0.5}
%turn = Rearrange {x = %conv, shape = [6, 2, 5], sizes = [6, 2, 5], strides = [10, 1, 2]}
%mat = MatMul {a = %turn, b = %conv}
%lin = Linear {x = %half, weight = @l, bias = @lb}
%mean = TimeMean {x = %lin}
%out = Output {x = %mean, unit = 1.0}
"""


def test_each_operator_is_the_definitions() -> None:
    """Of values of every step, in float32."""
    rng = np.random.default_rng(0)
    shapes = {"k": (6, 2, 3, 3), "kb": (6,), "o": (6, 1, 1), "l": (4, 2), "lb": (4,)}
    tensors = {k: rng.normal(size=v).astype(np.float32) for k, v in shapes.items()}
    graph = s.SpikingGraph.parse(OPERATIONS, tensors)
    names = [n.name for n in graph.nodes if not isinstance(n, s.Output)]
    found = evaluate(graph, rng.normal(size=(3, 2, 4, 5, 6)), 2, names)
    for node in graph.nodes:
        rule = OPERATORS.get(node)
        if rule is None:
            continue
        inputs = [torch.from_numpy(found[i]).transpose(0, 1) for i in node.inputs]
        own = [torch.from_numpy(tensors[t]) for t in node.tensors]
        value = rule(node, inputs, own).transpose(0, 1).contiguous().numpy()
        wanted = found[node.name]
        np.testing.assert_allclose(value.reshape(wanted.shape), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("sizes", "strides", "offset", "shape"),
    [
        ((2, 3, 4), (12, 4, 1), 0, (6, 4)),  # a view
        ((4, 3, 2), (1, 4, 12), 0, (4, 6)),  # a permutation
        ((2, 2, 3), (3, 6, 1), 0, (4, 3)),  # a part of it
        ((2, 3), (12, 4), 2, (2, 3)),  # a slice
        ((1, 24), (7, 1), 0, (24,)),
    ],
)
def test_rearranging(sizes, strides, offset, shape) -> None:
    node = s.Rearrange(name="r", x="x", shape=shape, sizes=sizes, strides=strides, offset=offset)
    x = np.arange(2 * 3 * 24.0).reshape(2, 3, 2, 3, 4)
    found = rearranged(node, torch.from_numpy(x)).numpy()
    assert np.array_equal(found, node.apply(x, leading=2))


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"bits": 9}, "NC2003"),
        ({"epochs": 0}, "NC1015"),
        ({"batch": 2.5}, "NC1015"),
        ({"learning_rate": 0}, "NC1015"),
        ({"device": "nowhere"}, "NC4007"),
        ({"data": np.zeros((2, 3, 8, 8), np.float32)}, "NC1006"),
        ({"labels": np.zeros(3, np.int64)}, "NC1006"),
        ({"learning_rate": 1.0, "epochs": 3, "batch": 1}, None),
    ],
)
def test_wrong_arguments(digits, given, code) -> None:
    arguments = {"data": digits[0][:2], "labels": None, "bits": 4, "epochs": 1, **given}
    if code is None:
        finetune(DIGITS / "qkformer.onnx", **arguments)
        return
    with pytest.raises(NeurocompileError) as caught:
        finetune(DIGITS / "qkformer.onnx", **arguments)
    assert caught.value.code == code
