"""Every way to repeat an input over T gives the same program."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

from spikingjelly.activation_based import neuron  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402

T = 4
SAMPLES = np.random.default_rng(0).random((8, 16)).astype("float32")
FORMS = {
    "repeat": lambda x: x.unsqueeze(0).repeat(T, 1, 1),
    "repeat_interleave": lambda x: x.unsqueeze(0).repeat_interleave(T, 0),
    "repeat of the batch": lambda x: x.repeat(T, 1).unflatten(0, (T, -1)),
    "stack": lambda x: torch.stack([x] * T),
    "cat": lambda x: torch.cat([x[None]] * T),
    "ones": lambda x: x[None] * torch.ones(T, 1, 1),
    "sum with zeros": lambda x: x + torch.zeros(T, 1, 1),
}


class Net(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form, self.lif = FORMS[form], neuron.LIFNode(step_mode="m")
        self.fc, self.head = nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lif(4 * self.fc(self.form(x)))).mean(0)


@pytest.fixture(scope="module")
def expanded() -> np.ndarray:
    FORMS["expand"] = lambda x: x[None].expand(T, -1, -1)
    return neurocompile.compile(Net("expand").eval(), SAMPLES, T=T).run(SAMPLES).logits


@pytest.mark.parametrize("form", list(FORMS))
def test_every_way_to_repeat_an_input_is_the_same(form, expanded):
    found = neurocompile.compile(Net(form).eval(), SAMPLES, T=T).run(SAMPLES)
    np.testing.assert_array_equal(found.logits, expanded)
