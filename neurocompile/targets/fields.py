"""The fields of a chip's neurons, synapses and messages as one value, which what makes integers
asks.

The arithmetic itself (24 bits of state, 4096ths of decay, 2^6 units of a threshold) is the
definition's, and the same on every target; a target may only have narrower fields, and then
integers are chosen that fit these.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurocompile.targets.schema import Target

__all__ = ["LOIHI2", "ChipFields"]

_STATE_BITS = 24
"""Of the definition: current and voltage, sign included."""


@dataclass(frozen=True)
class ChipFields:
    """Largest integers of each field; the defaults are Loihi 2's."""

    threshold: int = (1 << 17) - 1
    """Mantissa; a threshold is 2^6 times as large."""
    mantissa: int = (1 << 12) - 1
    """Of a bias, of either sign."""
    bias_exponent: int = 7
    shift: int = 7
    """Bits that a weight exponent can divide by."""
    payload: int = (1 << 23) - 1
    """Magnitude of a graded value, in its neuron and as a message."""
    current: int = (1 << 17) - 1
    """Magnitude of a LIF's input a step: times 2^6 it stays within the state, or it would wrap."""
    membrane: int | None = None
    """Magnitude of a membrane, in units of the input; None where the voltage clips at the state's
    limit as the definition does, so that no bound is needed.
    """
    max_spike_delay: int = 62
    """Steps from emission to arrival."""
    graded_delay: int = 1
    """The same of graded messages."""
    power_of_two_period: bool = True
    """Whether neurons are reset every 2^k steps alone."""
    weight_bits: int = 8
    """Of a synapse."""

    @property
    def bias(self) -> float:
        """Largest bias of a neuron, in units of its input."""
        field = (self.mantissa << self.bias_exponent) / 64
        return field if self.membrane is None else min(field, self.membrane / 8)

    @classmethod
    def of(cls, target: Target) -> ChipFields:
        """What a target's file leaves of the definition's fields."""
        neuron, synapse, most = target.neuron, target.synapse, cls()
        state = min(neuron.state_bits.value, _STATE_BITS)
        membrane = None if state == _STATE_BITS else ((1 << (state - 1)) - 1) >> 6
        payload = min(state, synapse.payload_bits.value if target.graded else _STATE_BITS)
        # Threshold, input and bias share a narrower state: the membrane holds all at once.
        half, part = (most.threshold, most.current)
        if membrane is not None:
            half, part = max(membrane // 2, 1), max(3 * membrane // 8, 1)
        delay = target.delay.max_spike_delay.value
        return cls(
            threshold=max(min(neuron.threshold.high, most.threshold, half), 1),
            mantissa=max(min(neuron.bias_mantissa.high, -neuron.bias_mantissa.low, 4095), 1),
            bias_exponent=max(min(neuron.bias_exponent.high, most.bias_exponent), 0),
            shift=max(min(-synapse.weight_exponent.low, most.shift), 0),
            payload=(1 << (payload - 1)) - 1,
            current=min(most.current, part),
            membrane=membrane,
            max_spike_delay=delay,
            graded_delay=delay if target.delay.graded_delay.value else 1,
            power_of_two_period=target.reset.power_of_two.value,
            weight_bits=synapse.weight_bits.high,
        )


LOIHI2 = ChipFields()
"""The widest fields, for which circuits are made where no target is asked."""
