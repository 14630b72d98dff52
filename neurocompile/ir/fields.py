"""The numbers of the definition's arithmetic: what a circuit may take of each field, on any target.

They are Loihi 2's. A target may only have narrower fields: :class:`neurocompile.targets.fields.ChipFields`
starts from these, and what chooses integers asks it, never this file. The numbers stand nowhere else
(``tests/house/test_chip_numbers.py``).
"""

from __future__ import annotations

__all__ = [
    "ALL",
    "BIAS_EXPONENT",
    "CURRENT",
    "INSTANT",
    "MANTISSA",
    "MIXED",
    "PAYLOAD",
    "SHIFT",
    "SPIKE_DELAY",
    "STATE_BITS",
    "THRESHOLD",
    "WEIGHT",
    "WEIGHT_BITS",
    "WEIGHT_EXPONENT",
]

STATE_BITS = 24
"""Current, voltage and graded message, sign included."""
PAYLOAD = (1 << STATE_BITS - 1) - 1
"""Largest magnitude of these."""
THRESHOLD = (1 << 17) - 1
"""Mantissa; a threshold is 2^6 times as large."""
CURRENT = (1 << 17) - 1
"""Magnitude of a LIF's input a step: times 2^6 it stays within the state, or it would wrap."""
ALL = 4096
"""Voltage decay, in 4096ths a step, that keeps nothing; 1 more than the 12 bits say, and meant by all of
them."""
INSTANT = ALL - 1
"""Current decay that keeps nothing: the field counts from 1."""
MANTISSA = (1 << 12) - 1
"""Of a bias; the negative end is one more."""
BIAS_EXPONENT = 7
WEIGHT_BITS = 8
WEIGHT = (1 << WEIGHT_BITS) - 1
"""Magnitude of a weight of one sign."""
MIXED = (-(1 << WEIGHT_BITS), (1 << WEIGHT_BITS) - 2)
"""Ends of weights of either sign: even numbers, because Loihi 2 and Lava drop their lowest bit."""
WEIGHT_EXPONENT = 7
"""Largest power of two that multiplies a synapse's weight."""
SHIFT = 7
"""Largest that divides it."""
SPIKE_DELAY = 62
"""Steps from emission to arrival."""
