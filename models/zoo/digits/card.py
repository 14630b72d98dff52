"""Write ``card.md`` from the models and their .json files: ``python -m
neurocompile.models.zoo.digits.card``.

Compiles every model for one Loihi 2 and runs the 360 held-out images on the emulator, so the
compiled accuracy is measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.ir.evaluate import encode_input, evaluate

HERE = Path(__file__).parent
TITLES = {
    "spikformer": "Spikformer (Zhou et al. 2023)",
    "spike_driven_transformer": "Spike-driven Transformer (Yao et al. 2023)",
    "spiking_resformer": "SpikingResformer (Shi et al. 2024)",
    "meta_spikeformer": "Meta-SpikeFormer (Yao et al. 2024)",
    "vit": "ViT (Dosovitskiy et al. 2021), neurons in front of its head",
}
OPTIONS: dict[str, dict[str, Any]] = {"vit": {"digits": 10}}
"""Beside T = 4 on one Loihi 2."""

CARD = """# Four spiking transformers and a ViT on 8x8 digits

Small models of our own implementations in `models/`, T = 4. The zoo's QKFormer has a card of its own
(`../qkformer_digits/card.md`). Written by `python -m neurocompile.models.zoo.digits.card`.

| model | file | parameters | accuracy, float | compiled, 8 bits | cores |
|---|---|---|---|---|---|
{rows}

*float*: SpikingJelly on the CPU, after training. *compiled*: the same {total} held-out images on the emulator
(the ViT's are the integers of its quantized graph, which the emulator computes exactly; `pytest --slow tests/models/test_zoo_digits.py`).
Cores are of one Loihi 2 (120), all models unrolled; of the ViT LayerNorm, softmax attention and GELU of two blocks in each step, real
values in 10 binary digits (`--digits 10`). docs/circuits.md has it at other numbers of digits.

## Data

As for the QKFormer: scikit-learn's `load_digits` (Alpaydin and Kaynak, 1998, CC BY 4.0) divided by 16, the same stratified
split, and the same held-out images, `../qkformer_digits/test.npz`. Meta-SpikeFormer shrinks its grid by 16, so every pixel
is repeated 4 times a side for it.

## Training

`python -m neurocompile.models.zoo.digits.train NAME`: AdamW, one-cycle schedule, 60 epochs (the ViT 200), seed 0, one thread ({seconds} s
on shared machines). In floating point to the end: nothing prepares the weights for 8 bits. The held-out images chose nothing.

| model | configuration | accuracy on the training images |
|---|---|---|
{configs}

Licence of the models: Apache-2.0.
"""


def held_out(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The 360 images (N, 1, H, W) float32 as model ``name`` reads them, and their labels (N,)."""
    with np.load(HERE.parent / "qkformer_digits" / "test.npz", allow_pickle=False) as file:
        x, y = file["x"], file["y"]
    factor = 4 if name == "meta_spikeformer" else 1
    return x.repeat(factor, 2).repeat(factor, 3), y


def _logits(program: Any, name: str, x: np.ndarray) -> np.ndarray:
    """On the emulator; of the ViT, whose circuit has 240,000 neurons, by the quantized graph."""
    if name != "vit":
        return program.run(x).logits
    graph = program.quantized
    return evaluate(graph, encode_input(graph.input, x), 4, [graph.output.name])[graph.output.name]


def main() -> None:
    """Measure and write."""
    import neurocompile

    rows, configs, seconds = [], [], []
    for name, title in TITLES.items():
        facts = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
        x, y = held_out(name)
        program = neurocompile.compile(HERE / f"{name}.onnx", T=4, **OPTIONS.get(name, {}))
        correct = int((_logits(program, name, x).argmax(1) == y).sum())
        total = len(y)
        rows.append(
            f"| {title} | `{name}.onnx` | {facts['parameters']:,} | {facts['correct'] / total:.2%} ({facts['correct']}) | "
            f"{correct / total:.2%} ({correct}) | {program.mapping.cores_used} |"
        )
        configs.append(f"| {title} | `{facts['config']}` | {facts['train']:.2%} |")
        seconds.append(facts["seconds"])
    text = CARD.format(
        rows="\n".join(rows),
        configs="\n".join(configs),
        total=total,
        seconds=f"{min(seconds)} to {max(seconds)}",
    )
    (HERE / "card.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
