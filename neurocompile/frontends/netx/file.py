"""A .net file as plain data: blocks in order, fields in numbers. The file is a stranger's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.hdf5 import Hdf5Reader

__all__ = ["READ", "NetxBlock", "NetxFile", "read_netx"]

_SHAPE = ("shape",)
_WINDOWS = ("stride", "padding", "dilation", "groups")
READ: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "average": (_SHAPE, ()),
    "concat": (("layers",), _SHAPE),
    "conv": ((*_SHAPE, "weight", *_WINDOWS), ("bias", "delay")),
    "dense": ((*_SHAPE, "weight"), ("bias", "delay")),
    "dense_rec": ((*_SHAPE, "weight", "weight_rec"), ("bias", "delay")),
    "flatten": ((), _SHAPE),
    "input": (_SHAPE, ("weight", "bias")),
}
"""Kinds of blocks: the fields that each has, and those that it may have."""
_UNREAD = {
    "add": "neither lava-dl's exporter nor its netx defines it; concat says the same in weights",
    "convT": "netx has no such block, and no synapse of the chip is one",
    "dense_comp": "complex weights are for resonators, which the chip's LIF is not",
    "pool": "netx has no such block; a conv of one group a channel says the same",
    "skip": "neither lava-dl's exporter nor its netx defines it; concat says the same in weights",
    "unpool": "netx has no such block",
}
_NEURON = ("iDecay", "vDecay", "vThMant")
_CUBA = ("CUBA", "LOIHI")
_OTHERS = {
    "SDNN": "sigma-delta neurons send graded changes from a state of their own",
    "ALIF": "adaptive thresholds are a state that no LIF of the chip has",
}
_RESONATOR = "a resonator's complex state is none of a LIF"
_MOST_BLOCKS, _MOST_BYTES = 2_000, 1 << 30


@dataclass(frozen=True)
class NetxBlock:
    """One block; ``number`` is its name in the file."""

    number: int
    kind: str
    fields: dict[str, np.ndarray]
    """int64 or float64."""
    neuron: dict[str, np.ndarray] | None
    """iDecay, vDecay and vThMant of a CUBA neuron; None where the file says nothing of one."""

    @property
    def called(self) -> str:
        """In messages."""
        return f"block {self.number} ({self.kind})"


@dataclass(frozen=True)
class NetxFile:
    """Blocks from input to output, and the steps of a sample where the file has them."""

    blocks: tuple[NetxBlock, ...]
    steps: int | None


def read_netx(path: Path) -> NetxFile:
    """Read a file.

    Raises:
        NeurocompileError: NC1001 (not readable), NC1002 (no netx file), NC1003 (a kind of block or
            of neuron that netx or the chip has not), NC4001 (no h5py).
    """
    reader = Hdf5Reader(path, "a network file of lava-dl (netx, HDF5)", "lava-dl", _MOST_BYTES)
    with reader.opened() as file:
        group = reader.held(file, "layer")
        count = len(group)
        if not 1 <= count <= _MOST_BLOCKS:
            raise reader.wrong(f"it has {count:,} blocks; 1 to {_MOST_BLOCKS:,} are read")
        blocks = tuple(_block(reader, reader.held(group, str(i)), i) for i in range(count))
        return NetxFile(blocks, _steps(reader, file))


def _steps(reader: Hdf5Reader, file: Any) -> int | None:
    if "simulation" not in file:
        return None
    group = reader.held(file, "simulation")
    if "tSample" not in group:
        return None
    found = reader.numbers(reader.held(group, "tSample"), "'tSample'").reshape(-1)
    return int(found[0]) if found.size == 1 and 1 <= found[0] <= 1 << 16 else None


def _block(reader: Hdf5Reader, group: Any, number: int) -> NetxBlock:
    kind = reader.word(reader.held(group, "type"))
    called = f"block {number} ({kind[:20]!r})"
    if kind not in READ:
        why = f": {_UNREAD[kind]}" if kind in _UNREAD else ""
        raise NeurocompileError(
            "NC1003", f"{called} of '{reader.path}' is not read{why}; {', '.join(READ)} are"
        )
    needed, more = READ[kind]
    fields = {}
    for name in (*needed, *(n for n in more if n in group)):
        held, what = reader.held(group, name), f"'{name}' of {called}"
        if name.startswith("weight") and not hasattr(held, "dtype"):
            raise NeurocompileError("NC1003", f"{what} of '{reader.path}' is complex; {_RESONATOR}")
        fields[name] = reader.numbers(held, what)
    neuron = None
    if "neuron" in group:
        neuron = _neuron(reader, reader.held(group, "neuron"), called)
    return NetxBlock(number, kind, fields, neuron)


def _neuron(reader: Hdf5Reader, group: Any, called: str) -> dict[str, np.ndarray]:
    kind = reader.word(reader.held(group, "type"))
    if kind not in _CUBA:
        why = _OTHERS.get(kind, _RESONATOR if "RF" in kind else "netx has no such neuron")
        raise NeurocompileError(
            "NC1003",
            f"{called} of '{reader.path}' has a neuron of type {kind[:20]!r}: {why}; "
            f"{' and '.join(_CUBA)} are read",
        )
    found = {n: reader.numbers(reader.held(group, n), f"'{n}' of {called}") for n in _NEURON}
    for name, fine in (("refDelay", (0, 1)), ("weight_exp", (0,)), ("wgtExp", (0,))):
        if name not in group:
            continue
        values = reader.numbers(reader.held(group, name), f"'{name}' of {called}")
        if not np.isin(values, fine).all():
            raise NeurocompileError(
                "NC1003",
                f"{called} of '{reader.path}' has {name} = {values.reshape(-1)[0]:g}, which netx does not read: "
                f"its network is not the one that was trained; export it with {fine[-1]}",
            )
    return found
