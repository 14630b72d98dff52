"""Modules in the forms of official code compile unmodified, for every step mode and version, and
give the same numbers.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

import official_forms as forms  # noqa: E402
from spikingjelly.activation_based import layer, neuron  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.errors import NeurocompileError  # noqa: E402
from neurocompile.ir.evaluate import evaluate  # noqa: E402
from neurocompile.pipeline import import_model  # noqa: E402

try:
    from spikingjelly.clock_driven import neuron as clock_driven
except ImportError:
    clock_driven = None

torch.set_num_threads(1)
X = torch.randint(0, 256, (6, 3, 8, 8), generator=torch.Generator().manual_seed(0)) / 255

FORMS = {
    "spikformer": (forms.Spikformer, 7),
    "qkformer": (lambda: forms.QKFormer(False), 5),
    "spike_driven_transformer": (forms.SpikeDrivenTransformer, 7),
    "meta_spikeformer": (forms.MetaSpikeFormer, 4),
    "spiking_resformer": (forms.SpikingResformer, 4),
    "spiking_resformer_depthwise_plif": (lambda: forms.SpikingResformer(forms.PLIF, 16), 4),
    "containers": (
        lambda: Containers(
            layer.SeqToANNContainer(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)),
            layer.MultiStepContainer(neuron.LIFNode()),
            layer.SeqToANNContainer(nn.Flatten(), nn.Linear(384, 10)),
        ),
        1,
    ),
    "loop": (forms.Accumulating, 2),
    "loop_if": (lambda: forms.Accumulating(neuron.IFNode), 2),
    "loop_plif": (
        lambda: forms.Stacking(neuron.ParametricLIFNode, init_tau=2.0, decay_input=False),
        2,
    ),
    "loop_over_a_sequence": (forms.Stacking, 2),
    "loop_of_four": (lambda: forms.Accumulating(T=4), 2),
}


class Containers(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.unsqueeze(0).repeat(3, 1, 1, 1, 1)).mean(0)


def made(make) -> nn.Module:
    torch.manual_seed(0)
    return forms.calibrated(make(), X)


def logits(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    """Of a reset model, the mean over steps where it gives one set a step."""
    forms.reset(model)
    with torch.no_grad():
        y = model(x)
    forms.reset(model)
    y = y[0] if isinstance(y, tuple) else y
    return (y.mean(0) if y.ndim == 3 else y).numpy()


def float_logits(model: nn.Module, tmp_path, **options) -> np.ndarray:
    """Of the imported graph, evaluated in floating point."""
    neurocompile.export_onnx(model, X, tmp_path / "m.onnx", **options)
    graph = import_model(tmp_path / "m.onnx")[1].graph
    return evaluate(graph, X.numpy(), max(graph.exported_T, 1), [graph.output.name])[
        graph.output.name
    ]


QUICK = {"spikformer", "meta_spikeformer", "spiking_resformer", "loop"}


@pytest.mark.parametrize(
    "form", [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FORMS]
)
def test_a_form_compiles_and_computes_the_same(form: str, tmp_path) -> None:
    make, layers = FORMS[form]
    model = made(make)
    before = logits(model, X)
    T = getattr(model, "T", 3)
    program = neurocompile.compile(model, X, T=T)
    assert len(program.circuit.views) == layers and program.manifest.import_agreement > 0.999
    assert program.parity(X[:2].numpy(), against=("emulator",)).exact
    assert np.abs(before).max() > 0.01
    np.testing.assert_allclose(float_logits(model, tmp_path), before, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(logits(model, X), before)


@pytest.mark.parametrize("family", ["activation_based", "clock_driven"])
@pytest.mark.parametrize("T", [1, 3])
def test_a_model_of_one_step_runs_for_T_steps(T: int, family: str, tmp_path) -> None:
    if family == "clock_driven" and clock_driven is None:
        pytest.skip("SpikingJelly 2 has no clock_driven")
    model = made(
        lambda: forms.OneStep((clock_driven if family == "clock_driven" else neuron).LIFNode)
    )
    with torch.no_grad():
        steps = np.stack([model(X).numpy() for _ in range(T)])
    forms.reset(model)
    np.testing.assert_allclose(
        float_logits(model, tmp_path, T=T), steps.mean(0), rtol=1e-4, atol=1e-5
    )
    program = neurocompile.compile(model, X, T=T)
    result = program.run(X.numpy())
    if T > 1:
        assert result.step_logits.shape == (6, T, 10)
        np.testing.assert_allclose(result.step_logits.mean(1), result.logits)
    neurocompile.export_onnx(model, X, tmp_path / "own.onnx")  # its attribute T says 3
    del model.T
    with pytest.raises(NeurocompileError, match="NC1007 OneStep takes one step: neuron 'n1'"):
        neurocompile.export_onnx(model, X, tmp_path / "no.onnx")


def test_the_steps_of_a_clock_driven_neuron_are_not_taken_for_time() -> None:
    if clock_driven is None:
        pytest.skip("SpikingJelly 2 has no clock_driven")
    from neurocompile.frontends.torch.neurons import is_single_step

    assert is_single_step(clock_driven.LIFNode()) and not is_single_step(
        clock_driven.MultiStepLIFNode()
    )


@pytest.mark.parametrize("v_reset", [None, 0.0, -0.5])
@pytest.mark.parametrize("decay_input", [True, False])
def test_every_reset_is_carried_for_neurons_called_once_a_step(
    v_reset, decay_input: bool, tmp_path
) -> None:
    """The integer form of a soft reset is not asked for here, only what the file and the imported
    graph say.
    """
    model = made(
        lambda: forms.Accumulating(v_reset=v_reset, decay_input=decay_input, v_threshold=0.5)
    )
    np.testing.assert_allclose(
        float_logits(model, tmp_path), logits(model, X), rtol=1e-3, atol=1e-4
    )


@pytest.mark.slow
def test_logits_of_every_step_are_those_of_the_model(tmp_path) -> None:
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    model = made(lambda: forms.SpikeDrivenTransformer(TET=True))
    program = neurocompile.compile(model, X, T=4)
    result = program.run(X.numpy())
    assert result.step_logits.shape == (6, 4, 10)
    np.testing.assert_allclose(result.step_logits.mean(1), result.logits)
    np.testing.assert_array_equal(result.predictions, result.logits.argmax(1))
    program.save(tmp_path / "m.nca")
    loaded = neurocompile.load(tmp_path / "m.nca")
    np.testing.assert_array_equal(
        loaded.run(X[:1].numpy(), "lava").step_logits, result.step_logits[:1]
    )
    assert made(forms.SpikeDrivenTransformer) is not None
    assert (
        neurocompile.compile(made(forms.SpikeDrivenTransformer), X, T=4)
        .run(X[:1].numpy())
        .step_logits
        is None
    )


@pytest.mark.slow
def test_official_attention_over_time_and_batch_is_named_and_compiles_per_sample(tmp_path) -> None:
    model = made(lambda: forms.QKFormer(True))
    with pytest.raises(
        NeurocompileError, match=r"NC1008 .*'ssa.proj_lif'.*`per_sample_lif`"
    ) as caught:
        neurocompile.compile(model, X, T=4)
    assert "tssa" not in str(caught.value)
    alone = np.concatenate([logits(model, X[i : i + 1]) for i in range(6)])
    assert not np.allclose(alone, logits(model, X))  # samples do leak into each other
    np.testing.assert_allclose(
        float_logits(model, tmp_path, per_sample_lif=True), alone, rtol=1e-3, atol=1e-4
    )
    program = neurocompile.compile(model, X, T=4, per_sample_lif=True)
    assert (
        len(program.circuit.views) == 10
        and program.parity(X[:2].numpy(), against=("emulator",)).exact
    )


@pytest.mark.slow
def test_one_of_several_outputs_is_chosen() -> None:
    model = made(lambda: forms.MetaSpikeFormer(kd=True))
    with pytest.raises(NeurocompileError, match=r"NC1009 head is 2; the forward returns 2 tensors"):
        neurocompile.compile(model, X, T=4, head=2)
    results = [neurocompile.compile(model, X, T=4, head=k).run(X.numpy()).logits for k in (0, 1)]
    assert not np.allclose(*results)


@pytest.mark.parametrize("v_reset", [0.0, -0.25, None])
def test_a_threshold_for_each_channel_is_divided_out(v_reset) -> None:
    """SpikingJelly's eval mode takes no tensor for a threshold, so the marker is compared with the
    equations.
    """
    from neurocompile.frontends.torch.neurons import LIFMarker

    spiking = neuron.LIFNode(tau=2.0, v_reset=v_reset, step_mode="m")
    spiking.v_threshold = torch.linspace(0.4, 1.2, 6)
    marker = LIFMarker(spiking, "n")
    _, tau, threshold, rest, decay_input, soft = marker.arguments
    x = torch.rand(20, 4, 6, generator=torch.Generator().manual_seed(0)).double() * 2

    def run(x, threshold, reset) -> torch.Tensor:
        v, spikes, r = torch.full_like(x[0], reset), [], reset
        for now in x:
            h = v + (now - (v - r)) / tau
            spikes.append(h >= threshold)
            v = (
                h - threshold * spikes[-1]
                if soft
                else torch.where(spikes[-1], torch.as_tensor(r, dtype=h.dtype), h)
            )
        return torch.stack(spikes)

    expected = run(x, spiking.v_threshold.double(), v_reset or 0.0)
    assert decay_input and 0.1 < expected.double().mean() < 0.9
    assert (run(x * marker.factor.double(), threshold, rest) == expected).double().mean() > 0.999


def test_nothing_of_the_module_changes() -> None:
    """Parameters, buffers, mode, potentials and hooks, in train mode with an autograd graph left
    from a forward.
    """
    model = made(forms.SpikingResformer).train()
    for module in model.modules():
        if hasattr(module, "v_threshold"):
            module.__dict__["_backend" if "_backend" in module.__dict__ else "backend"] = "cupy"
    called: list[str] = []
    model.up[0].register_forward_hook(lambda *_: called.append("neuron"))
    model.conv[1].register_forward_pre_hook(lambda *_: called.append("layer"))
    model.alias = model.up[0]  # one neuron under two names
    for module in model.modules():
        if hasattr(module, "v_threshold"):
            module.v = torch.rand(4, 6, 8, 4, 4, requires_grad=True) * 2
    before = {
        path: (
            module.training,
            getattr(module, "v", None),
            list(module._forward_hooks),
            list(module._forward_pre_hooks),
            getattr(module, "backend", None),
            id(module),
            {k: (id(t), t.clone()) for k, t in module._parameters.items() if t is not None},
        )
        for path, module in model.named_modules(remove_duplicate=False)
    }
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.warns(UserWarning, match="2 forward hooks of SpikingResformer are left out"):
        neurocompile.compile(model, X, T=4)
    assert not called and "forward" not in vars(model)
    for path, module in model.named_modules(remove_duplicate=False):
        training, v, hooks, pre_hooks, backend, identity, parameters = before.pop(path)
        assert (module.training, list(module._forward_hooks), list(module._forward_pre_hooks)) == (
            training,
            hooks,
            pre_hooks,
        )
        assert (
            getattr(module, "v", None) is v
            and getattr(module, "backend", None) == backend
            and id(module) == identity
        )
        for name, (identity, values) in parameters.items():
            assert id(module._parameters[name]) == identity and torch.equal(
                module._parameters[name], values
            )
    assert not before and all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


class LastStep(forms.OneStep):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(self.T):
            y = self.one(x)
        return y


class ResetHalfway(forms.OneStep):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = self.one(x) + self.one(x)
        forms.reset(self)
        return (total + self.one(x)) / 3


@pytest.mark.parametrize(
    ("make", "code"),
    [(LastStep, "NC10(03|07|11|13)"), (ResetHalfway, "NC1013 .*reset in the midst")],
)
def test_what_is_traced_wrongly_is_refused(make, code: str, tmp_path) -> None:
    with pytest.raises(NeurocompileError, match=code):
        neurocompile.export_onnx(made(lambda: make(v_threshold=0.7)), X, tmp_path / "m.onnx", T=3)
    assert not list(tmp_path.iterdir())
