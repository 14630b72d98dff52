"""Compiled loops of :mod:`neurocompile.mapping.atoms`: classes of indices, consumers of their
products, and what boxes hold of these.

Groups of axes stand one after another in every array: ``at`` says where each begins. The functions
that count are called twice, first with nothing to write to, for the length of what they write.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numpy as np

from neurocompile.mapping.jit import helper, kernel

__all__ = ["boxes", "classify", "equal_rows", "spread", "words_of"]


@helper
def equal_rows(signature, table, first, class_of):
    """Numbers of the rows that are equal, see :func:`neurocompile.mapping.alike.alike`; ``table``:
    int64, -1, a power of two of places, more than rows.
    """
    mask, count = np.uint64(len(table) - 1), 0
    for row in range(len(signature)):
        low, high = signature[row, 0], signature[row, 1]
        place = np.int64(low & mask)
        while True:
            other = table[place]
            if other < 0:
                table[place] = first[row] = row
                class_of[row] = count
                count += 1
                break
            if signature[other, 0] == low and signature[other, 1] == high:
                first[row] = other
                class_of[row] = class_of[other]
                break
            place = (place + 1) & (len(table) - 1)
    return count


@kernel
def classify(
    at, first_set, ends, index, words, signature, table, first, class_of, counts, held, member
):
    """Classes of the indices of each group: indices that the same sets hold. An index is known by the
    random words of the sets that hold it, combined by exclusive or; a set holds it once.

    Args:
        at: int64 (groups + 1): where the indices of a group begin.
        first_set: int64 (groups + 1): where its sets begin.
        ends: int64 (sets + 1): where the indices of a set begin in ``index``, int64.
        words: uint64 (sets, 2); signature: uint64 (indices, 2), 0.
        table: int64, a power of two of places, more than a group's indices.
        first, class_of: int64 (indices), written: first equal index of the group, class.
        counts: int64 (groups), written: classes.
        held, member: int64 (sets + 1) and as long as ``index``, written: where the classes of each
            set begin in ``member``, and these, sorted.
    """
    filled = 0
    for g in range(len(counts)):
        a, b = at[g], at[g + 1]
        for s in range(first_set[g], first_set[g + 1]):
            for i in range(ends[s], ends[s + 1]):
                signature[a + index[i], 0] ^= words[s, 0]
                signature[a + index[i], 1] ^= words[s, 1]
        for i in range(len(table)):
            table[i] = -1
        counts[g] = equal_rows(signature[a:b], table, first[a:b], class_of[a:b])
        for s in range(first_set[g], first_set[g + 1]):
            held[s] = filled
            for i in range(counts[g]):
                table[i] = 0
            for i in range(ends[s], ends[s + 1]):
                table[class_of[a + index[i]]] = 1
            for i in range(counts[g]):
                if table[i]:
                    member[filled] = i
                    filled += 1
    held[len(held) - 1] = filled


@helper
def _advance(digit, length):
    """The next combination of digits, the last digit first."""
    for g in range(len(digit) - 1, -1, -1):
        digit[g] += 1
        if digit[g] < length[g]:
            break
        digit[g] = 0


@kernel
def spread(sets, consumer, counts, held, member, scratch, last, offsets, consumers):
    """The consumers of each atom: counted at its place + 1 of ``offsets`` where ``consumers`` is
    empty, else written, from ``offsets`` on, which then are where each atom's end.

    Args:
        sets: int64 (reaches, groups): the set of each group that a consumer reads; -1 for all.
        consumer: int32 (reaches), ascending; a consumer may come several times.
        counts, held, member: see :func:`classify`.
        scratch: int64 (2, groups); last: int32 (atoms), -1.
        offsets: int64 (atoms + 1); consumers: int32, or empty.
    """
    groups, digit, length = len(counts), scratch[0], scratch[1]
    for r in range(len(sets)):
        total = 1
        for g in range(groups):
            s = sets[r, g]
            digit[g], length[g] = 0, counts[g] if s < 0 else held[s + 1] - held[s]
            total *= length[g]
        for _ in range(total):
            atom = 0
            for g in range(groups):
                s = sets[r, g]
                atom = atom * counts[g] + (digit[g] if s < 0 else member[held[s] + digit[g]])
            if last[atom] != consumer[r]:
                last[atom] = consumer[r]
                if len(consumers):
                    consumers[offsets[atom]] = consumer[r]
                    offsets[atom] += 1
                else:
                    offsets[atom + 1] += 1
            _advance(digit, length)


@kernel
def words_of(offsets, consumers, words, found):
    """The words of each atom's consumers, combined by exclusive or: uint64 (atoms, 2), 0 before."""
    for atom in range(len(found)):
        for i in range(offsets[atom], offsets[atom + 1]):
            found[atom, 0] ^= words[consumers[i], 0]
            found[atom, 1] ^= words[consumers[i], 1]


