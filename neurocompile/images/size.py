"""What a core's image takes of the core, counted from its tables alone."""

from __future__ import annotations

import numpy as np

from neurocompile.distinct import distinct
from neurocompile.images.image import DENSE, GROUP_FIELDS, PORT_FIELDS, SPARSE, CoreImage, columns
from neurocompile.mapping.cost import Rows, connection_cost, convolution_row
from neurocompile.mapping.neuron_groups import shares_groups
from neurocompile.mapping.resources import Usage
from neurocompile.targets.schema import RowCost, Target

__all__ = ["image_usage", "kernel_outputs"]

_G, _P = columns(GROUP_FIELDS), columns(PORT_FIELDS)
_SHARED = (
    "kind",
    "vth",
    "dv",
    "du",
    "bias_exp",
    "reset_interval",
    "reset_phase",
    "by_neuron",
    "by_position",
    "extra",
)
"""Columns in which the neurons of a group are alike."""


def image_usage(image: CoreImage, target: Target) -> Usage:
    """Resources of an image on ``target``: what the mapper charged, if both are right."""
    groups, ends = image.groups, image.outputs.map_ends
    fans = np.diff(ends, prepend=0)
    listed = fans[fans >= connection_cost(target).least_listed]
    return Usage(
        axon_in=len(image.axon_next),
        neuron_groups=_groups(groups, target),
        neurons=int(groups[:, _G["count"]].sum() + groups[:, _G["extra"]].sum()),
        synaptic_memory_words=sum(_words(image, port, target) for port in image.ports),
        axon_map=0 if target.core.axon_map is None else len(ends),
        axon_memory=int(listed.sum()),
    )


def _groups(groups: np.ndarray, target: Target) -> int:
    """Neuron groups: populations, or where these share groups, runs of rows of equal parameters."""
    if not shares_groups(target):
        return len(distinct(groups[:, _G["population"]]))
    form = groups[:, [_G[name] for name in _SHARED]]
    form[:, _SHARED.index("bias_exp")] *= groups[:, _G["has_bias"]]
    return 1 + int((form[1:] != form[:-1]).any(axis=1).sum()) if len(form) else 0


def _words(image: CoreImage, port: np.ndarray, target: Target) -> int:
    """Words of synaptic memory of one port."""
    cost = connection_cost(target)
    kind, axons, bits = (int(port[_P[name]]) for name in ("kind", "axons", "weight_bits"))
    group = image.groups[port[_P["group"]]]
    if kind == DENSE:
        return cost.dense(axons, int(group[_G["count"]]), bits)[1]
    if kind == SPARSE:
        first = int(port[_P["rows"]])
        ends = image.row_ends[first : first + axons]
        fans, sharing = np.unique(np.diff(ends, prepend=0), return_counts=True)
        return cost.sparse(dict(zip(fans.tolist(), sharing.tolist(), strict=True)), bits)[1]
    assert isinstance(cost, Rows) and isinstance(target.cost, RowCost)
    words = sum(convolution_row(int(n), bits, target.cost) for n in kernel_outputs(image, port))
    inputs = int(port[_P["group_inputs"]])
    return inputs * int(port[_P["height"]] * port[_P["width"]]) * words


def kernel_outputs(image: CoreImage, port: np.ndarray) -> np.ndarray:
    """Output channels of the tile in each channel group that a KERNEL port touches, int64 (groups):
    all of a group's but where the tile cuts it.
    """
    first, last = (int(v) for v in image.boxes[port[_P["group"]], :, -1])
    size = int(port[_P["group_outputs"]])
    group = int(port[_P["first_group"]]) + np.arange(int(port[_P["groups"]]))
    return np.minimum(last, (group + 1) * size) - np.maximum(first, group * size)
