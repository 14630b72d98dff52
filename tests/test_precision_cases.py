"""No precision is lost in silence: models as people bring them, from module or file to spikes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
neuron = pytest.importorskip("spikingjelly.activation_based.neuron")

import neurocompile  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402
from neurocompile.ir.evaluate import encode_input, evaluate  # noqa: E402

nn, T = torch.nn, 4


def lif(threshold: float = 1.0) -> torch.nn.Module:
    return neuron.LIFNode(step_mode="m", v_threshold=threshold)


class Rows(nn.Module):
    """A linear layer with one large row or bias, a LIF, a head."""

    def __init__(self, row: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        generator = np.random.default_rng(3)
        self.fc, self.head, self.lif = nn.Linear(16, 8), nn.Linear(8, 3), lif(0.3)
        with torch.no_grad():
            self.fc.weight.copy_(torch.from_numpy(generator.normal(0, 0.3, (8, 16))))
            self.fc.weight[0] *= row
            self.fc.bias.zero_()
            self.fc.bias[0] = bias

    def forward(self, x):
        return self.head(self.lif(self.fc(x.unsqueeze(0).repeat(T, 1, 1))).mean(0))


class Maps(nn.Module):
    """conv, LIF, a normalization or a view, conv, LIF, head; weights of 7 bits times 2^-7."""

    def __init__(self, between: str, padding: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        generator = np.random.default_rng(0)
        self.between = between
        self.c1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.c2 = nn.Conv2d(4, 4, 3, padding=padding, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.l1, self.l2 = lif(1 + 1 / 8192), lif(1 + 1 / 8192)  # no ties
        self.head = nn.LazyLinear(3)
        with torch.no_grad():
            for conv in (self.c1, self.c2):
                weight = generator.integers(-127, 128, tuple(conv.weight.shape))
                weight[0, :, 0, 0] = 127
                conv.weight.copy_(torch.from_numpy((weight / 128).astype("float32")))
            self.norm.bias.copy_(torch.tensor([0.25, -0.25, 0.25, -0.25]))
            self.norm.running_var.fill_(1 - self.norm.eps)
            if between == "zero":
                self.c2.weight.zero_()

    def forward(self, x):
        x = x.unsqueeze(0).repeat(T, 1, 1, 1, 1)
        y = self.l1(self.c1(x.flatten(0, 1)).unflatten(0, (T, -1)))
        if self.between == "crop":
            y = y[..., 1:, :5]
        y = y.flatten(0, 1)
        y = self.norm(y) if self.between == "norm" else y
        return self.head(self.l2(self.c2(y).unflatten(0, (T, -1))).flatten(2)).mean(0)


def agreement(program: neurocompile.Program) -> float:
    return min(r.agreement for r in program.precision if r.agreement is not None)


@pytest.mark.parametrize(
    "options",
    [{}, {"row": 100.0}, {"row": 1000.0}, {"bias": 10.0}, {"bias": 100.0}, {"bias": -100.0}],
)
def test_one_large_row_or_bias_costs_the_other_rows_nothing(options: dict[str, float]) -> None:
    x = np.random.default_rng(1).random((64, 16)).astype("float32")
    model = Rows(**options).eval()
    program = neurocompile.compile(model, x[:2], T=T, calibration=x)
    name = program.quantized.spiking_layers[0].name
    found = evaluate(program.quantized, encode_input(program.quantized.input, x), T, [name])[name]
    with torch.no_grad():
        expected = model.lif(model.fc(torch.from_numpy(x).unsqueeze(0).repeat(T, 1, 1)))
    assert (found == expected.numpy().swapaxes(0, 1)).mean() >= 0.97


@pytest.mark.parametrize(
    ("between", "padding"), [("norm", 0), ("norm", 1), ("crop", 0), ("zero", 1)]
)
def test_numbers_that_eight_bits_hold_stay_exact(between: str, padding: int) -> None:
    x = (np.random.default_rng(0).random((32, 1, 6, 6)) < 0.5).astype("float32")
    model = Maps(between, padding).eval()
    with torch.no_grad():
        model(torch.from_numpy(x[:1]))
    for one in (model.l1, model.l2):
        one.reset()
    program = neurocompile.compile(model, x[:2], T=T, calibration=x)
    assert agreement(program) == 1.0
    assert program.parity(x, against=("emulator",)).exact


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_example_gives_no_statistics(value: float) -> None:
    with pytest.warns(UserWarning, match=rf"all {value:g}, .*weights alone.*`calibration`"):
        program = neurocompile.compile(Rows().eval(), torch.full((2, 16), value), T=T)
    assert program.calibration.source == "weights"


def test_a_traced_sample_is_named_and_data_is_not() -> None:
    x = np.random.default_rng(1).random((64, 16)).astype("float32")
    with pytest.warns(UserWarning, match="one example input that the model was traced with"):
        neurocompile.compile(Rows().eval(), x[:1], T=T)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        neurocompile.compile(Rows().eval(), x[:1], T=T, calibration=x)


def test_the_summary_says_what_never_fires_and_where_float_and_integers_part() -> None:
    x = np.random.default_rng(1).random((64, 16)).astype("float32")
    program = neurocompile.compile(Rows(bias=0.0).eval(), x[:2], T=T, calibration=x)
    told = program.summary().precision
    assert [r.agreement for r in told if r.agreement is not None] == sorted(
        r.agreement for r in told if r.agreement is not None
    )
    silent = Rows()
    with torch.no_grad():
        silent.fc.weight.mul_(1e-3)
    told = neurocompile.compile(silent.eval(), x[:2], T=T, calibration=x).summary().precision
    assert any("never fires" in r.remarks for r in told)


def test_a_layer_of_zeros_is_kept_as_a_constant() -> None:
    x = (np.random.default_rng(0).random((8, 1, 6, 6)) < 0.5).astype("float32")
    model = Maps("zero", 1).eval()
    with torch.no_grad():
        model(torch.from_numpy(x[:1]))
    for one in (model.l1, model.l2):
        one.reset()
    program = neurocompile.compile(model, x[:2], T=T, calibration=x)
    layers = [n for n in program.quantized.nodes if isinstance(n, s.Conv2d)]
    assert not program.quantized.tensors[layers[-1].weight].any()
    assert program.parity(x, against=("emulator",)).exact


@pytest.mark.parametrize("bits", [4, 8])
def test_a_channel_without_weights_loses_no_bits(bits: int) -> None:
    model = Rows()
    with torch.no_grad():
        model.fc.weight[2] = 0
        model.fc.weight[1] *= 20
        model.fc.bias[2] = 0.5
    program = neurocompile.compile(model.eval(), torch.rand(64, 16), weight_bits=bits)
    first = next(layer for layer in program.precision if layer.layer == "lif")
    assert first.bits is not None and bits - 0.5 < first.bits <= bits
