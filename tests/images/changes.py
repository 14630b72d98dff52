"""Core images with one thing changed, on the first core or the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from neurocompile.images.build import CoreImages
from neurocompile.images.image import GROUP_FIELDS, PORT_FIELDS, CoreImage, columns

G, P = columns(GROUP_FIELDS), columns(PORT_FIELDS)
Change = Callable[[CoreImages], CoreImages]


def core(change: Callable[[CoreImage], CoreImage]) -> Change:
    return lambda images: replace(images, cores=(change(images.cores[0]), *images.cores[1:]))


def array(name: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Change:
    """Of the only core: changed in place, or another one."""

    def on(image: CoreImage) -> CoreImage:
        held = image.arrays()[name].copy()
        made = change(held)
        made = held if made is None else made
        if hasattr(image, name):
            return replace(image, **{name: made})
        return replace(image, outputs=replace(image.outputs, **{name: made}))

    return core(on)


def group(name: str, value: int) -> Change:
    return array("groups", lambda held: held.__setitem__((0, G[name]), value))


def port(kind: int, name: str, value: int) -> Change:
    """Of the first port of a kind."""

    def on(held: np.ndarray) -> None:
        held[np.flatnonzero(held[:, P["kind"]] == kind)[0], P[name]] = value

    return array("ports", on)


def names(**fields: Any) -> Change:
    return lambda images: replace(images, names=msgspec.structs.replace(images.names, **fields))


def population(**fields: Any) -> Change:
    def on(images: CoreImages) -> CoreImages:
        first, *rest = images.names.populations
        changed = (msgspec.structs.replace(first, **fields), *rest)
        return names(populations=changed)(images)

    return on


def host(**fields: Any) -> Change:
    return lambda images: replace(images, host=replace(images.host, **fields))
