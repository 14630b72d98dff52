"""A small SpikingBERT on the sentences of SST-2: the training script, its tokenizer, weights and card.

The function gives (module in eval mode, example input), as every command's MODEL may be; the input
is what :func:`embedded` makes of sentences::

    neurocompile check neurocompile.models.zoo.sst2:spiking_bert

With :func:`text_part` a compiled program takes sentences: ``program.with_text(text_part())``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from neurocompile.host.text import TextPart, Tokenizer

    from ...spiking_bert import SpikingBert, SpikingEncoder

__all__ = ["embedded", "load", "spiking_bert", "text_part", "tokenizer", "vocabulary"]

HERE = Path(__file__).parent


def vocabulary() -> tuple[str, ...]:
    """The pieces of words that the shipped model knows."""
    return tuple((HERE / "vocabulary.txt").read_text(encoding="utf-8").split("\n"))


def tokenizer(length: int = 32) -> Tokenizer:
    """Sentences to ids (samples, ``length``) of the shipped vocabulary."""
    from neurocompile.host.text import Tokenizer

    return Tokenizer(vocabulary(), length)


def load(path: Path = HERE / "spiking-bert.safetensors") -> SpikingBert:
    """The trained model from token ids to logits, float32, in eval mode."""
    import json

    from safetensors import safe_open

    from ...spiking_bert import SpikingBert, SpikingBertConfig

    with safe_open(path, "pt") as file:
        config = json.loads((file.metadata() or {})["config"])
        values = {key: file.get_tensor(key).float() for key in file.keys()}
    model = SpikingBert(SpikingBertConfig(**config))
    model.load_state_dict(values)
    return model.eval()


def text_part() -> TextPart:
    """What the host makes of sentences, for :meth:`neurocompile.Program.with_text`."""
    from neurocompile.host.text import TextPart

    e = load().embeddings
    arrays = e.word.weight, e.position.weight + e.segment.weight[0], e.norm.weight, e.norm.bias
    table, places, weight, bias = (a.detach().numpy() for a in arrays)
    return TextPart(vocabulary(), table, places, weight, bias, e.norm.eps)


def embedded(texts: Sequence[str]) -> torch.Tensor:
    """What the chip is given of sentences: (samples, N, C) float32."""
    import torch

    return torch.from_numpy(text_part()(texts))


def spiking_bert() -> tuple[SpikingEncoder, torch.Tensor]:
    """SpikingBERT (Bal and Sengupta 2024) from embeddings on, 2 blocks of 64 channels, T = 4."""
    return load().encoder, embedded(["a warm , funny film", "it never comes to life"])
