"""Weight files: safetensors whose matrices and kernels are float16, the rest (normalizations,
biases) float32, and whose metadata say which model they are of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .teacher import TEACHERS, ResNet

__all__ = ["build_model", "load", "round_weights", "save", "set_steps"]


def build_model(name: str, T: int = 4) -> nn.Module:
    """A new model with random weights: a dense teacher, or a reference model of T steps for images
    (3, 32, 32) of 10 classes.

    KeyError for a name that is neither.
    """
    if name in TEACHERS:
        return ResNet(*TEACHERS[name])
    from neurocompile.models.registry import build

    return build(name, in_channels=3, num_classes=10, T=T)


def set_steps(model: nn.Module, T: int) -> None:
    """Run ``model`` for T steps from now on; no weight of a reference model depends on T."""
    import dataclasses

    config: Any = getattr(model, "config", None)
    if config is not None:
        model.config = dataclasses.replace(config, T=T)  # pyright: ignore


def round_weights(model: nn.Module) -> None:
    """Round what a file keeps in float16 to it, in place, so that the model is the file's."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half())


def save(model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights; ``metadata`` with at least ``model``, a name of :func:`build_model`."""
    from safetensors.torch import save_file

    parameters = {name for name, p in model.named_parameters() if p.ndim > 1}
    save_file(
        {
            name: (value.half() if name in parameters else value).detach().cpu().contiguous()
            for name, value in model.state_dict().items()
        },
        path,
        metadata,
    )


def load(path: Path, T: int = 4) -> nn.Module:
    """The model of a file, float32, in eval mode.

    ValueError for a file without the name of a model; RuntimeError where weights are missing or of
    another shape.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        name = (file.metadata() or {}).get("model")
        if name is None:
            raise ValueError(f"'{path}' does not say which model its weights are of")
        values = {key: file.get_tensor(key) for key in file.keys()}
    model = build_model(name, T)
    model.load_state_dict(values)
    return model.eval()
