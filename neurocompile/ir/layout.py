"""How the logical axes of a tensor lie in an array: reshapes and transpositions without moving
data.

A :class:`Layout` has one tuple of atoms a logical axis; an atom is a run of ``size`` indices,
``stride`` apart, outermost first. Merging axes concatenates atoms and splitting cuts them, so every
reshape and permutation of attention heads, tokens and channels stays exact and free (nested shapes
and strides, as in CuTe's layout algebra). ``axis`` names what an atom runs over: the importer
follows time ("T") and batch ("B") through the user's reshapes; features are "".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

__all__ = ["ANOTHER", "OPEN", "Atom", "Layout", "LayoutError", "shown", "strided_index"]

OPEN = 8191
"""Stands for the batch where its length is open: a prime that divides no layer's size."""
ANOTHER = 8209
"""Another such prime: what a file computes of both in different ways depends on the batch."""


def shown(sizes: Iterable[int], computed: bool = False) -> str:
    """``sizes`` for a user, who knows an open length as ``batch``.

    Args:
        computed: numbers were made of an open length in other ways than by multiplying it; large
            ones are shown as ``?``.
    """
    parts = []
    for n in sizes:
        times, rest = divmod(n, OPEN)
        if not rest and times > 0:
            parts.append("batch" if times == 1 else f"{times} * batch")
        else:
            parts.append("?" if computed and n > OPEN // 16 else str(n))
    return f"[{', '.join(parts)}]"


def strided_index(sizes: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """``offset + sum_k i_k * strides[k]`` for every index i of ``sizes``, row-major, int64 (product
    of sizes,).
    """
    index = np.array([offset], np.int64)
    for size, stride in zip(sizes, strides):
        index = (index[:, None] + np.arange(size, dtype=np.int64) * stride).reshape(-1)
    return index


class LayoutError(ValueError):
    """A reshape would cut an atom at a place that is no multiple of its inner size, or mix up time
    and features.
    """


@dataclass(frozen=True)
class Atom:
    """``size`` indices, ``stride`` elements apart, over ``axis``."""

    size: int
    stride: int
    axis: str = ""


@dataclass(frozen=True)
class Layout:
    """Logical axes as tuples of atoms. An axis of features of size 1 has none. An axis of time or
    batch of size 1 has an atom all the same, a *label*: it indexes nothing, and tells what the axis
    is.
    """

    dims: tuple[tuple[Atom, ...], ...]

    @classmethod
    def contiguous(cls, shape: tuple[int, ...]) -> Layout:
        """Row-major."""
        strides = [prod(shape[i + 1 :]) for i in range(len(shape))]
        return cls(tuple((Atom(n, s),) if n > 1 else () for n, s in zip(shape, strides)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the logical axes."""
        return tuple(prod(a.size for a in dim) for dim in self.dims)

    @property
    def is_contiguous(self) -> bool:
        """True if flattening the logical array walks the memory in order."""
        return self.simplified() == Layout.contiguous(self.shape)

    def simplified(self) -> Layout:
        """Neighbouring atoms of one axis joined where they run through memory without a gap."""
        dims = []
        for dim in self.dims:
            joined: list[Atom] = []
            for atom in dim:
                last = joined[-1] if joined else None
                if last and last.axis == atom.axis and last.stride == atom.stride * atom.size:
                    joined[-1] = Atom(last.size * atom.size, atom.stride, atom.axis)
                else:
                    joined.append(atom)
            dims.append(tuple(joined))
        return Layout(tuple(dims))

    def transpose(self, permutation: tuple[int, ...]) -> Layout:
        """``numpy.transpose``; LayoutError for what is no permutation of the axes."""
        if sorted(permutation) != list(range(len(self.dims))):
            raise LayoutError(
                f"{list(permutation)} is no permutation of the axes of {shown(self.shape)}"
            )
        return Layout(tuple(self.dims[i] for i in permutation))

    def reshape(self, shape: tuple[int, ...]) -> Layout:
        """``numpy.reshape`` (row-major); LayoutError where the axes do not nest."""
        if prod(shape) != prod(self.shape) or min(shape, default=1) < 1:
            raise LayoutError(f"cannot reshape {shown(self.shape)} to {shown(shape)}")
        atoms = [atom for dim in self.dims for atom in dim if atom.size > 1]
        dims: list[tuple[Atom, ...]] = []
        for size in shape:
            taken: list[Atom] = []
            while (missing := size // prod(a.size for a in taken)) > 1:
                atom = atoms.pop(0)
                if missing % atom.size == 0:
                    taken.append(atom)
                elif atom.size % missing == 0 and not atom.axis:
                    inner = atom.size // missing
                    taken.append(Atom(missing, atom.stride * inner, atom.axis))
                    atoms.insert(0, Atom(inner, atom.stride, atom.axis))
                else:
                    why = (
                        " of time: what mixes several steps (attention over chunks of steps) needs spikes that are "
                        "still to come; each step is computed as it comes, or all are averaged"
                        if atom.axis == "T"
                        else ""
                    )
                    raise LayoutError(
                        f"reshaping {shown(self.shape)} to {shown(shape)} cuts an axis of {shown([atom.size])[1:-1]}{why}"
                    )
            dims.append(tuple(taken))
        labels = any(atom.size == 1 for dim in self.dims for atom in dim)
        return Layout(_carry_labels(self.dims, dims) if labels else tuple(dims))

    def rearranged(
        self, shape: tuple[int, ...], sizes: tuple[int, ...], strides: tuple[int, ...]
    ) -> Layout:
        """The layout of ``shape`` whose row-major index has the digits ``sizes``, each a stride in
        this layout's own row-major index (:class:`neurocompile.ir.spiking.Rearrange`)."""
        cuts = {stride for stride in strides} | {n * stride for n, stride in zip(sizes, strides)}
        position, placed = (
            prod(self.shape),
            [],
        )  # atoms with the row-major stride that they run over
        for atom in (atom for dim in self.dims for atom in dim):
            position //= atom.size
            inside = sorted(c for c in cuts if position < c < position * atom.size)
            bounds = [position, *inside, position * atom.size]
            if any(high % low for low, high in zip(bounds, bounds[1:])):
                raise LayoutError(
                    f"rearranging {shown(self.shape)} to {shown(shape)} cuts an axis of {shown([atom.size])[1:-1]}"
                )
            for low, high in reversed(list(zip(bounds, bounds[1:]))):
                placed.append((low, Atom(high // low, atom.stride * (low // position), atom.axis)))
        digits = [
            atom
            for n, stride in zip(sizes, strides)
            for low, atom in placed
            if stride <= low < n * stride
        ]
        return Layout((tuple(digits),)).reshape(shape)

    def memory(self, index: int) -> int:
        """Memory index of the logical element ``index``, counted row-major."""
        found = 0
        for atom in reversed([atom for dim in self.dims for atom in dim]):
            index, digit = divmod(index, atom.size)
            found += digit * atom.stride
        return found

    def indices(self) -> np.ndarray:
        """Memory index of every logical element, int64 of :attr:`shape` (for small arrays and
        tests).
        """
        total = np.zeros((), np.int64)
        for dim in self.dims:
            total = total[..., None] + strided_index(
                tuple(a.size for a in dim), tuple(a.stride for a in dim)
            )
        return total

    def apply(self, array: np.ndarray) -> np.ndarray:
        """The logical array: reads ``array`` (flattened on its last axes; leading axes kept)
        through this layout.
        """
        return array[..., self.indices()]


Dims = Sequence[tuple[Atom, ...]]


def _carry_labels(old: Dims, new: Dims) -> tuple[tuple[Atom, ...], ...]:
    """``new``, the axes that a reshape makes of ``old``, with the labels of ``old``.

    Between two indexed axes there are axes of size 1 before the reshape, and after it. Where fewer
    remain, the leading ones were merged with the axis of time or batch in front (``flatten(0, 1)``
    of time, batch and one channel); where more do, they were added behind. A label without an axis
    of its own joins the axis of time or batch beside it, or the first axis; between features it is
    given up.
    """
    placed, gaps = [list(dim) for dim in new], _gaps(new)
    for place, found in _ones(old).items():
        slots, left, right = gaps.get(place, ([], None, None))
        spare = max(len(found) - len(slots), 0)
        in_front = left is not None and bool(new[left][-1].axis)
        if spare and slots and not in_front:
            found, spare = [_joined(found[: spare + 1]), *found[spare + 1 :]], 0
        for slot, labels in zip(slots, found[spare:]):
            placed[slot] += labels
        labels = _joined(found[:spare])
        if in_front and left is not None:
            placed[left] += labels
        elif right is not None and (left is None or new[right][0].axis):
            placed[right][:0] = labels
        elif left is None:
            _insert(placed, place, labels)
    return tuple(tuple(dim) for dim in placed)


def _joined(parts: Dims) -> tuple[Atom, ...]:
    return tuple(atom for part in parts for atom in part)


def _ones(dims: Dims) -> dict[int, list[tuple[Atom, ...]]]:
    """Labels of the axes of size 1, and of labels within larger axes, by the number of elements
    indexed in front of them.
    """
    found: dict[int, list[tuple[Atom, ...]]] = {}
    place = 1
    for dim in dims:
        if all(atom.size == 1 for atom in dim):
            found.setdefault(place, []).append(dim)
            continue
        for atom in dim:
            if atom.size == 1:
                found.setdefault(place, []).append((atom,))
            place *= atom.size
    return found


def _gaps(dims: Dims) -> dict[int, tuple[list[int], int | None, int | None]]:
    """Axes of size 1, and the indexed axes left and right of them, by the number of elements
    indexed in front.
    """
    found: dict[int, tuple[list[int], int | None, int | None]] = {1: ([], None, None)}
    place = 1
    for k, dim in enumerate(dims):
        if not dim:
            found[place][0].append(k)
            continue
        slots, left, _ = found[place]
        found[place] = slots, left, k
        place *= prod(atom.size for atom in dim)
        found[place] = [], k, None
    return found


def _insert(placed: list[list[Atom]], place: int, labels: tuple[Atom, ...]) -> None:
    """Put ``labels`` into the axis that ``place`` elements in front lie in the middle of, beside an
    atom of time or batch.
    """
    seen = 1
    for dim in placed:
        for k, atom in enumerate(dim):
            if seen == place and k and (dim[k - 1].axis or atom.axis):
                dim[k:k] = labels
                return
            seen *= atom.size
