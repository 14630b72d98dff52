"""Files as authors of published models write them: imports of clock_driven, neurons on CuPy.

The modules here are our own; only their import lines and the forms of their calls are those of
QKFormer, Spikformer, Spikingformer, Spike-driven Transformer, Max-Former and SpikingResformer.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

import neurocompile  # noqa: E402
from neurocompile import compat  # noqa: E402
from neurocompile.frontends.torch.module import load_factory  # noqa: E402

CLOCK_DRIVEN = """
import torch
import torch.nn as nn
from spikingjelly.clock_driven.neuron import (
    MultiStepLIFNode,
    MultiStepParametricLIFNode,
)
from spikingjelly.clock_driven import functional, layer, surrogate


class Net(nn.Module):
    def __init__(self, T=4):
        super().__init__()
        self.T = T
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.lif = MultiStepLIFNode(tau=2.0, v_threshold=0.5, detach_reset=True, backend="cupy")
        self.fc = layer.SeqToANNContainer(nn.Linear(64, 8))
        self.plif = MultiStepParametricLIFNode(init_tau=2.0, detach_reset=True, backend='cupy')
        self.last = MultiStepLIFNode(2.0, True, 0.5, 0.0, surrogate.ATan(), True, "cupy")
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        T, B, C, H, W = x.shape
        x = self.lif(self.bn(self.conv(x.flatten(0, 1))).reshape(T, B, -1, H, W).contiguous())
        x = self.plif(4 * self.fc(x.flatten(2)))
        return self.head(self.last(4 * x)).mean(0)
"""
ACTIVATION_BASED = """
import torch.nn as nn
from spikingjelly.activation_based import layer, functional, surrogate, neuron


class LIF(neuron.LIFNode):
    def __init__(self):
        super().__init__(tau=2., decay_input=True, v_threshold=1., v_reset=0.,
                         surrogate_function=surrogate.ATan(), detach_reset=True, step_mode='m',
                         backend='cupy', store_v_seq=False)


class PLIF(neuron.ParametricLIFNode):
    def __init__(self):
        super().__init__(init_tau=2., decay_input=True, v_threshold=1., v_reset=0.,
                         surrogate_function=surrogate.ATan(), detach_reset=True, step_mode='m',
                         backend='cupy', store_v_seq=False)


class Net(nn.Module):
    def __init__(self, T=4):
        super().__init__()
        self.T = T
        self.conv = layer.Conv2d(1, 4, 3, padding=1, step_mode='m')
        self.lif, self.plif = LIF(), PLIF()
        self.last = neuron.IFNode(1., 0., surrogate.ATan(), True, 'm', 'cupy', False)
        self.fc = layer.Linear(64, 8, step_mode='m')
        self.head = layer.Linear(8, 3, step_mode='m')
        functional.set_backend(self, 'cupy', neuron.LIFNode)

    def forward(self, x):
        x = self.lif(4 * self.conv(x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)))
        x = self.plif(4 * self.fc(x.flatten(2)))
        return self.head(self.last(x)).mean(0)
"""
MISSING = importlib.util.find_spec("cupy") is None
SAMPLES = np.random.default_rng(0).random((6, 1, 4, 4)).astype("float32")


def state() -> list[object]:
    """What the context may change."""
    import spikingjelly
    from spikingjelly.activation_based import functional, neuron

    made = [vars(k).get("__init__") for k in vars(neuron).values() if inspect.isclass(k)]
    loaded = sorted(name for name in sys.modules if name.startswith("spikingjelly.clock_driven"))
    finders = list(sys.meta_path)
    return [*made, loaded, finders, getattr(functional, "set_backend", None), dir(spikingjelly)]


@pytest.fixture
def author(tmp_path, monkeypatch):
    """Imports the text of a file as an author's module."""
    monkeypatch.syspath_prepend(tmp_path)
    counter = iter(range(100))

    def load(text):
        name = f"author_{tmp_path.name.replace('-', '_')}_{next(counter)}"
        (tmp_path / f"{name}.py").write_text(text)
        return importlib.import_module(name)

    return load


@pytest.mark.parametrize("text", [CLOCK_DRIVEN, ACTIVATION_BASED])
def test_an_authors_file_imports_builds_and_is_exact(author, text):
    with compat.spikingjelly():
        net = author(text).Net().eval()
    program = neurocompile.compile(net, SAMPLES, T=4)
    assert program.parity(SAMPLES, against=("emulator",)).exact
    assert program.summary().layers == 3


@pytest.mark.parametrize("text", [CLOCK_DRIVEN, ACTIVATION_BASED])
@pytest.mark.skipif(not MISSING, reason="CuPy is here: such files need no context")
def test_without_the_context_such_a_file_fails(author, text):
    with pytest.raises((ImportError, TypeError, AssertionError)):
        author(text).Net()


@pytest.mark.skipif(not MISSING, reason="CuPy is here: such files need no context")
@pytest.mark.parametrize("text", [CLOCK_DRIVEN, ACTIVATION_BASED])
def test_a_factory_without_the_context_is_run_inside_of_it(author, text):
    module = author(
        f"def make():\n    {text.strip().replace(chr(10), chr(10) + '    ')}\n    return Net(), None"
    )
    before = state()
    with pytest.warns(UserWarning, match=r"inside of `with neurocompile.compat.spikingjelly\(\):`"):
        net, _ = load_factory(f"{module.__name__}:make")
    assert isinstance(net, torch.nn.Module)
    assert state() == before


def test_the_context_is_there_without_a_further_import():
    code = "import neurocompile; neurocompile.compat.spikingjelly; neurocompile.qat"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_behind_the_block_all_is_as_before(author):
    before = state()
    with compat.spikingjelly(), compat.spikingjelly():
        author(CLOCK_DRIVEN).Net()
    assert state() == before
    with pytest.raises(ZeroDivisionError), compat.spikingjelly():
        raise ZeroDivisionError
    assert state() == before


@pytest.mark.parametrize("name", ["LIFNode", "IFNode", "ParametricLIFNode"])
@pytest.mark.parametrize("v_reset", [0.0, None])
def test_neurons_of_both_packages_give_the_same_spikes(name, v_reset):
    x = 2 * torch.rand(6, 3, 5, generator=torch.Generator().manual_seed(0))
    with compat.spikingjelly():
        from spikingjelly.activation_based import neuron
        from spikingjelly.clock_driven import neuron as old

        new = getattr(neuron, name)(v_reset=v_reset, step_mode="m", backend="cupy")
        multi = getattr(old, f"MultiStep{name}")(v_reset=v_reset, backend="cupy")
        single = getattr(old, name)(v_reset=v_reset)
    with torch.no_grad():
        wanted = new(x)
        assert wanted.any() and not wanted.all()
        assert torch.equal(multi(x), wanted)
        assert torch.equal(torch.stack([single(step) for step in x]), wanted)
