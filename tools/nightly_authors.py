"""Authors' files, not one line changed, against float64, every spike of every layer: ``python
tools/nightly_authors.py FOLDER [MODEL ...] [--through module|torchscript|dynamo] [--log FILE]``.

FOLDER holds clones of the repositories of :data:`MODELS`, each called as after the ``/`` in its
name; they import timm (and torchinfo, torchvision): have these installed. Networks are a few
channels wide. Weights lie on a grid of 16ths, scales of BatchNorm are powers of two, so that an 8-bit compiler has
nothing to round. A model compiles, up to its circuit, as the module itself or as the file of one of
torch's exporters (of a batch of 1 where neurons run over samples); its spikes on the emulator are compared with a float64 run of the module, one
sample at a time, and with the definition. Layers whose neurons lie in another order than the
module's are counted apart. Prints a row of docs/import.md a model, and a line of JSON with ``--log``. To try
another SpikingJelly, put it in front by PYTHONPATH. Exit code 1 if a spike differs.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import io
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

import neurocompile  # noqa: E402
from neurocompile import compat  # noqa: E402

SAMPLES, CHANNELS = 4, 2
SHARES = 4
"""Of E-SpikeFormer's neurons: they send a number of spikes, 0 to 4, as a share of 4."""
_NEURONS = ("LIF", "IF", "PLIF", "MultiSpike")
_REAL = 0.25
"""Scale of BatchNorm where real values are added up: others take what brings sums to order 1."""


class Model(NamedTuple):
    """One network of one file."""

    repository: str
    folder: str
    file: str
    build: Callable[[Any], nn.Module]
    """From the imported file."""
    size: int
    T: int = 4
    real: bool = True
    """A residual of real values."""
    per_sample: bool = False
    """``proj_lif`` runs over steps and samples at once."""


def _vit(name: str, **changed: Any) -> Callable[[Any], nn.Module]:
    fields: dict[str, Any] = {"img_size_h": 16, "img_size_w": 16, "patch_size": 4, "depths": 1}
    fields |= {"embed_dims": 16, "num_heads": 2, "mlp_ratios": 2, "sr_ratios": 1, "T": 4}
    fields |= {"in_channels": CHANNELS, "num_classes": 5, **changed}
    return lambda file: getattr(file, name)(**fields)


_LN = {"qkv_bias": False, "norm_layer": partial(nn.LayerNorm, eps=1e-6)}
_POOLED = {"pooling_stat": "0011"}


def _meta(name: str) -> Callable[[Any], nn.Module]:
    size = {"img_size_h": 32, "img_size_w": 32, "patch_size": 16, "embed_dim": [4, 8, 8, 8]}
    return lambda file: getattr(file, name)(
        **size,
        num_heads=2,
        mlp_ratios=4,
        in_channels=CHANNELS,
        num_classes=5,
        depths=8,
        sr_ratios=1,
    )


def _max(name: str) -> Callable[[Any], nn.Module]:
    return lambda file: getattr(file, name)(
        embed_dims=32, mlp_ratios=2, in_channels=CHANNELS, num_classes=5, depths=4, T=4
    )


def _two_steps(build: Callable[[Any], nn.Module]) -> Callable[[Any], nn.Module]:
    def made(file: Any) -> nn.Module:
        net = build(file)
        net.T = 2
        return net

    return made


def _sgl(file: Any) -> nn.Module:
    net: Any = _vit("vit_snn", embed_dims=24, mlp_ratios=1, **_LN)(file)
    net.num_patches = 16  # the file fixes 64, of 32 x 32 images
    net.full_size_conv = nn.Conv2d(24, 24, kernel_size=(16, 4), groups=24)
    return net


def _resformer(file: Any) -> nn.Module:
    blocks = [["DSSA", "GWFFN"]] * 2
    return file.SpikingResformer(
        blocks,
        [8, 16],
        [1, 2],
        [2, 1],
        img_size=32,
        T=4,
        in_channels=CHANNELS,
        num_classes=5,
        group_size=8,
    )


