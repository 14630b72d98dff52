"""Neurons of snnTorch, Norse and sinabs, and the same written by hand, from files of both exporters:
the recovered model is the user's, spike for spike in float32, and compiles exactly.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import neurocompile

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from plain_export import exported  # noqa: E402

from neurocompile.errors import NeurocompileError  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402

X = np.random.default_rng(0).uniform(0, 2, (6, 12)).astype(np.float32)
EXPORTERS = pytest.mark.parametrize(
    "dynamo", [pytest.param(False, marks=pytest.mark.slow), True], ids=["torchscript", "dynamo"]
)


def linears(*sizes: int) -> list[torch.nn.Linear]:
    torch.manual_seed(0)
    return [torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]


class Stepped(torch.nn.Module):
    """Linear, a neuron called once a step with its state, Linear, mean over T."""

    def __init__(self, cell: torch.nn.Module, T: int = 5, drive: float = 1.0) -> None:
        super().__init__()
        self.fc1, self.fc2 = linears(12, 8, 4)
        self.cell, self.T, self.drive = cell, T, drive

    def forward(self, x):
        state, out = (), []
        for _ in range(self.T):
            spikes, *state = self.cell(self.fc1(x) * self.drive, *state)
            out.append(self.fc2(spikes))
        return torch.stack(out).mean(0)


class ByHand(torch.nn.Module):
    """``i = alpha i + x; h = beta v + gain i``; reset in one of several ways."""

    def __init__(self, alpha: float, beta: float, gain: float, reset: str) -> None:
        super().__init__()
        self.alpha, self.beta, self.gain, self.reset = alpha, beta, gain, reset

    def forward(self, x, i=None, v=None, s=None):
        i = x if i is None else self.alpha * i + x if self.alpha else x
        h = self.gain * i if v is None else self.beta * v + self.gain * i
        if self.reset.startswith("late") and s is not None:  # after the leak, one step later
            h = h - float(self.reset[4:]) * s
        s = (h >= 1.0).float()
        if self.reset == "hard":
            v = h * (1 - s)
        elif self.reset.startswith("early"):
            v = h - float(self.reset[5:]) * s
        else:
            v = h
        return s, i, v, s


def check(path: Path, T: int, x: np.ndarray = X, against=("emulator",)):
    """Compile a file: the recovered neurons are the file's (in onnxruntime, spike for spike, and
    its logits), the circuit is exact, and quantization costs few spikes.
    """
    program = neurocompile.compile(path, T=T, calibration=x)
    assert program.manifest.import_agreement == 1.0
    report = program.parity(x, against=against, reference=path)
    assert report.exact, report.backends
    assert all(layer.agreement > 0.9 for layer in report.reference.layers), report.reference.layers
    return program


@EXPORTERS
@pytest.mark.parametrize(
    ("alpha", "beta", "gain", "reset"),
    [
        (0.0, 0.75, 1.0, "hard"),
        (0.0, 0.75, 1.0, "early0.5"),
        (0.0, 0.9, 0.5, "late1.0"),
        (0.0, 1.0, 0.5, "late0.3"),
        (0.0, 0.75, 1.0, "none"),
        (0.6, 0.75, 0.25, "hard"),
        (0.6, 0.75, 0.25, "early1.0"),
        (0.6, 0.75, 0.25, "late1.0"),
    ],
)
def test_any_first_order_neuron(alpha, beta, gain, reset, dynamo, tmp_path):
    model = Stepped(ByHand(alpha, beta, gain, reset), drive=3.0)
    path = exported(model, tmp_path / "net.onnx", dynamo, X[:2])
    program = check(path, model.T)
    (neuron,) = program.quantized.spiking_layers
    soft = isinstance(neuron, s.SoftIntegerLIF)
    assert soft == (reset != "hard")
    if not soft:  # Loihi's own synaptic current
        assert (neuron.current < 4096) == (alpha > 0)


@EXPORTERS
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("kind", ["Leaky", "Synaptic"])
def test_snntorch(kind, reset, dynamo, tmp_path):
    snn = pytest.importorskip("snntorch")
    fields = {"beta": 0.9, "threshold": 0.8, "reset_mechanism": reset}
    cell = snn.Leaky(**fields) if kind == "Leaky" else snn.Synaptic(alpha=0.7, **fields)

    class Cell(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = cell

        def forward(self, x, *state):
            return self.lif(x, *(state or cell.reset_mem() if kind == "Synaptic" else state))

    if kind == "Synaptic" and reset == "zero":
        pytest.skip("its reset takes the current of the step itself too")
    model = Stepped(Cell())
    check(exported(model, tmp_path / "net.onnx", dynamo, X[:2]), model.T)


@EXPORTERS
@pytest.mark.parametrize("cell", ["LIFBoxCell", "LIFCell"])
def test_norse(cell, dynamo, tmp_path):
    norse = pytest.importorskip("norse.torch")
    model = Stepped(getattr(norse, cell)(), T=6, drive=10.0)
    check(exported(model, tmp_path / "net.onnx", dynamo, X[:2]), model.T)


class Sinabs(torch.nn.Module):
    """Several spikes a step, time behind the batch."""

    T = 4

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        (self.fc1, self.fc2), self.lif = linears(12, 8, 4), layer

    def forward(self, x):
        return self.fc2(self.lif(self.fc1(x.unsqueeze(1).repeat(1, self.T, 1)) * 20)).mean(1)


@EXPORTERS
def test_sinabs_sends_several_spikes_a_step(dynamo, tmp_path):
    layers = pytest.importorskip("sinabs.layers")
    model = Sinabs(layers.LIF(tau_mem=20.0))
    path = exported(model, tmp_path / "net.onnx", dynamo, X[:2])
    (neuron,) = check(path, model.T).quantized.spiking_layers
    assert neuron.levels > 1


def test_a_membrane_with_a_bound_is_refused_by_name(tmp_path):
    layers = pytest.importorskip("sinabs.layers")
    path = exported(Sinabs(layers.IAF(min_v_mem=-1.0)), tmp_path / "net.onnx", True, X[:2])
    with pytest.raises(NeurocompileError, match="NC1009 .*bounds a membrane from below.*min_v_mem"):
        neurocompile.compile(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "name", "said"),
    [
        ("norse.torch", "LSNNCell", "moves its threshold"),
        ("norse.torch", "LIFRefracCell", "is silent for some steps after a spike"),
        ("norse.torch", "LIFAdExCell", "bends its membrane"),
    ],
)
def test_neurons_with_further_states_are_told_by_name(library, name, said):
    cell = getattr(pytest.importorskip(library), name)()
    with pytest.raises(NeurocompileError, match=f"'cell', a {name}: {said}.*LIFBoxCell"):
        neurocompile.compile(Stepped(cell).eval(), X[:2], calibration=X)


class Counting(torch.nn.Module):
    """Quantized activations, T = 1: MultiSpike of Spike-Driven Transformer V3."""

    T = 1

    def __init__(self, low: int, form: str) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = linears(12, 8, 8, 4)
        self.low, self.form = low, form

    def count(self, v):
        if self.form == "floor":
            return torch.floor(torch.clamp(v, self.low, 4) + 0.5) / 4
        if self.form == "compared":
            return sum((v > k - 0.5).float() for k in range(1, 5)) / 4
        if self.form == "round first":
            return torch.clamp(torch.round(v), self.low, 4) / 4
        return torch.round(torch.clamp(v, self.low, 4)) / 4

    def forward(self, x):
        return self.fc3(self.count(self.fc2(self.count(self.fc1(x) * 3)) * 8))


class WithSteps(torch.nn.Module):
    """``inner`` over an axis of ``T`` steps that the module makes, and takes the mean of."""

    def __init__(self, inner: Counting, T: int) -> None:
        super().__init__()
        self.inner, self.T = inner, T

    def forward(self, x):
        return self.inner(torch.stack([x] * self.T)).mean(0)


@pytest.mark.slow
@pytest.mark.parametrize("T", [1, 2])
def test_numbers_of_spikes_without_memory_over_steps(T):
    """The mean over the steps is no mean over the samples of one step."""
    x, inner = torch.from_numpy(X), Counting(0, "round").eval()
    program = neurocompile.compile(WithSteps(inner, T).eval(), x[:2], T=T, calibration=X)
    assert program.manifest.import_agreement == 1.0 and program.manifest.options.T == T
    assert program.parity(X, against=("emulator",)).exact
    alone = neurocompile.compile(inner, x[:2], calibration=X)
    np.testing.assert_array_equal(program.run(X).logits, alone.run(X).logits)


class Ternary(Stepped):
    """A number of spikes without memory in front of a neuron with one, two steps and two samples."""

    def forward(self, x):
        x, v, out = torch.stack([self.fc1(x) * 2 - 1] * 2), 0.0, []
        x = (x > 0.5).float() - (x < -0.5).float()
        for t in range(2):
            v = 0.5 * v + x[t]
            s = (v >= 0.75).float()
            v = v * (1 - s)
            out.append(self.fc2(s))
        return torch.stack(out).mean(0)


@pytest.mark.slow
def test_numbers_beside_a_neuron_of_as_many_steps_as_samples():
    program = neurocompile.compile(Ternary(None).eval(), X[:2], calibration=X)
    assert program.manifest.import_agreement == 1.0 and program.manifest.options.T == 2
    assert program.parity(X, against=("emulator",)).exact


@pytest.mark.parametrize(
    "form", ["round", "floor", "round first", pytest.param("compared", marks=pytest.mark.slow)]
)
def test_numbers_of_spikes_without_memory_or_time(form):
    model = Counting(0, form).eval()
    program = neurocompile.compile(model, X[:2], calibration=X)
    assert program.manifest.import_agreement == 1.0 and program.manifest.options.T == 1
    assert program.parity(X, against=("emulator",)).exact
    assert [n.levels for n in program.quantized.spiking_layers] == [4, 4]
    with torch.no_grad():
        theirs = model(torch.from_numpy(X)).numpy()
    assert np.corrcoef(program.run(X).logits.ravel(), theirs.ravel())[0, 1] > 0.99


def test_spikes_of_either_sign():
    model = Counting(-1, "round").eval()
    program = neurocompile.compile(model, X[:2] - 1, calibration=X - 1)
    assert program.parity(X - 1, against=("emulator",)).exact
    with torch.no_grad():
        theirs = model(torch.from_numpy(X - 1)).numpy()
    assert np.corrcoef(program.run(X - 1).logits.ravel(), theirs.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("library", ["snntorch", "norse", "sinabs"])
def test_modules_of_other_libraries_compile_from_torch(library):
    package = pytest.importorskip(library)
    if library == "snntorch":

        class Cell(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.lif = package.Leaky(beta=0.9)

            def forward(self, x, *state):
                return self.lif(x, *(state or (self.lif.init_leaky(),)))

        model = Stepped(Cell())
    elif library == "norse":
        model = Stepped(pytest.importorskip("norse.torch").LIFCell(), T=6, drive=10.0)
    else:
        model = Sinabs(pytest.importorskip("sinabs.layers").LIF(tau_mem=20.0))
    program = neurocompile.compile(model.eval(), X[:2], calibration=X)
    assert program.manifest.options.T == model.T and program.manifest.import_agreement == 1.0
    assert program.parity(X, against=("emulator",)).exact


class Readout(torch.nn.Module):
    """Logits are membranes that never fire, averaged over time."""

    T = 5

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = linears(12, 8, 4)

    def forward(self, x):
        v, y, out = torch.zeros(len(x), 8), torch.zeros(len(x), 4), []
        for _ in range(self.T):
            h = v + (self.fc1(x) * 2 - v) / 2
            s = (h >= 1.0).float()
            v = h * (1 - s)
            y = 0.9 * y + self.fc2(s)
            out.append(y)
        return torch.stack(out).mean(0)


def test_a_readout_of_membranes_that_never_fire():
    model = Readout().eval()
    program = neurocompile.compile(model, X[:2], calibration=X)
    assert program.manifest.import_agreement == 1.0
    assert program.parity(X, against=("emulator",)).exact
    with torch.no_grad():
        theirs = model(torch.from_numpy(X)).numpy()
    assert np.abs(program.run(X).logits - theirs).max() < 0.2 * theirs.std()
