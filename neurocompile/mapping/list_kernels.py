"""Output lists in the inner loops: entries of a vertex as consumers of its lists come and go."""

from __future__ import annotations

from neurocompile.mapping.jit import helper, kernel

__all__ = ["book_lists", "keeps", "relist"]


@kernel
def book_lists(offsets, pins, block, lists, takes, used):
    """Fill the ledgers of lists, all zero, from ``block``; ``takes`` and ``used`` get the entries."""
    _, _, owner, size, extra, columns, least, fan, count = lists
    for e in range(offsets.size - 1):
        for i in range(offsets[e], offsets[e + 1]):
            b = block[pins[i]]
            if b >= 0:
                fan[e] += count[e, b] == 0
                count[e, b] += 1
        if fan[e] + extra[e] >= least:
            entries = (fan[e] + extra[e]) * size[e]
            for c in columns:
                takes[owner[e], c] += entries
                used[block[owner[e]], c] += entries


@helper
def relist(v, a, b, block, lists, takes, used, touched, noted):
    """Book what v, moved from a to b, changes in lists of which it is a pin; how many blocks are noted
    in ``touched``: those that hold more entries now.
    """
    first, lists_of, owner, size, extra, columns, least, fan, count = lists
    if v + 1 >= first.size:
        return noted
    for i in range(first[v], first[v + 1]):
        e = lists_of[i]
        before = fan[e]
        count[e, a] -= 1
        if count[e, a] == 0:
            fan[e] -= 1
        if count[e, b] == 0:
            fan[e] += 1
        count[e, b] += 1
        if fan[e] == before:
            continue
        old, new = before + extra[e], fan[e] + extra[e]
        change = ((new if new >= least else 0) - (old if old >= least else 0)) * size[e]
        if change == 0:
            continue
        o = owner[e]
        for c in columns:
            takes[o, c] += change
            used[block[o], c] += change
        if change > 0:
            touched[noted] = block[o]
            noted += 1
    return noted


@helper
def keeps(touched, noted, used, limit, columns):
    """Whether the noted blocks keep the capacities that entries count in."""
    for i in range(noted):
        for c in columns:
            if used[touched[i], c] > limit[c]:
                return False
    return True