def _statten(mode: str) -> Callable[[Any], nn.Module]:
    return _vit("SpikeDrivenTransformer", **_POOLED, attention_mode=mode, chunk_size=2)


MODELS = {
    "Spikformer": Model(
        "ZK-Zhou/spikformer", "cifar10", "model", _vit("Spikformer", **_LN), 16, real=False
    ),
    "Spikingformer": Model(
        "zhouchenlin2096/Spikingformer", "cifar10", "model", _vit("vit_snn", **_LN), 16
    ),
    "QKFormer": Model(
        "zhouchenlin2096/QKFormer",
        "cifar10",
        "model",
        _vit("spiking_transformer", embed_dims=32, depths=3, num_heads=8, mlp_ratios=1, **_LN),
        16,
        real=False,
        per_sample=True,
    ),
    "Spike-driven": Model(
        "BICLab/Spike-Driven-Transformer",
        "",
        "model.spikeformer",
        _vit("SpikeDrivenTransformer", **_POOLED),
        16,
    ),
    "Spike-driven-V2": Model(
        "BICLab/Spike-Driven-Transformer-V2",
        "classification",
        "models",
        _two_steps(_meta("Spiking_vit_MetaFormer")),
        32,
        T=2,
    ),
    "Max-Former": Model("bic-L/MaxFormer", "cifar10-100", "max_former", _max("Max_Former"), 16),
    "Max-Former-QKFormer": Model(
        "bic-L/MaxFormer",
        "cifar10-100",
        "ms_qkformer",
        lambda file: file.ms_qkformer(
            embed_dims=32, mlp_ratios=2, in_channels=CHANNELS, num_classes=5, depths=4, T=4
        ),
        16,
        per_sample=True,
    ),
    "SGLFormer": Model("ZhangHanN1/SGLFormer", "cifar10", "sglformer", _sgl, 16, real=False),
    "SpikingResformer": Model(
        "xyshi2000/SpikingResformer", "", "models.spikingresformer", _resformer, 32
    ),
    "STAtten-SDT": Model(
        "Intelligent-Computing-Lab-Yale/STAtten", "", "model.spikeformer", _statten("SDT"), 16
    ),
    "STAtten": Model(
        "Intelligent-Computing-Lab-Yale/STAtten", "", "model.spikeformer", _statten("STAtten"), 16
    ),
    "E-SpikeFormer": Model(
        "BICLab/Spike-Driven-Transformer-V3",
        "SDT_V3/Classification/Model_Base",
        "models",
        _meta("Spiking_vit_MetaFormer_Spike_SepConv"),
        32,
        T=1,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)}; all")
    parser.add_argument("--through", choices=("module", "torchscript", "dynamo"), default="module")
    parser.add_argument("--log", type=Path)
    asked = parser.parse_args()
    wrong = 0
    for name in asked.models or MODELS:  # files of one name import each other: a process each
        sys.stdout.flush()
        child = os.fork()
        if not child:
            try:
                found = judge(asked.folder, name, asked.through)
            except Exception as error:
                found = {"model": name, "code": type(error).__name__, "why": str(error)[:200]}
            print(row(found), flush=True)
            if asked.log is not None:
                with asked.log.open("a") as file:
                    file.write(json.dumps(found) + "\n")
            os._exit(int(bool(found.get("differ")) or not found.get("parity", True)))
        wrong += os.waitpid(child, 0)[1] != 0
    return 1 if wrong else 0


def row(found: dict[str, Any]) -> str:
    """A row of the table."""
    if "code" in found:
        return f"| {found['model']} | {found.get('T', '')} | {found['code']} | {found['why']} |"
    layers = f"{found['exact']} of {found['compared']} (of {found['layers']})"
    spikes = f"{found['differ']:,} of {found['spikes']:,}"
    return (
        f"| {found['model']} | {found['T']} | yes | {layers} layers exact, {spikes} spikes differ |"
    )


