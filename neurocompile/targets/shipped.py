"""How a target differs from the one that this version ships under the same name."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from neurocompile.targets.loader import list_targets, load_target
from neurocompile.targets.schema import Target

__all__ = ["unlike_shipped"]


def unlike_shipped(target: Target) -> tuple[str, ...] | None:
    """Fields, as ``core.neurons.limit``, whose values are others than in the shipped target of that
    name; None if none is shipped under it.
    """
    if target.name not in list_targets():
        return None
    own = dict(_leaves(msgspec.to_builtins(target)))
    shipped = dict(_leaves(msgspec.to_builtins(load_target(target.name))))
    return tuple(sorted(k for k in own.keys() | shipped.keys() if own.get(k) != shipped.get(k)))


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    parts: Iterator[tuple[object, object]] | None = None
    if isinstance(value, dict):
        parts = iter(value.items())
    elif isinstance(value, list):
        parts = iter(enumerate(value))
    if parts is None:
        yield name, value
    else:
        for key, part in parts:
            yield from _leaves(part, f"{name}.{key}" if name else str(key))