@helper
def _tally(start, stop, shape, axes, class_of, tally):
    """Count the indices of each class of a group of ``axes`` that a box holds, into ``tally``."""
    last = axes[len(axes) - 1]
    run, lines = stop[last] - start[last], 1
    for k in range(len(axes) - 1):
        lines *= stop[axes[k]] - start[axes[k]]
    for line in range(lines):
        rest, flat, step = line, start[last], shape[last]
        for k in range(len(axes) - 2, -1, -1):
            extent = stop[axes[k]] - start[axes[k]]
            flat += (start[axes[k]] + rest % extent) * step
            rest //= extent
            step *= shape[axes[k]]
        for i in range(flat, flat + run):
            tally[class_of[i]] += 1


@kernel
def boxes(
    start, stop, shape, axes, first_axis, at, class_of, counts,
    first, offsets, keep, scratch, tally, held, number, place, owner, atom, size,
):  # fmt: skip
    """What each box holds: a row for each box and each kind of atom (those with the same consumers),
    in no order; how many rows there are at most where ``owner`` is empty, else how many are written.

    Args:
        start, stop: int64 (boxes, axes); shape: int64 (axes).
        axes, first_axis: int64: the axes of each group, one group after another, and where it begins.
        at, class_of, counts: see :func:`classify`.
        first: int64 (atoms): the first atom with the same consumers; offsets: int64 (atoms + 1), where
            its consumers begin.
        keep: whether atoms without consumers count.
        scratch: int64 (3, groups); tally: int64 (classes of all groups), 0; held, number: the same,
            scratch.
        place: int64 (atoms), -1.
        owner, atom, size: int64 (rows), written: box, ``first``, neurons.
    """
    groups, rows = len(counts), 0
    digit, begin, length = scratch[0], scratch[1], scratch[2]
    for box in range(len(start)):
        filled, total = 0, 1
        for g in range(groups):
            _tally(
                start[box], stop[box], shape, axes[first_axis[g] : first_axis[g + 1]],
                class_of[at[g] : at[g + 1]], tally,
            )  # fmt: skip
            begin[g], digit[g] = filled, 0
            for c in range(counts[g]):
                if tally[c]:
                    held[filled], number[filled] = c, tally[c]
                    filled += 1
                    tally[c] = 0
            length[g] = filled - begin[g]
            total *= length[g]
        if len(owner) == 0:
            rows += total
            continue
        mine = rows
        for _ in range(total):
            found, neurons = 0, 1
            for g in range(groups):
                found = found * counts[g] + held[begin[g] + digit[g]]
                neurons *= number[begin[g] + digit[g]]
            if keep or offsets[found + 1] > offsets[found]:
                row = place[first[found]]
                if row < 0:
                    row = place[first[found]] = rows
                    owner[row], atom[row], size[row] = box, first[found], 0
                    rows += 1
                size[row] += neurons
            _advance(digit, length)
        for row in range(mine, rows):
            place[atom[row]] = -1
    return rows
