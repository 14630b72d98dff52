"""A fused query, key and value in files of others: the index is of features, however it stands for
one of time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recover_checks import check, imported_layers, lifs, run
from recover_files import model

from neurocompile.frontends.recover.selects import settle_selects

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

from recover_export import export  # noqa: E402
from spikingjelly.activation_based import neuron  # noqa: E402
from torch import nn  # noqa: E402

torch.set_num_threads(1)
T = 3


class Heaviside(nn.Module):
    spiking = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x >= 0).to(x)


class Attention(nn.Module):
    """For all steps at once ("m"), or called once a step ("s"); ``T`` is also the number of parts."""

    def __init__(self, mode: str, form: str) -> None:
        super().__init__()
        self.mode, self.form = mode, form
        self.embed, self.qkv, self.head = nn.Linear(6, 8), nn.Linear(8, 24), nn.Linear(8, 3)
        for layer in (self.embed, self.qkv):
            nn.init.normal_(layer.weight, 0.3, 0.8, generator=torch.Generator().manual_seed(3))
        self.lif, self.q_lif, self.k_lif, self.v_lif, self.attn_lif = (
            neuron.LIFNode(step_mode=mode, surrogate_function=Heaviside(), v_threshold=0.3)
            for _ in range(5)
        )

    def one(self, x: torch.Tensor) -> torch.Tensor:
        y = self.qkv(self.lif(self.embed(x)))
        lead = y.shape[:-2]  # of time and samples, or samples
        y = y.reshape(*lead, 5, 3, 2, 4)
        y = y.permute(3, 0, 1, 4, 2, 5) if self.mode == "m" else y.permute(2, 0, 3, 1, 4)
        q, k, v = y.unbind(0) if self.form == "unbind" else (y[0], y[1], y[2])
        q, k, v = self.q_lif(q), self.k_lif(k), self.v_lif(v)
        if self.form == "einsum":
            y = torch.einsum("...nm,...md->...nd", torch.einsum("...nd,...md->...nm", q, k), v)
        else:
            y = q @ k.transpose(-2, -1) @ v
        y = self.attn_lif(y * 0.25)
        return self.head(y.transpose(-3, -2).reshape(*lead, 5, 8).mean(-2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mode == "m":
            return self.one(x.unsqueeze(0).repeat(T, 1, 1, 1)).mean(0)
        return sum(self.one(x) for _ in range(T)) / T


@pytest.mark.parametrize("form", ["index", "unbind", "einsum"])
@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_parts_of_one_layer_are_not_taken_for_steps(
    exporter: str, mode: str, form: str, tmp_path: Path
) -> None:
    net, x, path = Attention(mode, form).eval(), torch.rand(2, 5, 6), tmp_path / "model.onnx"
    if exporter == "dynamo":
        options = {
            "dynamo": True,
            "opset_version": 18,
            "dynamic_shapes": ({0: torch.export.Dim("batch")},),
        }
    else:
        options = {"dynamo": False, "opset_version": 17}
    recovered = check(export(net, x, path, **options), 2, 5, 6)
    assert len(lifs(recovered)) == 5
    assert imported_layers(recovered, tmp_path) == 5


@pytest.mark.parametrize(("cut", "moves"), [((2, 3, 4), False), ((6, 2, 2), True)])
def test_only_a_part_of_a_feature_axis_is_moved(cut: tuple[int, ...], moves: bool) -> None:
    """(B T, C) to (B, T, C) is an axis of time; (B T, C) to (B T, h, d) one of heads."""
    proto = model(
        f"""g (float[6, 4] x) => (float[{cut[0]}, {cut[2]}] y) {{
        c = GreaterOrEqual (x, vth)
        s = Cast <to: int = 1> (c)
        r = Reshape (s, cut)
        t = Transpose <perm: ints = [1, 0, 2]> (r)
        y = Gather <axis: int = 0> (t, first) }}""",
        cut=np.asarray(cut),
        first=np.int64(1),
    )
    settled = settle_selects(proto)
    assert (settled is not proto) == moves
    x = np.random.default_rng(0).normal(1, 1, (6, 4)).astype(np.float32)
    np.testing.assert_array_equal(run(settled, x=x)[0], run(proto, x=x)[0])
