"""A circuit like the one a tiny QKFormer lowers to, built by hand."""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.ir.circuit import (
    LIF,
    CircuitGraph,
    Conv2d,
    Dense,
    GradedRelay,
    HostInput,
    Readout,
    Strided,
)
from neurocompile.ir.text import Ref, TensorRef


class Builder:
    """Collects populations and projections."""

    def __init__(self) -> None:
        self.populations, self.projections, self.tensors = [], [], {}

    def lif(self, name: str, shape: tuple[int, ...], depth: int) -> str:
        self.populations.append(
            LIF(name=name, shape=shape, layer=name.split(".")[0], depth=depth, vth=10)
        )
        return name

    def dense(self, src: str, dst: str, n_dst: int, n_src: int, bits: int = 8) -> None:
        self.tensors[f"{dst}.w"] = np.zeros((n_dst, n_src), dtype=np.int16)
        self.projections.append(
            Dense(
                name=f"{src}>{dst}",
                src=Ref(src),
                dst=Ref(dst),
                weight=TensorRef(f"{dst}.w"),
                weight_bits=bits,
            )
        )

    def conv(self, src: str, dst: str, shape: tuple[int, int, int, int], **fields: object) -> None:
        self.tensors[f"{dst}.w"] = np.zeros(shape, dtype=np.int16)
        self.projections.append(
            Conv2d(
                name=f"{src}>{dst}",
                src=Ref(src),
                dst=Ref(dst),
                weight=TensorRef(f"{dst}.w"),
                **fields,
            )
        )

    def strided(
        self,
        src: str,
        dst: str,
        sizes: tuple,
        src_strides: tuple,
        dst_strides: tuple,
        tag: str = "",
    ) -> None:
        self.projections.append(
            Strided(
                name=f"{src}>{dst}{tag}",
                src=Ref(src),
                dst=Ref(dst),
                sizes=sizes,
                src_strides=src_strides,
                dst_strides=dst_strides,
            )
        )

    def build(self, name: str, readouts: tuple[Readout, ...] = ()) -> CircuitGraph:
        return CircuitGraph(
            name=name,
            steps=4,
            populations=tuple(self.populations),
            projections=tuple(self.projections),
            readouts=readouts,
            tensors=self.tensors,
        )


def transformer(side: int = 8, dim: int = 32, blocks: int = 2, heads: int = 4) -> CircuitGraph:
    """Convolutions, then blocks of token-wise projections and attention by gates, then a readout."""
    b, n, e = Builder(), (side // 2) ** 2, dim // heads
    b.populations.append(
        HostInput(name="x", shape=(side, side, 1), layer="x", depth=0, low=0, high=255)
    )
    b.lif("stem", (side, side, dim // 2), 1)
    b.conv("x", "stem", (dim // 2, 3, 3, 1), padding=(1, 1))
    b.lif("patch", (side // 2, side // 2, dim), 2)
    b.conv("stem", "patch", (dim, 3, 3, dim // 2), padding=(1, 1), stride=(2, 2))
    last, depth = "patch", 2
    for i in range(blocks):
        for part in "qkv":
            b.lif(f"b{i}{part}", (n, dim), depth + 1)
            b.tensors[f"b{i}{part}.w"] = np.zeros((dim, 1, 1, dim), dtype=np.int16)
            b.populations[-1] = LIF(
                name=f"b{i}{part}", shape=(1, n, dim), layer=f"b{i}{part}", depth=depth + 1, vth=9
            )
            if last == "patch":
                b.lif(f"b{i}{part}.in", (1, n, dim), depth)
                b.strided(last, f"b{i}{part}.in", (n * dim,), (1,), (1,))
                b.conv(f"b{i}{part}.in", f"b{i}{part}", (dim, 1, 1, dim))
            else:
                b.conv(last, f"b{i}{part}", (dim, 1, 1, dim))
        # Gates k[n, h, c] and v[n, h, e], then q[n, h, c] and their sum over n: (n, h, c, e) from
        # (n, dim).
        b.lif(f"b{i}kv", (n, heads, e, e), depth + 2)
        steps = (heads * e * e, e * e, e, 1)
        b.strided(f"b{i}k", f"b{i}kv", (n, heads, e, e), (dim, e, 1, 0), steps)
        b.strided(f"b{i}v", f"b{i}kv", (n, heads, e, e), (dim, e, 0, 1), steps)
        b.populations.append(
            GradedRelay(name=f"b{i}sum", shape=(heads, e, e), layer=f"b{i}kv", depth=depth + 3)
        )
        b.strided(f"b{i}kv", f"b{i}sum", (n, heads * e * e), (heads * e * e, 1), (0, 1))
        b.lif(f"b{i}out", (1, n, dim), depth + 4)
        b.strided(f"b{i}sum", f"b{i}out", (n, heads, e, e), (0, e * e, e, 1), (dim, e, 0, 1))
        b.strided(f"b{i}q", f"b{i}out", (n * dim,), (1,), (1,))
        b.lif(f"b{i}mlp", (1, n, 2 * dim), depth + 5)
        b.conv(f"b{i}out", f"b{i}mlp", (2 * dim, 1, 1, dim))
        b.lif(f"b{i}res", (1, n, dim), depth + 6)
        b.conv(f"b{i}mlp", f"b{i}res", (dim, 1, 1, 2 * dim))
        b.strided(f"b{i}out", f"b{i}res", (n * dim,), (1,), (1,), tag=".skip")
        last, depth = f"b{i}res", depth + 6
    b.populations.append(GradedRelay(name="head", shape=(10,), layer="head", depth=depth + 1))
    b.dense(last, "head", 10, n * dim)
    return b.build("tiny", (Readout(name="logits", src=Ref("head"), scale=1.0),))


@pytest.fixture(name="transformer", scope="session")
def transformer_fixture():
    """The function that builds the circuit."""
    return transformer


@pytest.fixture(scope="session")
def builder_type():
    """The class, for strategies."""
    return Builder


@pytest.fixture
def builder():
    """A fresh circuit builder."""
    return Builder()
