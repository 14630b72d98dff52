"""Files that torch's own exporters wrote compile to programs: forms, exporters, opsets, with the
check against onnxruntime.
"""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

import official_forms as forms  # noqa: E402
from test_onnx_recover_torch import Heaviside  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402

torch.set_num_threads(1)
X = torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0)) / 255

MODELS = {
    "spikformer": (forms.Spikformer, 7),
    "qkformer": (lambda: forms.QKFormer(False), 5),
    "meta_spikeformer": (forms.MetaSpikeFormer, 4),
    "spiking_resformer": (forms.SpikingResformer, 4),
    "loop": (forms.Accumulating, 2),
    "loop_with_logits_of_every_step": (forms.Stacking, 2),
}
EXPORTERS = [("torchscript", 13), ("torchscript", 17), ("dynamo", 18)]


@pytest.mark.slow
@pytest.mark.parametrize(("exporter", "opset"), EXPORTERS)
@pytest.mark.parametrize("name", MODELS)
def test_a_whole_model(name: str, exporter: str, opset: int, tmp_path) -> None:
    make, layers = MODELS[name]
    torch.manual_seed(0)
    model = forms.calibrated(make(), X)
    for module in model.modules():
        if hasattr(module, "surrogate_function"):
            module.surrogate_function = Heaviside()
            module.train()  # in eval mode SpikingJelly calls kernels of its own
    path = tmp_path / "theirs.onnx"
    options = {
        "dynamo": exporter == "dynamo",
        "opset_version": opset,
        "input_names": ["x"],
        "verbose": False,
    }
    if exporter == "torchscript":
        # The batch is fixed: this exporter writes what Python code computes from shapes as
        # constants.
        options |= {"training": torch.onnx.TrainingMode.PRESERVE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(model, (X[:2],), path, **options)
        except (
            Exception
        ) as error:  # which exporter takes which neuron depends on both libraries' versions
            pytest.skip(f"torch cannot export it here: {type(error).__name__}")
    if exporter == "dynamo":
        onnx.save(onnx.load(path), path)  # weights into the file
    forms.reset(model)
    with torch.no_grad():
        expected = nn.Module.__call__(model, X)
    expected = expected.mean(0) if expected.ndim == 3 else expected
    program = neurocompile.compile(path, T=getattr(model, "T", 3), calibration=X.numpy())
    assert len(program.circuit.views) == layers and program.manifest.import_agreement > 0.99
    assert program.parity(X[:2].numpy(), against=("emulator",), reference=path).exact
    if expected.ndim == 2:
        assert (program.run(X.numpy()).logits.shape) == tuple(expected.shape)
        assert (program.run(X.numpy()).step_logits is None) == (
            name not in ("spiking_resformer", "loop_with_logits_of_every_step")
        )
    assert np.isfinite(program.run(X.numpy()).logits).all()


def test_a_file_with_neurons_over_time_and_batch_compiles_per_sample(tmp_path) -> None:
    """A file of ours, in which one LIF reads (T B, ...): refused, or run for each sample alone,
    parity included.
    """
    from onnx_cases import ints, lif, mlp, op

    nodes = [
        op("MatMul", "t w", "f"),
        lif("f", "l0"),
        op("Reshape", "l0 flat", "u"),
        op("MatMul", "u v", "g"),
        lif("g", "l1"),
        op("Reshape", "l1 back", "l"),
    ]
    path = tmp_path / "leaking.onnx"
    path.write_bytes(mlp(nodes, flat=ints(-1, 5), back=ints(4, -1, 5)).SerializeToString())
    x = np.random.default_rng(0).uniform(0, 2, (5, 4)).astype(np.float32)
    with pytest.raises(
        neurocompile.NeurocompileError, match=r"NC1008 node 'l1' \(LIF\).*T\+B.*`per_sample_lif`"
    ):
        neurocompile.compile(path, calibration=x)
    program = neurocompile.compile(path, calibration=x, per_sample_lif=True)
    report = program.parity(x, against=("emulator",), reference=path)
    assert report.exact and program.manifest.import_agreement == 1.0
    assert report.reference is not None and len(report.reference.layers) == 2
