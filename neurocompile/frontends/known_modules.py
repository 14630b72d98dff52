"""Modules and operators that people use and no chip of ours runs: why not, and what to write in
their place.

Known by class name, so that no library has to be there. They are looked at when a model is refused,
never before: what compiles in spite of its name compiles.
"""

from __future__ import annotations

__all__ = ["KNOWN", "RANDOM", "known"]

_CURRENT = (
    "is a LIF with synaptic current, a second state a neuron",
    "a LIF without it (tau_syn = 0; snntorch.Leaky, norse LIFBoxCell, SpikingJelly LIFNode)",
)
_FEEDBACK = (
    "feeds spikes back through a synaptic current, which a soft reset keeps in a neuron of its own",
    "spikes that feed back into a LIF without it: snntorch.RLeaky, SpikingJelly's LinearRecurrentContainer",
)
_PLAIN = "a LIF with a fixed threshold (snntorch.Leaky, norse LIFBoxCell, sinabs LIF, SpikingJelly LIFNode)"
_ADAPTIVE = (
    "moves its threshold or its membrane by its own spikes, a further state a neuron",
    _PLAIN,
)
_REFRACTORY = ("is silent for some steps after a spike, which it counts in a further state", _PLAIN)
_CURVED = ("bends its membrane by an exponential or a square", _PLAIN)
_ZEROED = (
    "sets current and membrane to zero in the step after a spike, with the input of that step",
    "reset_mechanism='subtract' or 'none'",
)
_RECURRENT = ("is a gated recurrence of real values", "a LIF, whose membrane is the memory")
_TRANSFORMER = (
    "computes a softmax and LayerNorm of real values",
    "spiking self-attention (scale * Q K^T V between LIF layers, BatchNorm), as Spikformer and QKFormer have it",
)
_DELAY = (
    "delays spikes by whole steps, which no part of the imported graph says",
    "the model without the delay, or a delay in its frames",
)
_RANDOM_ENCODER = (
    "draws random spikes, other ones in every run",
    "direct encoding (the image itself in every step, x.unsqueeze(0).repeat(T, 1, 1, 1, 1)), or spikes drawn on the "
    "host and given as frames (B, T, ...)",
)
_STATE_ENCODER = (
    "is an encoder with a state of its own",
    "its spikes, made on the host, as frames (B, T, ...)",
)

KNOWN: dict[str, tuple[str, str]] = {
    "MultiheadAttention": (
        "attends by a softmax of real values, and moves the batch behind the tokens",
        "spiking self-attention (scale * Q K^T V between LIF layers), or a softmax of mean scores, "
        "softmax((q @ k.transpose(-2, -1)).mean(0), -1) @ v.mean(0), with q, k and v of nn.Linear",
    ),
    "TransformerEncoderLayer": _TRANSFORMER,
    "TransformerDecoderLayer": _TRANSFORMER,
    "Transformer": _TRANSFORMER,
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "RNN": _RECURRENT,
    "LSTMCell": _RECURRENT,
    "GRUCell": _RECURRENT,
    "SpikingLSTM": _RECURRENT,
    "SpikingGRU": _RECURRENT,
    "SLSTM": _RECURRENT,
    "SConv2dLSTM": _RECURRENT,
    "Delay": _DELAY,
    "DelayLinear": _DELAY,
    "PoissonEncoder": _RANDOM_ENCODER,
    "LatencyEncoder": _STATE_ENCODER,
    "WeightedPhaseEncoder": _STATE_ENCODER,
    "PopSpikeEncoderDeterministic": _STATE_ENCODER,
    "PopSpikeEncoderRandom": _RANDOM_ENCODER,
    "SynapseFilter": _CURRENT,
    "Synaptic": _ZEROED,
    "Alpha": _CURRENT,
    "LIFCell": _CURRENT,
    "LIFRecurrentCell": _FEEDBACK,
    "LSNNCell": _ADAPTIVE,
    "LSNNRecurrentCell": _ADAPTIVE,
    "ALIF": _ADAPTIVE,
    "ALIFRecurrent": _ADAPTIVE,
    "LIFRefracCell": _REFRACTORY,
    "LIFRefracRecurrentCell": _REFRACTORY,
    "LIFExCell": _CURVED,
    "LIFExRecurrentCell": _CURVED,
    "LIFAdExCell": _CURVED,
    "LIFAdExRecurrentCell": _CURVED,
    "IzhikevichCell": _CURVED,
    "IzhikevichRecurrentCell": _CURVED,
    "RSynaptic": _FEEDBACK,
}
"""Class -> (why not, what to write instead)."""

RANDOM = ("draws random numbers, other ones in every run", _RANDOM_ENCODER[1])


def known(module: type) -> tuple[str, str] | None:
    """What is said of a class, or of the first of its bases that we know."""
    return next((KNOWN[c.__name__] for c in module.__mro__ if c.__name__ in KNOWN), None)
