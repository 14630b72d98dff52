"""Random small SpikingJelly modules: the import fires as the module does, and the emulator computes
what the integers define.

``NEUROCOMPILE_FUZZ`` sets the number of modules (7; 100 with ``--slow``).
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("spikingjelly", reason="the extra 'torch' is not installed")

from spikingjelly.activation_based import neuron  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.ir.evaluate import evaluate  # noqa: E402
from neurocompile.pipeline import import_model  # noqa: E402

torch.set_num_threads(1)
CHANNELS, SIDE = 4, 4
BLOCKS = ["conv", "depthwise", "strided", "maxpool", "avgpool", "residual", "membrane"]


class Time(nn.Module):
    """A neuron over rows (T B, ...), in its own mode."""

    def __init__(self, fire: nn.Module, T: int) -> None:
        super().__init__()
        self.fire, self.T = fire, T

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unflatten(0, (self.T, -1))
        x = (
            self.fire(x)
            if self.fire.step_mode == "m"
            else torch.stack([self.fire(x[t]) for t in range(self.T)])
        )
        return x.flatten(0, 1)


class Block(nn.Module):
    """A layer and its neuron; ``membrane`` adds real values to real values between two neurons,
    ``residual`` spikes to spikes.
    """

    def __init__(
        self, kind: str, norm: bool, fire: nn.Module, inner: nn.Module | None = None
    ) -> None:
        super().__init__()
        groups, stride = CHANNELS if kind == "depthwise" else 1, 2 if kind == "strided" else 1
        self.kind, self.conv = (
            kind,
            nn.Conv2d(CHANNELS, CHANNELS, 3, stride, 1, groups=groups, bias=not norm),
        )
        self.norm, self.fire = nn.BatchNorm2d(CHANNELS) if norm else nn.Identity(), fire
        self.inner, self.second = inner, nn.Conv2d(CHANNELS, CHANNELS, 1) if inner else None
        self.pool = {"maxpool": nn.MaxPool2d(3, 1, 1), "avgpool": nn.AvgPool2d(3, 1, 1)}.get(
            kind, nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(self.pool(x)))
        y = self.fire(y + self.second(self.inner(y)) if self.inner else y)
        return x + y if self.kind == "residual" else y


class Net(nn.Module):
    def __init__(
        self, T: int, blocks: list[Block], first: nn.Module, last: nn.Module, per_step: bool
    ) -> None:
        super().__init__()
        self.T, self.per_step = T, per_step
        self.stem, self.first, self.blocks = nn.Conv2d(2, CHANNELS, 1), first, nn.ModuleList(blocks)
        self.last, self.head = last, nn.LazyLinear(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(self.stem(x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1).flatten(0, 1)))
        for block in self.blocks:
            x = block(x)
        y = self.head(self.last(x).flatten(1)).unflatten(0, (self.T, -1))
        return y if self.per_step else y.mean(0)


@st.composite
def modules(draw) -> nn.Module:
    T, mode = draw(st.integers(2, 4)), draw(st.sampled_from("ms"))

    def fire() -> Time:
        fields = {
            "v_threshold": draw(st.sampled_from([0.5, 1.0])),
            "v_reset": draw(st.sampled_from([0.0, 0.0, -0.25, None])),
        }
        kind = draw(st.sampled_from(["lif", "if", "plif"]))
        if kind == "if":
            return Time(neuron.IFNode(**fields, step_mode=mode), T)
        fields["decay_input"] = draw(st.booleans())
        if kind == "lif":
            return Time(
                neuron.LIFNode(
                    tau=draw(st.sampled_from([1.5, 2.0, 3.0])), **fields, step_mode=mode
                ),
                T,
            )
        return Time(
            neuron.ParametricLIFNode(
                init_tau=draw(st.sampled_from([1.5, 2.0])), **fields, step_mode=mode
            ),
            T,
        )

    torch.manual_seed(draw(st.integers(0, 1000)))
    kinds = draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=3))
    blocks = [
        Block(kind, draw(st.booleans()), fire(), fire() if kind == "membrane" else None)
        for kind in kinds
    ]
    return Net(T, blocks, fire(), fire(), draw(st.booleans()))


def reset(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, neuron.BaseNode):
            module.reset()


def test_random_modules_import_as_they_fire_and_compile_exactly(tmp_path_factory, request) -> None:
    slow = request.config.getoption("--slow") or os.environ.get("NEUROCOMPILE_SLOW") == "1"
    path = tmp_path_factory.mktemp("modules") / "m.onnx"

    @settings(
        max_examples=int(os.environ.get("NEUROCOMPILE_FUZZ", "100" if slow else "7")),
        deadline=None,
        database=None,
        derandomize=not slow,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(modules())
    def check(model: nn.Module) -> None:
        x = torch.randint(0, 17, (4, 2, SIDE, SIDE)) / 16
        with torch.no_grad():
            model.train()(x)
            reset(model)
            expected = model.eval()(x).numpy()
            reset(model)
        neurocompile.export_onnx(model, x, path, calibration=x.numpy())
        graph = import_model(path)[1].graph
        found = evaluate(graph, x.numpy(), model.T, [graph.output.name])[graph.output.name]
        expected = expected.mean(0) if model.per_step else expected
        found = found.reshape(expected.shape)
        assert np.isclose(found, expected, rtol=1e-3, atol=1e-3).mean() > 0.8, (
            found,
            expected,
        )  # rounding may flip a spike
        program = neurocompile.compile(path, T=model.T)
        assert program.manifest.import_agreement > 0.99
        assert program.parity(x.numpy(), against=("emulator",)).exact

    check()
