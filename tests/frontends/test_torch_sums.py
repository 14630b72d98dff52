"""Sums of spikes and currents with factors of their own, and what branches of a residual do."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from spikingjelly.activation_based import neuron  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402

T = 4
SAMPLES = np.random.default_rng(0).random((8, 1, 4, 4)).astype("float32")
FORMS = {
    "spikes and half of others": lambda x, y, current: x + 0.5 * y,
    "half of spikes and currents": lambda x, y, current: 0.5 * x + current,
    "spikes less others": lambda x, y, current: x - y,
    "the negative of a sum": lambda x, y, current: 1.0 - (x + 0.25 * y),
    "three of them": lambda x, y, current: 0.5 * (x + 2 * y) - 0.25 * current,
}


class Branches(nn.Module):
    def __init__(self, form: str, single: str = "m") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form = FORMS[form]
        self.c1, self.c2, self.c3 = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.Conv2d(4, 4, 1),
            nn.Conv2d(4, 4, 1),
        )
        self.l1, self.l3 = (neuron.LIFNode(step_mode="m", v_threshold=0.3) for _ in range(2))
        self.l2 = neuron.LIFNode(step_mode=single, v_threshold=0.3)
        self.head = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def over(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
            return layer(x.flatten(0, 1)).unflatten(0, (T, -1))

        x = self.l1(over(self.c1, 2 * x.unsqueeze(0).repeat(T, 1, 1, 1, 1)))
        current = over(self.c2, 2 * x)
        if self.l2.step_mode == "m":
            y = self.l2(current)
        else:
            y = torch.stack([self.l2(current[t]) for t in range(T)])
        return self.head(self.l3(self.form(x, y, over(self.c3, y))).flatten(2)).mean(0)


@pytest.mark.parametrize("form", list(FORMS))
def test_summands_with_factors_of_their_own(form):
    program = neurocompile.compile(Branches(form).eval(), SAMPLES, T=T)
    assert program.summary().import_agreement == 1
    assert program.parity(SAMPLES, against=("emulator",)).exact


def test_neurons_in_multi_step_and_in_single_step_mode_in_one_module():
    form = "spikes and half of others"
    mixed = neurocompile.compile(Branches(form, "s").eval(), SAMPLES, T=T)
    assert mixed.summary().import_agreement == 1
    whole = neurocompile.compile(Branches(form).eval(), SAMPLES, T=T)
    np.testing.assert_array_equal(mixed.run(SAMPLES).logits, whole.run(SAMPLES).logits)
