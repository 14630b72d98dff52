"""Places in an array that are used again: first fit, whole cache lines."""

from __future__ import annotations

__all__ = ["Arena"]


class Arena:
    """Places in one arena, by first fit."""

    def __init__(self) -> None:
        self.size = 0
        self._free: list[tuple[int, int]] = []

    def take(self, size: int) -> int:
        """Offset of ``size`` elements and their padding."""
        wanted = self.padded(size)
        for k, (at, length) in enumerate(self._free):
            if length >= wanted:
                rest = [(at + wanted, length - wanted)] if length > wanted else []
                self._free[k : k + 1] = rest
                return at
        return self.fresh(size)

    def fresh(self, size: int) -> int:
        """The same where nothing has been: for what is there before a run."""
        self.size += self.padded(size)
        return self.size - self.padded(size)

    def give(self, at: int, size: int) -> None:
        """Take elements back."""
        spans = sorted([*self._free, (at, self.padded(size))])
        self._free = spans[:1]
        for at, length in spans[1:]:
            last = self._free[-1]
            if sum(last) == at:
                self._free[-1] = (last[0], last[1] + length)
            else:
                self._free.append((at, length))

    @staticmethod
    def padded(size: int) -> int:
        """Whole lines of 64 elements, and what a register may reach past the end."""
        return -(-size // 64) * 64 + 64
