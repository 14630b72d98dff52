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
        size = self.padded(size)
        for k, (at, length) in enumerate(self._free):
            if length >= size:
                self._free[k : k + 1] = [(at + size, length - size)] if length > size else []
                return at
        self.size += size
        return self.size - size

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
