"""Three errors that the paper calls epsilon, as types: they are not exchangeable."""

from __future__ import annotations

from typing import NewType

__all__ = ["LayerError", "LogitError", "RateError"]

LogitError = NewType("LogitError", float)
"""Euclidean distance of the logits from those of many steps, in logits."""
LayerError = NewType("LayerError", float)
"""Euclidean distance of all rates of a layer, in spikes a step."""
RateError = NewType("RateError", float)
"""Distance of one neuron's rate, in spikes a step: 0..1."""
