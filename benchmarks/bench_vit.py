"""The ViT of the digits zoo against binary digits B, and what one block takes of a chip.

    python benchmarks/bench_vit.py [--digits 4 6 8 10 12] [--blocks]

First table, at each B, 8-bit weights, all 360 held-out images: right predictions, those of the float
model, the error of the logits (rms over the float logits' rms), spikes of the last neurons that equal
the float model's, and the circuit. Integers are those of the quantized graph, which every backend
computes. Second (``--blocks``): ViTs of one block with random weights, mapped or refused by name.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from neurocompile.models.vit import ViT, ViTConfig
from neurocompile.models.zoo.digits.card import HERE, held_out

import neurocompile
from neurocompile.errors import NeurocompileError
from neurocompile.mapping import lower_bound_cores
from neurocompile.targets import load_target

BLOCKS = (  # patch (8 by 8 images: 2 tokens of 8, 5 of 4, 17 of 2), channels, digits, target
    (8, 8, 4, "loihi2"),
    (8, 16, 4, "loihi2"),
    (8, 16, 6, "loihi2"),
    (8, 16, 10, "kapoho_point"),
    (4, 16, 4, "loihi2"),
    (4, 24, 10, "kapoho_point"),
    (4, 64, 10, "kapoho_point"),
    (2, 24, 10, "kapoho_point"),
)


def against_float(digits: int) -> dict[str, Any]:
    """Of the trained model at ``digits``."""
    x, y = held_out("vit")
    path = HERE / "vit.onnx"
    canonical = neurocompile.open(path, digits=digits, target="kapoho_point").canonical()
    quantized = canonical.quantize()
    meant, found = canonical.logits(x), quantized.logits(x)
    layers = canonical.spikes(x), quantized.spikes(x)
    equal = [np.mean(layers[0][name] == layers[1][name]) for name in layers[1]]
    circuit = quantized.lower().graph
    return {
        "digits": digits,
        "float": int((meant.argmax(1) == y).sum()),
        "compiled": int((found.argmax(1) == y).sum()),
        "same": int((found.argmax(1) == meant.argmax(1)).sum()),
        "total": len(y),
        "error": float(np.sqrt(((found - meant) ** 2).mean() / (meant**2).mean())),
        "equal": float(np.mean(equal)),
        "populations": len(circuit.populations),
        "neurons": sum(p.size for p in circuit.populations),
        "steps": circuit.depth,
        "cores": lower_bound_cores(circuit, load_target("kapoho_point")),
    }


def block(patch: int, dim: int, digits: int, target: str) -> dict[str, Any]:
    """A ViT of one block on 8 by 8 images: cores that it is mapped to, or why it is refused."""
    torch.manual_seed(0)
    config = ViTConfig(1, 10, 8, patch, dim, 1, 2, 2, 4)
    x = torch.rand(32, 1, 8, 8).numpy()
    lowered = (
        neurocompile.open(ViT(config).eval(), x[:2], calibration=x, digits=digits, target=target)
        .canonical()
        .quantize()
        .lower()
    )
    found = {
        "tokens": config.tokens,
        "dim": dim,
        "digits": digits,
        "target": target,
        "neurons": sum(p.size for p in lowered.graph.populations),
        "populations": len(lowered.graph.populations),
        "cores": lower_bound_cores(lowered.graph, load_target(target)),
    }
    try:
        found["mapped"] = f"{lowered.map().mapping.cores_used} cores"
    except NeurocompileError as error:
        found["mapped"] = f"refused, {error.code}"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--digits", type=int, nargs="*", default=[4, 6, 8, 10, 12])
    parser.add_argument("--blocks", action="store_true", help="the second table too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| B | right of 360 (float) | float's predictions | error of logits | equal spikes", end=""
    )
    print(" | populations | neurons | depth, steps | least cores |")
    print("|---" * 9 + "|")
    for digits in asked.digits:
        r = against_float(digits)
        print(
            f"| {r['digits']} | {r['compiled']} ({r['float']}) | {r['same']} | {r['error']:.3f} | {r['equal']:.2%} | "
            f"{r['populations']:,} | {r['neurons']:,} | {r['steps']} | {r['cores']:,} |",
            flush=True,
        )
    if not asked.blocks:
        return
    print("\n| tokens | channels | B | populations | neurons | least cores | target | mapped |")
    print("|---" * 8 + "|")
    for one in BLOCKS:
        r = block(*one)
        print(
            f"| {r['tokens']} | {r['dim']} | {r['digits']} | {r['populations']:,} | {r['neurons']:,} | {r['cores']:,} | "
            f"{r['target']} | {r['mapped']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
