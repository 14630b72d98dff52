"""Modules that return several tensors, and compute behind their last neurons what no neuron does."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from spikingjelly.activation_based import functional, neuron  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.frontends.torch.membranes import potential  # noqa: E402

torch.set_num_threads(1)
X = torch.rand(6, 12, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """``behind`` (layer h, layer o, layer r, spikes (4, B, 16))."""

    def __init__(self, behind, membrane: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.behind, self.membrane = behind, membrane
        self.f, self.lif = nn.Linear(12, 16), neuron.LIFNode(v_threshold=0.3, step_mode="m")
        self.h, self.o, self.r = nn.Linear(16, 8), nn.Linear(8, 5), nn.Linear(16, 2)
        self.weights = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x: torch.Tensor):
        return self.behind(self, self.lif(self.f(x.unsqueeze(0).repeat(4, 1, 1))))


def classes_and_boxes(m: Net, y: torch.Tensor) -> dict[str, torch.Tensor]:
    mean = y.mean(0)
    found = {"scores": m.o(torch.relu(m.h(mean))), "box": torch.sigmoid(m.r(mean))}
    return {**found, "one": m.r(mean)[:, 0], "each": m.r(y)}


def membrane(m: Net, y: torch.Tensor) -> torch.Tensor:
    v = m.membrane(m.r(y))
    return torch.stack(v).mean(0) if isinstance(v, list) else v


FORMS = {
    "dict": (classes_and_boxes, None),
    "tuple": (lambda m, y: (m.o(m.h(y)).mean(0), [m.r(y.mean(0)), None]), None),
    "weights for each step": (lambda m, y: (m.r(y) * m.weights).sum(0), None),
    "softmax at every step": (lambda m, y: m.r(y).softmax(-1), None),
    "membrane, last": (membrane, lambda: neuron.NonSpikingLIFNode(2.0, "last_mem")),
    "membrane, largest": (membrane, lambda: neuron.NonSpikingIFNode("max-mem")),
    "membrane, all": (membrane, lambda: neuron.NonSpikingLIFNode(3.0)),
}


FAST = ("dict", "membrane, last")


@pytest.mark.parametrize("v_reset", [None, 0.0, -0.25])
@pytest.mark.parametrize("decay_input", [True, False])
def test_the_potential_behind_the_last_step_is_spikingjellys(v_reset, decay_input) -> None:
    x = 2 * torch.randn(5, 3, 7, generator=torch.Generator().manual_seed(0))
    soft, rest = v_reset is None, v_reset or 0.0
    for tau, threshold in ((1.5, 0.5), (4.0, 1.0)):
        node = neuron.LIFNode(tau, decay_input, threshold, v_reset, step_mode="m")
        node(x)
        found = potential(x, tau, threshold, rest, decay_input, soft)
        torch.testing.assert_close(found, node.v, atol=1e-5, rtol=0)
    node = neuron.IFNode(1.0, v_reset, step_mode="m")
    node(x)
    found = potential(x, float("inf"), 1.0, rest, False, soft)
    torch.testing.assert_close(found, node.v, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "form", [f if f in FAST else pytest.param(f, marks=pytest.mark.slow) for f in FORMS]
)
def test_what_torch_returns_comes_back_by_name(form: str) -> None:
    if form.startswith("membrane") and not hasattr(neuron, "NonSpikingLIFNode"):
        pytest.skip("this SpikingJelly has no membranes that never fire")
    behind, node = FORMS[form]
    model = Net(behind, node and node()).eval()
    with torch.no_grad():
        want = model(X)
    functional.reset_net(model)
    program = neurocompile.compile(model, X)
    if form == "dict":
        named = want
    elif form == "tuple":
        named = {"output_0": want[0], "output_1": want[1][0]}
    else:
        named = {program.main: want}
    result = program.run(X.numpy())
    assert list(result.outputs) == list(named)
    every = {"each"} if form == "dict" else {program.main} if "at every" in form else set()
    for name, theirs in named.items():
        theirs = theirs.mean(0).numpy() if name in every else theirs.numpy()
        ours = result.outputs[name]
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).mean() < 0.05 * np.abs(theirs).max()
    assert (result.step_logits is not None) == ("at every" in form)
    assert program.parity(X.numpy(), against=("emulator",)).exact
    if form == "dict":
        assert program.main == "scores" and (result.predictions == result.logits.argmax(1)).all()


@pytest.mark.slow
def test_a_head_is_chosen_by_name_or_number() -> None:
    boxes = [
        neurocompile.compile(Net(classes_and_boxes).eval(), X, head=head).run(X.numpy())
        for head in ("box", 1)
    ]
    assert [r.logits.shape for r in boxes] == [(6, 2), (6, 2)]
    np.testing.assert_array_equal(boxes[0].logits, boxes[1].logits)
