"""Fine-tune a shipped model with its weights rounded to few bits, on a GPU: ``neurocompile finetune``
with augmented images, fused neurons and a schedule in a given time.

    python -m neurocompile.models.zoo.cifar10.finetune spikformer-4-256 --bits 4 --minutes 3 \\
        --train train.npz --test test.npz --out out

The unrounded model is the teacher. Writes ``OUT/NAME-Bbit.onnx``, weights as int8 on their grids,
which ``neurocompile build --weight-bits B`` keeps, and ``OUT/NAME-Bbit.json``, what they get right:
counted in float32 on the device.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from .augment import cropped, padded
from .evaluate import accuracy
from .fused_lif import fuse
from .teacher import distillation_loss
from .train import read
from .weights import load

HERE = Path(__file__).parent
CALIBRATION_IMAGES = 512
_BATCH = 256
_RATE = 4e-4
"""Highest learning rate of Adam."""
_WARM_UP_STEPS = 100
_DISTILLATION = 0.8
_TEMPERATURE = 2.0
_LOOK = 25
"""Steps between two looks at the clock."""


def drawn(images: torch.Tensor) -> np.ndarray:
    """float32 images, 0 to 1, for statistics."""
    draw = np.random.default_rng(0).permutation(len(images))[:CALIBRATION_IMAGES]
    chosen = images[torch.from_numpy(draw).to(images.device)].cpu().numpy()
    return (chosen / 255).astype(np.float32)


def prepared(weights: Path, bits: int, x: np.ndarray, device: str) -> Any:
    """A ``TrainableModel`` of a weight file with the statistics of ``x``."""
    from neurocompile.qat.model import prepare

    measured_on = "cuda" if device.startswith("cuda") else "cpu"
    return prepare(
        load(weights), torch.from_numpy(x[:2]), bits=bits, calibration=x, device=measured_on
    )


def train(model: Any, images: torch.Tensor, labels: torch.Tensor, seconds: float, seed: int) -> int:
    """Half a cosine that ends with the time, after at least one step; steps made."""
    device = images.device
    teacher = copy.deepcopy(model)
    teacher.rounding = False
    teacher.eval().requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), _RATE, fused=device.type == "cuda")
    generator = torch.Generator(device).manual_seed(seed)
    around, batch = padded(images), min(_BATCH, len(images))
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    model.train()
    start, step, share = time.monotonic(), 0, 0.0
    while share < 1.0:
        order = torch.randperm(len(images), generator=generator, device=device)
        for index in order[: len(images) // batch * batch].split(batch):
            if step and step % _LOOK == 0 and device.type == "cuda":
                torch.cuda.synchronize()
            share = (time.monotonic() - start) / seconds
            if step and share >= 1.0:
                break
            rate = _RATE * min(1.0, step / _WARM_UP_STEPS + 0.01)
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
            x = cropped(around, index, generator)
            with torch.no_grad():
                taught = teacher(x)
            logits = model(x)
            loss = torch.lerp(
                F.cross_entropy(logits, labels[index]),
                distillation_loss(logits, taught, _TEMPERATURE),
                _DISTILLATION,
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % 100 == 0:
                print(f"step {step} loss {float(loss.detach()):.4f} at {share:.1%}", flush=True)
    model.eval()
    return step


def main(arguments: Sequence[str] | None = None) -> None:
    """Fine-tune, count and write."""
    parser = argparse.ArgumentParser(
        prog="finetune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="a file NAME.safetensors beside this one, or a path")
    parser.add_argument("--train", type=Path, required=True, help="of examples/cifar10_to_npz.py")
    parser.add_argument("--test", type=Path, required=True, help="the same of the test images")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    path = Path(options.name)
    path = path if path.suffix else HERE / f"{options.name}.safetensors"
    for needed in (path, options.train, options.test):
        if not needed.is_file():
            parser.error(f"cannot read '{needed}': no such file")
    from neurocompile.qat.outcome import write

    options.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(options.device)
    images, labels = read(options.train, device)
    test = read(options.test, device)
    x = drawn(images)
    plain = prepared(path, options.bits, x, options.device)
    model = fuse(copy.deepcopy(plain)).to(device)
    counts = {}
    for what, rounding in (("float", False), ("rounded", True)):
        model.rounding = rounding
        counts[what] = accuracy(model.eval(), *test)
    print(json.dumps(counts), flush=True)
    steps = train(model, images, labels, options.minutes * 60, options.seed)
    facts = {
        "model": path.stem,
        "bits": options.bits,
        **counts,
        "finetuned": accuracy(model, *test),
        "total": len(test[0]),
        "minutes": options.minutes,
        "steps": steps,
        "batch": min(_BATCH, len(images)),
        "seed": options.seed,
    }
    stem = f"{path.stem}-{options.bits}bit"
    plain.load_state_dict(model.state_dict())
    facts["differs"] = write(plain, options.out / f"{stem}.onnx", x)
    text = json.dumps(facts, indent=1) + "\n"
    (options.out / f"{stem}.json").write_text(text, encoding="utf-8")
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
