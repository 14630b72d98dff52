"""Models that do not compile: every reason at once, with the module path in the user's code and
what is supported.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

from spikingjelly.activation_based import neuron  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.check import check_model  # noqa: E402
from neurocompile.errors import NeurocompileError  # noqa: E402
from neurocompile.frontends.diagnosis import NotSupportedError  # noqa: E402
from neurocompile.frontends.door import open_model  # noqa: E402
from neurocompile.options import BuildOptions  # noqa: E402

torch.set_num_threads(1)
X = torch.rand(2, 5, 8)


class BertLayer(nn.Module):
    """As SpikingBERT: spikes between layers, but softmax, LayerNorm and GELU of the original."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.query_lif, self.key_lif, self.value_lif = (
            neuron.LIFNode(step_mode="m") for _ in range(3)
        )
        self.softmax, self.norm = nn.Softmax(-1), nn.LayerNorm(8)
        self.intermediate, self.gelu, self.out_lif = (
            nn.Linear(8, 8),
            nn.GELU(approximate="tanh"),
            neuron.LIFNode(step_mode="m"),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            self.query_lif(self.query(x)),
            self.key_lif(self.key(x)),
            self.value_lif(self.value(x)),
        )
        x = self.norm(x + self.softmax(q @ k.transpose(-1, -2)) @ v)
        return self.out_lif(self.gelu(self.intermediate(x)))


