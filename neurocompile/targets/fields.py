"""The fields of a chip's neurons, synapses and messages as one value, which what makes integers
asks.

The arithmetic itself (24 bits of state, 4096ths of decay, 2^6 units of a threshold) is the
definition's, and the same on every target; a target may only have narrower fields, and then
integers are chosen that fit these.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurocompile.ir import fields as widest
from neurocompile.targets.schema import Target

__all__ = ["LOIHI2", "ChipFields"]


@dataclass(frozen=True)
class ChipFields:
    """Largest integers of each field; the defaults are Loihi 2's."""

    threshold: int = widest.THRESHOLD
    """Mantissa; a threshold is 2^6 times as large."""
    mantissa: int = widest.MANTISSA
    """Of a bias, of either sign."""
    bias_exponent: int = widest.BIAS_EXPONENT
    shift: int = widest.SHIFT
    """Bits that a weight exponent can divide by."""
    payload: int = widest.PAYLOAD
    """Magnitude of a graded value, in its neuron and as a message."""
    current: int = widest.CURRENT
    """Magnitude of a LIF's input a step: times 2^6 it stays within the state, or it would wrap."""
    membrane: int | None = None
    """Magnitude of a membrane, in units of the input; None where the voltage clips at the state's
    limit as the definition does, so that no bound is needed.
    """
    max_spike_delay: int = widest.SPIKE_DELAY
    """Steps from emission to arrival."""
    graded_delay: int = 1
    """The same of graded messages."""
    power_of_two_period: bool = True
    """Whether neurons are reset every 2^k steps alone."""
    weight_bits: int = widest.WEIGHT_BITS
    """Of a synapse."""
    weight_exponent: int = widest.WEIGHT_EXPONENT
    """Bits that a weight exponent can multiply by."""

    @property
    def bias(self) -> float:
        """Largest bias of a neuron, in units of its input."""
        field = (self.mantissa << self.bias_exponent) / 64
        return field if self.membrane is None else min(field, self.membrane / 8)

    @property
    def weight(self) -> int:
        """Magnitude of a weight of one sign."""
        return (1 << self.weight_bits) - 1

    @property
    def synapse(self) -> int:
        """Magnitude of what one synapse adds for a spike."""
        return self.weight << self.weight_exponent

    @property
    def held(self) -> int:
        """Largest sum, and twice the largest magnitude of a signed one, that a loop keeps over a
        sample: what nine synapses of the widest kind can silence, and a payload holds.
        """
        return min((widest.CURRENT << 1) + 1, self.payload)

    @property
    def gated(self) -> int:
        """Largest magnitude of a value that a gate multiplies by a spike: of either sign it is added
        to twice as much."""
        return min(widest.WEIGHT << 9, self.payload // 3)

    @property
    def digits(self) -> int:
        """Bits of a value that comes apart into spikes: a threshold a digit, and a membrane that holds
        the value beside its digits."""
        return min(self.threshold, self.current).bit_length() - 2

    @classmethod
    def of(cls, target: Target) -> ChipFields:
        """What a target's file leaves of the definition's fields."""
        neuron, synapse, most = target.neuron, target.synapse, cls()
        state = min(neuron.state_bits.value, widest.STATE_BITS)
        membrane = None if state == widest.STATE_BITS else ((1 << (state - 1)) - 1) >> 6
        payload = min(state, synapse.payload_bits.value if target.graded else state)
        # Threshold, input and bias share a narrower state: the membrane holds all at once.
        half, part = (most.threshold, most.current)
        if membrane is not None:
            half, part = max(membrane // 2, 1), max(3 * membrane // 8, 1)
        delay = target.delay.max_spike_delay.value
        return cls(
            threshold=max(min(neuron.threshold.high, most.threshold, half), 1),
            mantissa=max(
                min(neuron.bias_mantissa.high, -neuron.bias_mantissa.low, most.mantissa), 1
            ),
            bias_exponent=max(min(neuron.bias_exponent.high, most.bias_exponent), 0),
            shift=max(min(-synapse.weight_exponent.low, most.shift), 0),
            payload=(1 << (payload - 1)) - 1,
            current=min(most.current, part),
            membrane=membrane,
            max_spike_delay=delay,
            graded_delay=delay if target.delay.graded_delay.value else 1,
            power_of_two_period=target.reset.power_of_two.value,
            weight_bits=min(synapse.weight_bits.high, most.weight_bits),
            weight_exponent=max(min(synapse.weight_exponent.high, most.weight_exponent), 0),
        )


LOIHI2 = ChipFields()
"""The widest fields, for which circuits are made where no target is asked."""
