"""Statistics of a float model on sample inputs, which travel in the ONNX file for the quantizer and
the mapper.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.calibration import value_grid

if TYPE_CHECKING:
    from torch import nn

__all__ = ["STEPS_KEY", "calibrate", "spikes_of"]

STEPS_KEY = "neurocompile.T"
"""Key of the number of simulation steps in ``metadata_props``, a decimal integer."""

_BATCH = 64


def calibrate(
    model: nn.Module,
    neurons: list[tuple[str, nn.Module]],
    paths: set[str],
    samples: np.ndarray,
    steps: int,
    source: str | None = None,
) -> str:
    """Run ``model`` on ``samples`` and describe inputs and spikes, as JSON text with sorted keys.

    ``{"samples": N, "T": T, "input": {"min", "max", "grid"}, "layers": {path: {"rate",
    "channel_rate"}}}``: ``grid`` is
    :func:`neurocompile.calibration.value_grid` of the samples or null, ``rate`` the mean number of spikes a neuron a step,
    ``channel_rate`` the same for each index of axis 2 of the spikes (T, B, C, ...), empty if they
    have no such axis. Numbers are rounded to 9 significant digits.

    Args:
        model: in eval mode; its neurons are reset, and keep the state of the last batch.
        neurons: as :func:`neurocompile.frontends.torch.neurons.find_neurons` returns them.
        paths: which of them to describe: those that the forward calls.
        samples: (N, ...) float32.
        steps: T.
        source: what to call the samples, if they are no calibration data.
    """
    import torch

    from neurocompile.frontends.torch.neurons import is_single_step, reset

    totals: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    has_channels: dict[str, bool] = {}

    def record(path: str, neuron: nn.Module, spikes: torch.Tensor) -> None:
        if is_single_step(neuron):
            spikes = spikes.unsqueeze(0)
        # (T, B, C, ...) to one sum a channel; a neuron without channel axis counts as one channel.
        sums = (
            spikes.double()
            .sum([axis for axis in range(spikes.ndim) if axis != 2])
            .reshape(-1)
            .numpy()
        )
        totals[path] = totals.get(path, 0.0) + sums
        counts[path] = counts.get(path, 0) + spikes.numel() // len(sums)
        has_channels[path] = spikes.ndim > 2

    hooks = [
        neuron.register_forward_hook(
            lambda module, _inputs, spikes, path=path: record(path, module, spikes)
        )
        for path, neuron in neurons
        if path in paths
    ]
    with torch.no_grad():
        for start in range(0, len(samples), _BATCH):
            reset(model)
            model(torch.from_numpy(samples[start : start + _BATCH]))
    for hook in hooks:
        hook.remove()

    layers: dict[str, Any] = {}
    for path, total in totals.items():
        rates = total / counts[path]
        layers[path] = {
            "rate": _round(rates.mean()),
            "channel_rate": [_round(rate) for rate in rates] if has_channels[path] else [],
        }
    grid = value_grid(samples)
    statistics = {
        "samples": len(samples),
        "T": steps,
        "input": {
            "min": _round(samples.min()),
            "max": _round(samples.max()),
            "grid": None if grid is None else _round(grid),
        },
        "layers": layers,
        **({} if source is None else {"source": source}),
    }
    return json.dumps(statistics, sort_keys=True, separators=(",", ":"), allow_nan=False)


def spikes_of(
    model: nn.Module, x: np.ndarray
) -> tuple[tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """Outputs of ``model`` on ``x``, from reset neurons, and every called neuron's spikes, (T, ...),
    by path.
    """
    import torch

    from neurocompile.frontends.torch.neurons import find_neurons, is_single_step, reset

    calls: dict[str, list[np.ndarray]] = {}
    single, hooks = set(), []
    for path, neuron in find_neurons(model):
        if is_single_step(neuron):
            single.add(path)
        hooks.append(
            neuron.register_forward_hook(
                lambda _module, _inputs, spikes, path=path: calls.setdefault(path, []).append(
                    spikes.numpy()
                )
            )
        )
    reset(model)
    with torch.no_grad():
        found = model(torch.from_numpy(x))
    for hook in hooks:
        hook.remove()
    outputs = found if isinstance(found, tuple) else (found,)
    return tuple(y.numpy() for y in outputs), {
        path: np.stack(seen) if path in single else seen[0] for path, seen in calls.items()
    }


def _round(value: float) -> float:
    return float(f"{value:.9g}")