class Repeated(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = nn.ModuleList(layers), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(0).repeat(4, 1, 1, 1)
        for one in self.layer:
            x = one(x)
        return self.head(x.mean((0, 2)))


class TimeMix(nn.Module):
    """As SpikeGPT: receptance and exponential weights of RWKV around a neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.ln, self.receptance, self.key = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.lif = neuron.LIFNode(step_mode="m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.ln(x)
        return x + self.lif(torch.sigmoid(self.receptance(y)) * torch.exp(self.key(y)).cumsum(2))


class TraceNeuron(neuron.BaseNode):
    """As SpikedAttention: a neuron of its own, one spike a phase."""

    def neuronal_charge(self, x: torch.Tensor) -> None:
        self.v = 2 * self.v + x


class SpikedAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.q_node, self.k_node = (
            nn.Linear(8, 8),
            TraceNeuron(step_mode="m"),
            TraceNeuron(step_mode="m"),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = self.q_node(self.q(x))
        return torch.softmax(q @ self.k_node(q).transpose(-1, -2), -1) @ q


def reasons(model: nn.Module) -> list[tuple[str, str, str]]:
    with pytest.raises(NotSupportedError) as caught:
        neurocompile.compile(model, X, T=4)
    assert all(str(caught.value).count(p.message) == 1 for p in caught.value.problems)
    assert caught.value.details[0].keys() == {
        "code",
        "node",
        "operator",
        "module",
        "kind",
        "why",
        "supported",
    }
    return [(p.module, p.operator, p.supported) for p in caught.value.problems]


def test_spikingbert_is_imported_with_softmax_layer_norm_and_gelu() -> None:
    torch.manual_seed(0)
    graph = open_model(Repeated(BertLayer(), BertLayer()), X, BuildOptions(T=4)).graph
    kinds = Counter(type(n).__name__ for n in graph.nodes)
    assert kinds["StepSoftmax"] == kinds["Normalization"] == kinds["Function"] == 2


def test_spikegpt_needs_a_recurrence_over_tokens() -> None:
    found = reasons(Repeated(TimeMix()))
    assert {o for _, o, _ in found} == {"CumSum"} and {m for m, _, _ in found} == {"layer.0"}
    assert all(s for _, _, s in found)


def test_spikedattention_needs_its_neurons() -> None:
    with pytest.raises(NeurocompileError, match="NC1013") as caught:
        neurocompile.compile(Repeated(SpikedAttention()), X, T=4)
    assert [m.split("'")[1] for m in caught.value.messages] == ["layer.0.q_node", "layer.0.k_node"]
    found = check_model(Repeated(SpikedAttention()), X)
    assert (found.compiles, found.stage, len(found.reasons)) == (False, "export", 2)


def test_token_ids_are_for_the_host() -> None:
    with pytest.raises(NeurocompileError, match="NC1006 example_input is .*token ids.*on the host"):
        neurocompile.compile(Repeated(BertLayer()), torch.zeros(2, 5, dtype=torch.int64), T=4)


FACTORY = """
import torch
from spikingjelly.activation_based import neuron
from torch import nn

class Net(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.fc, self.act, self.lif = nn.Linear(6, 4), act, neuron.LIFNode(step_mode="m")
    def forward(self, x):
        return self.lif(self.act(self.fc(x.unsqueeze(0).repeat(3, 1, 1)))).mean(0)

def bad():
    return Net(nn.SELU()), torch.rand(2, 6)

def good():
    return Net(nn.Identity()), torch.rand(2, 6)
"""


@pytest.mark.slow
def test_the_command_prints_the_table_and_json(tmp_path) -> None:
    (tmp_path / "mine.py").write_text(FACTORY)

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "neurocompile", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    bad = run("check", "mine:bad", "--T", "3", "--json")
    assert bad.returncode == 1, bad.stderr
    (reason,) = json.loads(bad.stdout)["reasons"]
    assert (reason["module"], reason["kind"], reason["operator"]) == ("act", "SELU", "Selu")
    text = run("check", "mine:bad")
    assert (
        text.returncode == 1
        and "does not compile: 1 reason," in text.stdout
        and "act (SELU)" in text.stdout
    )
    good = run("check", "mine:good")
    assert good.returncode == 0 and good.stdout.startswith("compiles: 1 spiking layers")
    built = run("build", "mine:bad", "--json")
    assert (
        built.returncode == 2 and json.loads(built.stdout)["error"]["details"][0]["module"] == "act"
    )


# ---- what follows from a reason goes unsaid ------------------------------------------------------


class Between(nn.Module):
    """``function`` between two spiking layers, on (T, B, 6, 8)."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function, self.fc, self.lif, self.last, self.head = (
            function,
            nn.Linear(8, 8),
            neuron.LIFNode(step_mode="m"),
            neuron.LIFNode(step_mode="m"),
            nn.Linear(8, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.lif(self.fc(x.unsqueeze(0).repeat(4, 1, 1, 1)))
        return self.head(self.last(self.function(x)).mean(2)).mean(0)


def upsampled(x: torch.Tensor) -> torch.Tensor:
    y = x.flatten(0, 1).transpose(1, 2)
    y = nn.functional.interpolate(y.unsqueeze(3), scale_factor=(1.5, 1.0), mode="bilinear")[..., 0]
    return y.transpose(1, 2).unflatten(0, (4, -1))


CONSEQUENCES = {
    "another_number_of_tokens": (upsampled, ["Resize"]),
    "largest": (lambda x: x.topk(2, dim=2)[0].reshape(4, -1, 16).unsqueeze(2)[..., :8], ["TopK"]),
    "two_reasons": (
        lambda x: nn.functional.normalize(torch.round(x), dim=-1),
        ["Round", "ReduceL2"],
    ),
    "some_steps": (lambda x: x[:2].mean(0, keepdim=True).repeat(4, 1, 1, 1), ["Slice"]),
    "some_samples": (lambda x: x + x[:, :1], ["Slice"]),
    "another_class_token_in_every_step": (
        lambda x: torch.cat(
            [torch.arange(4.0)[:, None, None, None].expand(4, x.shape[1], 1, 8), x], 2
        ),
        ["Concat"],
    ),
    "batch_and_tokens": (lambda x: x.reshape(4, -1, 1, 8), [""]),
}


@pytest.mark.parametrize("form", CONSEQUENCES)
def test_only_reasons_are_listed_and_no_number_of_ours(form: str) -> None:
    function, operators = CONSEQUENCES[form]
    found = check_model(Between(function), torch.rand(2, 6, 8))
    assert [r.operator for r in found.reasons] == operators
    text = " ".join(r.why for r in found.reasons)
    assert not any(int(n) > 100 for n in re.findall(r"\d+", text)), text


# ---- what a forward does that cannot be traced ---------------------------------------------------


def test_a_number_made_of_the_batch_is_named() -> None:
    (found,) = check_model(
        Between(lambda x: x.reshape(4, len(x[0]), 6, 8)), torch.rand(3, 6, 8)
    ).reasons
    assert found.code == "NC1013" and "len(x)" in found.why and "TORCH_LOGS" not in found.why


def test_a_model_that_fails_itself_is_told_so() -> None:
    (found,) = check_model(Between(lambda x: x), torch.rand(3, 6, 9)).reasons
    assert (
        found.code == "NC1013"
        and "itself fails on its example input (3, 6, 9): " in found.why
        and "s77" not in found.why
    )


def test_a_forward_without_a_tensor_is_told_so() -> None:
    class Silent(Between):
        def forward(self, x: torch.Tensor) -> str:
            super().forward(x)
            return "done"

    (found,) = check_model(Silent(lambda x: x), torch.rand(3, 6, 8)).reasons
    assert found.why == "the forward returns str without a tensor; it has to return logits"


def test_a_module_without_a_neuron_is_told_so() -> None:
    (found,) = check_model(nn.Linear(3, 2), torch.rand(2, 3)).reasons
    assert found.code == "NC1010" and "no other is seen in what it computes" in found.why


def test_a_softmax_of_the_logits_is_the_hosts() -> None:
    class Probabilities(Between):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).softmax(-1)

    assert check_model(Probabilities(lambda x: x), torch.rand(3, 6, 8)).compiles


def test_a_kernel_of_spikingjelly_in_a_file_leads_to_the_module(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("forward", ["x"], ["y"], domain="sj_lif")
    ends = ([value(name, 1, ["batch", 3])] for name in "xy")
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("sj_lif", 1)]
    graph = onnx.helper.make_graph([node], "g", *ends)
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), tmp_path / "m.onnx")
    (found,) = check_model(tmp_path / "m.onnx").reasons
    assert found.operator == "sj_lif::forward" and "neurocompile.export_onnx" in found.why
