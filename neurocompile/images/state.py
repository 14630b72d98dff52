"""What the kernels of the machine are given: tables, events, and what a run changes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Events", "Frame", "State", "Tables"]


class Tables(NamedTuple):
    """All cores' tables, one behind the other; indices are into these."""

    groups: np.ndarray
    boxes: np.ndarray
    """int64 (groups, 2, 3): the last three axes."""
    group_core: np.ndarray
    depths: np.ndarray
    bias: np.ndarray
    """int32 (neurons): with their exponent."""
    flat: np.ndarray
    """int64 (neurons): place in the population's array."""
    runs: np.ndarray
    """int64 (groups): runs of neurons whose places follow each other."""
    ports: np.ndarray
    axon_port: np.ndarray
    axon_next: np.ndarray
    row_start: np.ndarray
    """int64 (axons): of a sparse row, from its port's first synapse on."""
    row_end: np.ndarray
    positions: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    neuron_map: np.ndarray
    """int64 (senders): entry of the output map by neuron, -1 for none; neurons, then the host's."""
    position_map: np.ndarray
    channels: np.ndarray
    """int64 (senders)."""
    map_start: np.ndarray
    map_end: np.ndarray
    entry_core: np.ndarray
    entry_axon: np.ndarray
    entry_set: np.ndarray
    channel_sets: np.ndarray


class Frame(NamedTuple):
    """What streams of samples, one a lane, are."""

    total: int
    """Global steps."""
    rounds: int
    """Samples, or windows of all samples, of each lane."""
    warm: int
    """Rounds in front that are not counted, and not traced."""
    period: int
    steps: int
    cores: int
    counting: bool
    """Whether active updates are counted; then there is one lane."""
    lanes: int
    windows: int
    samples: int
    """Sample s is sample ``s // lanes`` of lane ``s % lanes``; the last of a lane may be none."""


class Events(NamedTuple):
    """What the host sends, in the order of steps."""

    ends: np.ndarray
    """int64 (2 * global steps): ends of those of each step that are not counted, and that are."""
    sender: np.ndarray
    """int64: neurons of the host come after those of the cores."""
    item_end: np.ndarray
    """int64: end of each sender's items."""
    lane: np.ndarray
    """int32 (items): lanes to which it sends."""
    value: np.ndarray
    """int32 (items): what."""


class State(NamedTuple):
    """What a run changes; all arrays are zero before it.

    Arrays of a group's neurons are (lanes, ``wide`` neurons): its neurons, and as many more as fill
    registers of 16.
    """

    ring: np.ndarray
    """int32: sums that wait, for each group (slots, lanes, wide), and a register more."""
    touched: np.ndarray
    """uint8, of the same places; empty unless counting."""
    ring_start: np.ndarray
    ring_slots: np.ndarray
    arrived: np.ndarray
    """uint8: whether anything waits, for each group (slots)."""
    arrived_start: np.ndarray
    quiet: np.ndarray
    """uint8 (groups): a step without messages changes nothing and sends nothing: 1 until the next
    reset, 2 for ever."""
    forgets: np.ndarray
    """uint8 (groups): quiet whatever it holds."""
    until: np.ndarray
    """int64 (groups): steps after its first for which a group runs, unless counting."""
    wide: np.ndarray
    """int64 (groups)."""
    start: np.ndarray
    """int64 (groups): of its neurons in ``u`` and ``v``, in lanes of one."""
    bias: np.ndarray
    """int32: with their exponent, for each group (wide)."""
    held: np.ndarray
    """int32: ``u``, then ``v``."""
    u: np.ndarray
    v: np.ndarray
    before: np.ndarray
    """int32 (2, lanes * wide of the largest group): what it held."""
    spiked: np.ndarray
    """uint8 (lanes * wide of the largest group)."""
    item_end: np.ndarray
    """int64 (neurons of the largest group): end of each neuron's items, as in :class:`Events`."""
    lane: np.ndarray
    value: np.ndarray
    trace_start: np.ndarray
    """int64 (groups): where its population's trace begins; -1 for none."""
    trace_size: np.ndarray
    """int64 (groups): neurons of its population."""
    spikes: np.ndarray
    """uint8: traces of spiking populations."""
    values: np.ndarray
    """int32: traces of graded ones."""
    sent: np.ndarray
    """int64 (2, entries): messages outside and inside of samples' own steps."""
    operations: np.ndarray
    """int64 (2, ports): synapses met, likewise."""
    fired: np.ndarray
    """int64 (2, groups): neuron outputs that are not 0, likewise."""
    active: np.ndarray
    """int64 (groups): updates inside that received, have a bias or hold a voltage."""
    by_step: np.ndarray
    """int64 (global steps or 0, cores + 1, 4): sent, received, synapses met, active updates; the host
    is the last."""
    log: np.ndarray
    """int64 (messages or 0, 5): step, source core, destination core, synapses met, sender."""
    logged: np.ndarray
    """int64 (1): messages so far, logged or not."""