def judge(folder: Path, name: str, through: str) -> dict[str, Any]:
    """Build, compile and compare one model."""
    model, rng = MODELS[name], np.random.default_rng(0)
    place = folder / model.repository.split("/")[1] / model.folder
    sys.path.insert(0, str(place))
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with compat.spikingjelly():
        net = model.build(importlib.import_module(model.file))
    x = rng.integers(0, 16, (SAMPLES, CHANNELS, model.size, model.size)).astype(np.float32) / 16
    _on_grid(net, model, rng, torch.tensor(x))
    want, logits = _in_float64(net, x)
    found: dict[str, Any] = {"model": name, "T": model.T, "through": through}
    try:
        with tempfile.TemporaryDirectory() as kept, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            example = torch.tensor(x[: 1 if model.per_sample and through != "module" else 2])
            given = _given(net, through, example, Path(kept, "model.onnx"))
            opened = neurocompile.open(
                *given, T=model.T, calibration=x, per_sample_lif=model.per_sample
            )
            lowered = opened.canonical().quantize().lower()
    except neurocompile.NeurocompileError as error:
        return found | {"code": error.code, "why": error.message}
    spikes, defined = lowered.spikes(x), lowered.quantized.spikes(x)
    parity = all((spikes[k] == defined[k].reshape(spikes[k].shape)).all() for k in spikes)
    found |= {"parity": bool(parity), "layers": len(spikes), "neurons": len(want)}
    found |= _compared(spikes, want, model.T)
    same = np.reshape(lowered.logits(x), (SAMPLES, -1))
    return found | {"logits": bool(np.allclose(same, logits, rtol=1e-5, atol=1e-5))}


def _given(net: nn.Module, through: str, x: torch.Tensor, path: Path) -> tuple[Any, ...]:
    """What is compiled: the module and an example, or a file."""
    if through == "module":
        return net, x

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found = self.net(x)
            return found[0] if isinstance(found, tuple) else found

    _reset(net)
    dynamo = through == "dynamo"
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(
            First().eval(),
            (x if dynamo else x[:1],),
            str(path),
            dynamo=dynamo,
            opset_version=18 if dynamo else 17,
        )
    return (path,)


# ---- the network ---------------------------------------------------------------------------------


def _reset(net: nn.Module) -> None:
    for module in net.modules():
        if hasattr(module, "reset"):
            module.reset()


