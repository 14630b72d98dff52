"""A small SpikeGPT on the characters of SST-2's sentences: the training script, its weights and card.

The function gives (module in eval mode, example input), as every command's MODEL may be; the input
is what :func:`embedded` makes of texts::

    neurocompile check neurocompile.models.zoo.characters:spike_gpt

With :func:`character_part` a compiled program writes text: ``program.with_text(character_part())``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from neurocompile.host.characters import CharacterPart

    from ...spike_gpt import SpikeGpt, SpikeGptCore

__all__ = ["CHARACTERS", "character_part", "embedded", "ids_of", "load", "spike_gpt"]

HERE = Path(__file__).parent
CHARACTERS = "\n abcdefghijklmnopqrstuvwxyz0123456789'.,;:!?-`$()/&*%"
"""The vocabulary; others count as a space."""


def ids_of(texts: Sequence[str]) -> np.ndarray:
    """Ids (texts, length) int64 of texts of one length.

    Raises:
        ValueError: lengths differ.
    """
    place = {c: k for k, c in enumerate(CHARACTERS)}
    return np.array([[place.get(c, 1) for c in text.lower()] for text in texts], np.int64)


def load(path: Path = HERE / "spike-gpt.safetensors") -> SpikeGpt:
    """The trained model from ids to logits, float32, in eval mode."""
    import json

    from safetensors import safe_open

    from ...spike_gpt import SpikeGpt, SpikeGptConfig

    with safe_open(path, "pt") as file:
        config = json.loads((file.metadata() or {})["config"])
        values = {key: file.get_tensor(key).float() for key in file.keys()}
    model = SpikeGpt(SpikeGptConfig(**config))
    model.load_state_dict(values)
    return model.eval()


def character_part(tokens: int | None = None) -> CharacterPart:
    """What the host makes of text, for :meth:`neurocompile.Program.with_text` of a program of so many
    ``tokens`` a sample, those of training by default.
    """
    import torch

    from neurocompile.host.characters import CharacterPart

    model = load()
    with torch.no_grad():
        table = model.embedded(torch.arange(len(CHARACTERS))).numpy()
    return CharacterPart(CHARACTERS, table, tokens or model.config.T)


def embedded(texts: Sequence[str]) -> torch.Tensor:
    """What the chip is given of texts: (samples, T, C) float32, 0 or 1."""
    import torch

    with torch.no_grad():
        return load().embedded(torch.from_numpy(ids_of(texts)))


def spike_gpt() -> tuple[SpikeGptCore, torch.Tensor]:
    """SpikeGPT (Zhu et al. 2024) from embeddings on, 2 blocks of 48 channels, 24 tokens."""
    return load().core, embedded(["a stirring , funny and f", "reassembled from the cut"])
