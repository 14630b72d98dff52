"""SpikingJelly's neurons in a model, and the marker that stands for one while the model is traced.

Neurons are known by class name, so that this module needs no particular version of SpikingJelly, nor SpikingJelly.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx_lif import IF_TAU

__all__ = ["LIFMarker", "find_neurons"]

LEAKY = frozenset({"LIFNode", "MultiStepLIFNode"})
PARAMETRIC = frozenset({"ParametricLIFNode", "MultiStepParametricLIFNode"})
NOT_LEAKY = frozenset({"IFNode", "MultiStepIFNode"})
SUPPORTED = LEAKY | PARAMETRIC | NOT_LEAKY

# A subclass that overrides one of these is another neuron, whatever its ancestors are.
DYNAMICS = frozenset(
    {
        "forward",
        "multi_step_forward",
        "multi_step_functional_forward",
        "neuronal_charge",
        "neuronal_fire",
        "neuronal_reset",
        "single_step_forward",
        "single_step_functional_forward",
    }
)


@torch.library.custom_op("neurocompile::lif", mutates_args=())
def _lif(
    x: torch.Tensor, path: str, tau: float, v_threshold: float, v_reset: float, decay_input: bool, soft_reset: bool
) -> torch.Tensor:
    raise NotImplementedError("neurocompile::lif stands for a neuron while a model is traced, and has no kernel")


@_lif.register_fake
def _(
    x: torch.Tensor, path: str, tau: float, v_threshold: float, v_reset: float, decay_input: bool, soft_reset: bool
) -> torch.Tensor:
    return torch.empty_like(x)


def find_neurons(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every neuron of ``model`` with its module path; one that is registered under several paths comes with each.

    Raises:
        NeurocompileError: NC1013 for a neuron of a kind or in a mode that has no marker.
    """
    neurons = []
    for path, module in model.named_modules(remove_duplicate=False):
        if _is_neuron(type(module)):
            _check(path, module)
            neurons.append((path, module))
    return neurons


def _is_neuron(kind: type) -> bool:
    if kind.__name__ in SUPPORTED:
        return True
    # clock_driven is what activation_based was called before SpikingJelly 0.0.0.0.13.
    packages = ("spikingjelly.activation_based.neuron", "spikingjelly.clock_driven.neuron")
    return any(base.__module__.startswith(packages) for base in kind.__mro__)


def _base(kind: type) -> type | None:
    """The supported class whose dynamics ``kind`` has, itself included; None if it has others."""
    for base in kind.__mro__:
        if base.__name__ in SUPPORTED:
            return base
        if DYNAMICS & vars(base).keys():
            return None
    return None


def _check(path: str, neuron: nn.Module) -> None:
    kind = type(neuron).__name__
    if not path:
        raise NeurocompileError("NC1013", f"the model is a bare {kind}: put it into a module that makes the time axis")
    if _base(type(neuron)) is None:
        raise NeurocompileError(
            "NC1013", f"neuron '{path}' is a {kind}; supported are {', '.join(sorted(SUPPORTED))}"
        )
    if getattr(neuron, "step_mode", "m") != "m":
        raise NeurocompileError(
            "NC1013",
            f"neuron '{path}' ({kind}) is in single-step mode; call "
            "spikingjelly.activation_based.functional.set_step_mode(model, 'm')",
        )
    if not getattr(getattr(neuron, "surrogate_function", None), "spiking", True):
        raise NeurocompileError("NC1013", f"neuron '{path}' ({kind}) has a surrogate with spiking=False: no spikes")


class LIFMarker(nn.Module):
    """Stands for a neuron in a traced model: (T, ...) currents to (T, ...) spikes, one ``neurocompile::lif`` call.

    Args:
        neuron: a neuron from :func:`find_neurons`.
        path: its module path, which names the ONNX node.
    """

    def __init__(self, neuron: nn.Module, path: str) -> None:
        super().__init__()
        family = _base(type(neuron)).__name__
        if family in LEAKY:
            tau, decay_input = float(neuron.tau), bool(neuron.decay_input)
        elif family in PARAMETRIC:
            tau, decay_input = 1.0 / float(neuron.w.detach().sigmoid()), bool(neuron.decay_input)
        else:
            tau, decay_input = IF_TAU, False
        v_reset = 0.0 if neuron.v_reset is None else float(neuron.v_reset)
        self.arguments = (path, tau, float(neuron.v_threshold), v_reset, decay_input, neuron.v_reset is None)
        finite = (neuron.v_threshold, v_reset) if family in NOT_LEAKY else (tau, neuron.v_threshold, v_reset)
        if not all(math.isfinite(value) for value in finite):
            raise NeurocompileError(
                "NC1004", f"neuron '{path}' has tau {tau}, v_threshold {neuron.v_threshold}, v_reset {v_reset}"
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.neurocompile.lif(x, *self.arguments)