def _on_grid(net: nn.Module, model: Model, rng: np.random.Generator, x: torch.Tensor) -> None:
    """Weights, biases and norms on a grid, as large as gives every layer some spikes."""

    def whole(shape: torch.Size, most: int, unit: float) -> torch.Tensor:
        values = rng.integers(-most * 3 // 4, most + 1, tuple(shape)) / unit
        return torch.tensor(values, dtype=torch.float32)

    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            # layers without a neuron between them become one, whose weights are their products
            joined = "body" in name or name.endswith("pwconv2") or "dwconv" in name
            if joined and module.weight[0, 0].numel() == 1:
                values = torch.zeros(module.weight.shape)
                for row_ in values:
                    row_[rng.integers(len(row_))] = float(rng.choice([1, 1, -1]))
            else:
                values = whole(module.weight.shape, *((7, 4.0) if joined else (15, 16.0)))
            module.weight.data = values
            if module.bias is not None:
                bias = rng.integers(-4, 5, tuple(module.bias.shape)) / 16
                module.bias.data = torch.tensor(bias, dtype=torch.float32)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.eps = 0.0
            module.running_mean.zero_()  # type: ignore[union-attr]
            module.running_var.fill_(1)  # type: ignore[union-attr]
        elif type(module).__name__ == "DSSA":  # SpikingResformer's scales: powers of two
            dssa: Any = module
            dssa.firing_rate_x.fill_(1 / (dssa.dim // dssa.num_heads))
            dssa.firing_rate_attn.fill_(4 / dssa.lenth)
            dssa.init_firing_rate_x = dssa.init_firing_rate_attn = True
    net.eval()
    names = {module: name for name, module in net.named_modules()}

    def settle(norm: Any, args: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
        fixed = model.real and not any(k in names[norm] for k in ("q_conv", "k_conv", "v_conv"))
        norm.weight.data.fill_(1)
        norm.bias.data.zero_()
        spread = max(float(norm.forward(args[0]).std()), 1e-6)
        scale = _REAL if fixed else min(max(2.0 ** round(-np.log2(spread)), 2.0**-4), 4.0)
        norm.weight.data.fill_(scale)
        bias = np.round(rng.uniform(0, 1, tuple(norm.bias.shape)) * 16) / 16
        norm.bias.data = torch.tensor(bias, dtype=torch.float32)
        return norm.forward(args[0])

    norms = [m for m in net.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    hooks = [norm.register_forward_hook(settle) for norm in norms]
    with torch.no_grad():
        net(x)
    _reset(net)
    for hook in hooks:
        hook.remove()


# ---- the comparison ------------------------------------------------------------------------------


def _is_neuron(module: nn.Module) -> bool:
    kind = type(module).__name__
    return hasattr(module, "v_threshold") or any(k in kind for k in _NEURONS)


def _in_float64(net: nn.Module, x: np.ndarray) -> tuple[dict[str, list[np.ndarray]], np.ndarray]:
    """What every neuron sends, a sample at a time, by the module's name; and the mean logits."""
    twin, sent, logits = copy.deepcopy(net).double(), {}, []  # type: Any, dict[str, list[np.ndarray]], list[Any]
    for name, module in twin.named_modules():
        if _is_neuron(module) and not any(_is_neuron(m) for k, m in module.named_modules() if k):
            module.register_forward_hook(
                lambda m, a, out, name=name: sent.setdefault(name, []).append(out.numpy())
            )
    with torch.no_grad():
        for sample in torch.tensor(x).double():
            _reset(twin)
            out = twin(sample[None])
            found = np.asarray(out[0] if isinstance(out, tuple) else out)
            logits.append(found.reshape(-1, found.shape[-1]).mean(axis=0))
    return sent, np.stack(logits)


def _compared(
    spikes: dict[str, np.ndarray], want: dict[str, list[np.ndarray]], T: int
) -> dict[str, Any]:
    """Layers by the module's name, or in the module's order; each with its features in the order of
    axes in which fewest differ. Of those that send as many spikes a sample, but elsewhere, only the
    names are kept.
    """
    names = list(want)
    found: dict[str, Any] = {"exact": 0, "compared": 0, "differ": 0, "spikes": 0, "unordered": []}
    first = ""
    for i, (layer, ours) in enumerate(spikes.items()):
        layer = layer.removeprefix("net.")  # of the wrapper that a file is exported through
        own = [n for n in names if layer == n or layer.startswith(f"{n}.") or n.endswith(layer)]
        if not own:
            own = names[i : i + 1] if len(names) == len(spikes) else []
        if not own or (theirs := _stacked(want[own[0]], T)).size != ours.size:
            continue
        if (theirs % 1).any() or ours.max() == SHARES * theirs.max():
            theirs = theirs * SHARES
        flat, axes = ours.reshape(*theirs.shape[:2], -1), range(2, theirs.ndim)
        orders = (
            theirs.transpose(0, 1, *order).reshape(flat.shape) for order in permutations(axes)
        )
        differ = min(int((flat != one).sum()) for one in orders)
        counts = (each.reshape(len(flat), -1).sum(axis=1) for each in (ours, theirs))
        if differ and np.array_equal(*counts):  # as many, elsewhere: behind a view of the module's
            found["unordered"].append(layer)
            continue
        found["exact"] += not differ
        found["compared"] += 1
        found["differ"] += differ
        found["spikes"] += flat.size
        first = first or (f"{layer}, {differ:,}" if differ else "")
    return found | {"first": first}


def _stacked(calls: list[np.ndarray], T: int) -> np.ndarray:
    """(samples, T, ...) of what was sent for one sample at a time, (T, 1, ...) or (T, ...)."""
    if T == 1:
        return np.concatenate([one[:, None] for one in calls])
    with_batch = [one if one.shape[1] == 1 else one[:, None] for one in calls]
    return np.concatenate([np.moveaxis(one, 0, 1) for one in with_batch])


if __name__ == "__main__":
    sys.exit(main())
