"""Every reference model by name: ``build("spikformer-4-384")``, ``build("spikformer-tiny", T=8,
num_classes=100)``.

Names without ``tiny`` are the sizes of the papers. The tiny ones have the same parts and run in
milliseconds.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from torch import nn

from . import e_spikeformer as esp
from . import meta_spikeformer as meta
from . import qkformer as qk
from . import spike_driven_transformer as sdt
from . import spikformer as spik
from . import spikformer_v2 as spik2
from . import spiking_resformer as res

__all__ = ["MODELS", "Reference", "build"]


class Reference(NamedTuple):
    """How a reference model is made: ``constructor(config)``."""

    constructor: type[nn.Module]
    """Takes the config as its only argument."""
    config: Any
    """A frozen dataclass with at least in_channels, num_classes, image_size and T."""
    published: float | None = None
    """Published parameters (the paper's or the authors' code's), in millions; None for a size that
    nobody published.
    """


_TINY_RESFORMER = res.SpikingResformerConfig(
    num_classes=10,
    image_size=8,
    large_prologue=False,
    dims=(8, 16),
    num_heads=(1, 2),
    patch_sizes=(2, 1),
    depths=(1, 1),
    mlp_ratio=2,
    group_size=8,
)

MODELS: dict[str, Reference] = {
    "spikformer-4-256": Reference(spik.Spikformer, spik.SPIKFORMER_4_256, 4.16),
    "spikformer-4-384": Reference(spik.Spikformer, spik.SPIKFORMER_4_384, 9.33),
    "spikformer-8-512": Reference(spik.Spikformer, spik.SPIKFORMER_8_512, 29.71),
    "spikformer-tiny": Reference(
        spik.Spikformer,
        spik.SpikformerConfig(image_size=16, embed_dim=32, depth=1, num_heads=2, mlp_ratio=2),
    ),
    "spikformer-tiny-imagenet": Reference(
        spik.Spikformer,
        spik.SpikformerConfig(
            image_size=32,
            patch_size=16,
            embed_dim=32,
            depth=1,
            num_heads=2,
            mlp_ratio=2,
            kv_first=True,
        ),
    ),
    "spikformer-v2-8-384": Reference(spik2.SpikformerV2, spik2.SPIKFORMER_V2_8_384),
    "spikformer-v2-8-512": Reference(spik2.SpikformerV2, spik2.SPIKFORMER_V2_8_512),
    "spikformer-v2-16-768": Reference(spik2.SpikformerV2, spik2.SPIKFORMER_V2_16_768, 172.0),
    "spikformer-v2-tiny": Reference(
        spik2.SpikformerV2,
        spik2.SpikformerV2Config(
            num_classes=10,
            image_size=16,
            stages=2,
            embed_dim=32,
            depth=1,
            num_heads=2,
            mlp_ratio=2,
            stem_ratio=2,
        ),
    ),
    "qkformer-4-256": Reference(qk.QKFormer, qk.QK_4_256, 2.99),
    "qkformer-4-384": Reference(qk.QKFormer, qk.QK_4_384, 6.71),
    "qkformer-hst-10-384": Reference(qk.QKFormer, qk.HST_10_384, 16.47),
    "qkformer-hst-10-512": Reference(qk.QKFormer, qk.HST_10_512, 29.08),
    "qkformer-hst-10-768": Reference(qk.QKFormer, qk.HST_10_768, 64.96),
    "qkformer-tiny-digits": Reference(qk.QKFormer, qk.QKFormerConfig()),
    "qkformer-tiny": Reference(
        qk.QKFormer,
        qk.QKFormerConfig(in_channels=3, embed_dim=32, num_heads=2, depth3=1, image_size=16),
    ),
    "qkformer-tiny-hst": Reference(
        qk.QKFormer,
        qk.QKFormerConfig(
            in_channels=3, embed_dim=32, num_heads=2, depth3=1, pool_early=True, image_size=32
        ),
    ),
    "spiking-resformer-cifar": Reference(res.SpikingResformer, res.RESFORMER_CIFAR, 10.79),
    "spiking-resformer-cifar-slim": Reference(res.SpikingResformer, res.RESFORMER_CIFAR_SLIM),
    "spiking-resformer-ti": Reference(res.SpikingResformer, res.RESFORMER_TI, 11.18),
    "spiking-resformer-s": Reference(res.SpikingResformer, res.RESFORMER_S, 17.81),
    "spiking-resformer-m": Reference(res.SpikingResformer, res.RESFORMER_M, 35.60),
    "spiking-resformer-l": Reference(res.SpikingResformer, res.RESFORMER_L, 60.38),
    "spiking-resformer-tiny": Reference(res.SpikingResformer, _TINY_RESFORMER),
    "spiking-resformer-tiny-imagenet": Reference(
        res.SpikingResformer,
        dataclasses.replace(_TINY_RESFORMER, image_size=32, large_prologue=True),
    ),
    "spike-driven-transformer-2-256": Reference(sdt.SpikeDrivenTransformer, sdt.SDT_2_256, 2.57),
    "spike-driven-transformer-2-512": Reference(sdt.SpikeDrivenTransformer, sdt.SDT_2_512, 10.23),
    "spike-driven-transformer-8-768": Reference(sdt.SpikeDrivenTransformer, sdt.SDT_8_768, 66.34),
    "spike-driven-transformer-tiny": Reference(
        sdt.SpikeDrivenTransformer,
        sdt.SpikeDrivenTransformerConfig(image_size=16, embed_dim=32, depth=1, mlp_ratio=2),
    ),
    "spike-driven-transformer-tiny-imagenet": Reference(
        sdt.SpikeDrivenTransformer,
        sdt.SpikeDrivenTransformerConfig(
            image_size=32, patch_size=16, embed_dim=32, depth=1, mlp_ratio=2
        ),
    ),
    "meta-spikeformer-8-384": Reference(meta.MetaSpikeFormer, meta.META_8_384, 31.33),
    "meta-spikeformer-8-512": Reference(meta.MetaSpikeFormer, meta.META_8_512, 55.35),
    "meta-spikeformer-tiny": Reference(
        meta.MetaSpikeFormer,
        meta.MetaSpikeFormerConfig(
            num_classes=10,
            image_size=32,
            dims=(8, 8, 16, 16),
            depths=(1, 1, 1, 1),
            num_heads=2,
            mlp_ratio=2,
        ),
    ),
    "e-spikeformer-s": Reference(esp.ESpikeFormer, esp.E_S, 5.1),
    "e-spikeformer-m": Reference(esp.ESpikeFormer, esp.E_M, 10.0),
    "e-spikeformer-l": Reference(esp.ESpikeFormer, esp.E_L, 19.0),
    "e-spikeformer-tiny": Reference(
        esp.ESpikeFormer,
        esp.ESpikeFormerConfig(
            num_classes=10,
            image_size=32,
            dims=(8, 8, 16, 16),
            depths=(1, 1, 1, 1),
            num_heads=2,
            mlp_ratio=2,
            value_ratio=2,
        ),
    ),
}


def build(name: str, **changes: Any) -> nn.Module:
    """A new model of that name, its config changed where ``changes`` says so, with random weights.

    Raises:
        KeyError: there is no such name; the message lists all.
        TypeError: ``changes`` names a field that the config does not have.
    """
    if name not in MODELS:
        raise KeyError(f"no reference model '{name}'; there are {', '.join(MODELS)}")
    constructor, config, _ = MODELS[name]
    return constructor(dataclasses.replace(config, **changes))
