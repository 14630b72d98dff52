"""NIR files for the tests, as NIR's own package writes them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from neurocompile.frontends.nir.file import KINDS

STEPS = 12


def events(shape: tuple[int, ...], seed: int = 0, samples: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((samples, STEPS, *shape)) < 0.4).astype(np.float32)


def node(kind: str, **fields: object) -> tuple[str, dict[str, object]]:
    return kind, fields


def write(path: Path, nodes: dict, edges: list[tuple[str, str]]) -> Path:
    """A file as NIR's own package writes it; nodes are (kind, fields), or that package's."""
    with h5py.File(path, "w") as file:
        file["version"] = b"1.0"
        top = file.create_group("node")
        top["type"] = b"NIRGraph"
        top["edges"] = np.array([[a.encode(), b.encode()] for a, b in edges])
        for name, held in nodes.items():
            kind = held[0] if isinstance(held, tuple) else type(held).__name__
            group = top.create_group(f"nodes/{name}")
            group["type"] = kind.encode()
            known = KINDS[kind][0] + KINDS[kind][1]
            fields = held[1] if isinstance(held, tuple) else vars(held)
            for field in known:
                if fields.get(field) is not None and field != "input_type":
                    group[field] = np.asarray(fields[field])
    return path


def chain(path: Path, shape: tuple[int, ...], nodes: list, out: tuple[int, ...]) -> Path:
    names = ["input", *(str(i) for i in range(len(nodes))), "output"]
    whole = [node("Input", shape=shape), *nodes, node("Output", shape=out)]
    return write(path, dict(zip(names, whole, strict=True)), list(zip(names, names[1:])))


def affine(
    rng: np.random.Generator, out: int, into: int, gain: float = 1.0
) -> tuple[str, dict[str, object]]:
    return node(
        "Affine",
        weight=rng.normal(0.1, gain, (out, into)).astype(np.float32),
        bias=rng.normal(0, 0.05, out).astype(np.float32),
    )
