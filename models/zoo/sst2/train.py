"""Train the zoo's SpikingBERT on SST-2 and write ``spiking-bert.safetensors``, its ``.json`` and
``vocabulary.txt``.

    python -m neurocompile.models.zoo.sst2.train FOLDER [--out FOLDER] [--epochs N] [--device cpu]

FOLDER has ``train.tsv`` and ``dev.tsv``: a sentence, a tab and its label 0 or 1 a line. From
scratch: no BERT teaches it, unlike the paper's. The embedding of each word starts with one
direction in proportion to how much more often positive training sentences have it. Seeded; the
weights are those of the last step, rounded to float16 before they are measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neurocompile.host.text import Tokenizer

from ...spiking_bert import SpikingBert, SpikingBertConfig
from .text import make_vocabulary

SEED, BATCH, LEARNING_RATE, WEIGHT_DECAY = 0, 64, 1e-3, 0.05
LABEL_SMOOTHING, DROPOUT, UNKNOWN_WORDS = 0.1, 0.2, 0.15
TOKENS, HIDDEN, DEPTH, HEADS, T, EPOCHS = 32, 64, 2, 2, 4, 10


def sentences(path: Path) -> tuple[list[str], torch.Tensor]:
    """Texts and labels (N,) int64 of one .tsv file."""
    rows = [line.rsplit("\t", 1) for line in path.read_text(encoding="utf-8").splitlines()]
    return [text for text, _ in rows], torch.tensor([int(label) for _, label in rows])


def tiny(vocabulary: int) -> SpikingBertConfig:
    """The configuration that is trained."""
    return SpikingBertConfig(
        vocabulary=vocabulary,
        positions=TOKENS,
        tokens=TOKENS,
        hidden=HIDDEN,
        depth=DEPTH,
        num_heads=HEADS,
        intermediate=2 * HIDDEN,
        T=T,
        attention_threshold=0.25,
        masked=False,
        dropout=DROPOUT,
    )


@torch.no_grad()
def start(model: SpikingBert, ids: torch.Tensor, labels: torch.Tensor) -> None:
    """Weights before training; ``ids`` (N, tokens) and their labels set the words' direction."""
    words = model.config.vocabulary
    nn.init.normal_(model.embeddings.word.weight, 0, 0.1)
    nn.init.normal_(model.embeddings.position.weight, 0, 0.02)
    nn.init.normal_(model.embeddings.segment.weight, 0, 0.02)
    counts = torch.ones(2, words)
    for label in (0, 1):
        counts[label] += torch.bincount(ids[labels == label].flatten(), minlength=words)
    ratio = (counts / counts.sum(1, keepdim=True)).log().diff(dim=0)[0]
    ratio[:3] = 0  # padding, unknown words, the first token
    model.embeddings.word.weight += 0.1 * ratio[:, None] * torch.randn(model.config.hidden)
    model.embeddings.word.weight[0] = 0
    for block in model.encoder.blocks:
        block.value.bias.fill_(0.25)  # values that never fire would pass no gradient


@torch.no_grad()
def count_correct(model: SpikingBert, ids: torch.Tensor, labels: torch.Tensor) -> int:
    """Sentences classified right, in eval mode."""
    model.eval()
    found = torch.cat([model(batch).argmax(1) for batch in ids.split(128)])
    return int((found == labels).sum())


def train(folder: Path, epochs: int = EPOCHS, device: str = "cpu") -> Any:
    """The model in eval mode, its vocabulary, and what the card says of it."""
    torch.manual_seed(SEED)
    texts, labels = sentences(folder / "train.tsv")
    dev_texts, dev_labels = sentences(folder / "dev.tsv")
    vocabulary = make_vocabulary(texts)
    split = Tokenizer(vocabulary, TOKENS)
    ids, dev_ids = (torch.from_numpy(split(t)) for t in (texts, dev_texts))
    model = SpikingBert(tiny(len(vocabulary)))
    start(model, ids, labels)
    ids, labels, dev_ids, dev_labels, model = (
        v.to(device) for v in (ids, labels, dev_ids, dev_labels, model)
    )
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE)
    steps = len(ids) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, epochs * steps, pct_start=0.1
    )
    begin = time.perf_counter()
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for batch in torch.randperm(len(ids), device=device)[: steps * BATCH].split(BATCH):
            words = ids[batch].clone()
            words[(torch.rand(words.shape, device=device) < UNKNOWN_WORDS) & (words > 2)] = 1
            loss = nn.functional.cross_entropy(
                model(words), labels[batch], label_smoothing=LABEL_SMOOTHING
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch}: loss {total / steps:.4f}", flush=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    facts = {
        "data": "SST-2",
        "T": T,
        "suffix": ".safetensors",
        "config": repr(model.config),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.perf_counter() - begin),
        "epochs": epochs,
        "train": count_correct(model, ids, labels) / len(labels),
        "correct": count_correct(model, dev_ids, dev_labels),
        "total": len(dev_labels),
    }
    return model.cpu().eval(), vocabulary, facts


def main(folder: Path, out: Path, epochs: int, device: str) -> None:
    """Train, and write everything into ``out``."""
    from safetensors.torch import save_file

    model, vocabulary, facts = train(folder, epochs, device)
    config = json.dumps(dataclasses.asdict(model.config))
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, out / "spiking-bert.safetensors", {"config": config})
    (out / "vocabulary.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    text = json.dumps(facts, indent=1, sort_keys=True)
    (out / "spiking-bert.json").write_text(text + "\n", encoding="utf-8")
    print(facts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with train.tsv and dev.tsv")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.out, arguments.epochs, arguments.device)
