"""A small transformer on scikit-learn's digits, converted to SpikedAttention: training script, weights,
card.

The function gives (module in eval mode, example input), as every command's MODEL may be::

    neurocompile check neurocompile.models.zoo.spiked_digits:spiked_attention
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ...spiked_attention import SpikedTransformer

__all__ = ["load", "spiked_attention"]

HERE = Path(__file__).parent


def load(path: Path = HERE / "spiked-attention.safetensors") -> SpikedTransformer:
    """The converted model in mode ``"spikes"``, float32; its normalizations are folded."""
    import json

    from safetensors import safe_open

    from ...spiked_attention import Layer, SpikedAttentionConfig, SpikedTransformer

    with safe_open(path, "pt") as file:
        config = json.loads((file.metadata() or {})["config"])
        values = {key: file.get_tensor(key).float() for key in file.keys()}
    model = SpikedTransformer(SpikedAttentionConfig(**config)).eval()
    for layer in model.modules():
        if isinstance(layer, Layer):
            layer.norm = None
    model.load_state_dict(values)
    return model.set_mode("spikes")


def spiked_attention() -> tuple[SpikedTransformer, torch.Tensor]:
    """SpikedAttention (Hwang et al. 2024), 1 block of 32 channels, base 1.15 and 40 steps."""
    import torch

    return load(), torch.zeros(2, 1, 8, 8)
