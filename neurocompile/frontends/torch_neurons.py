"""SpikingJelly's neurons in a model, and the marker that stands for one while the model is traced.

Neurons are known by class name, so that this module needs no particular version of SpikingJelly, nor SpikingJelly.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.frontends.onnx_lif import IF_TAU

__all__ = ["LIFMarker", "PerSample", "find_neurons", "is_single_step"]

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


@torch.library.custom_op("neurocompile::step", mutates_args=())
def _step(
    x: torch.Tensor, path: str, tau: float, v_threshold: float, v_reset: float, decay_input: bool, soft_reset: bool,
    index: int,
) -> torch.Tensor:  # fmt: skip
    raise NotImplementedError("neurocompile::step stands for a neuron while a model is traced, and has no kernel")


@_step.register_fake
def _(
    x: torch.Tensor, path: str, tau: float, v_threshold: float, v_reset: float, decay_input: bool, soft_reset: bool,
    index: int,
) -> torch.Tensor:  # fmt: skip
    return torch.empty_like(x)


def find_neurons(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every neuron of ``model`` with its module path; one that is registered under several paths comes with each.

    Raises:
        NeurocompileError: NC1013 for a neuron of a kind or in a mode that has no marker.
    """
    neurons, problems = [], []
    for path, module in model.named_modules(remove_duplicate=False):
        if _is_neuron(type(module)):
            problems += _problems(path, module)
            neurons.append((path, module))
    if problems:
        raise ViolationList("NC1013", problems)
    return neurons


def is_single_step(neuron: nn.Module) -> bool:
    """True for a neuron that one call takes one step on; clock_driven's tell it by their class."""
    mode = getattr(neuron, "step_mode", None)
    if mode is not None:
        return mode == "s"
    return not any(base.__name__.startswith("MultiStep") for base in type(neuron).__mro__)


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


def _problems(path: str, neuron: nn.Module) -> list[str]:
    """Why a neuron has no marker."""
    kind = type(neuron).__name__
    if not path:
        return [f"the model is a bare {kind}: put it into a module that makes the time axis"]
    if _base(type(neuron)) is None:
        return [f"neuron '{path}' is a {kind}, whose dynamics are its own; supported are {', '.join(sorted(SUPPORTED))}"]
    if not getattr(getattr(neuron, "surrogate_function", None), "spiking", True):
        return [f"neuron '{path}' ({kind}) has a surrogate with spiking=False: no spikes"]
    taus = [v for v in (getattr(neuron, "w", None), getattr(neuron, "tau", None)) if isinstance(v, torch.Tensor)]
    if any(v.numel() > 1 for v in taus):
        return [f"neuron '{path}' ({kind}) has a tau for each channel; a population on the chip has one leak: use one "
                "tau a layer, or a layer for each tau"]  # fmt: skip
    return []


class PerSample(nn.Module):
    """A multi-step neuron on (T B, ...) that takes each of the B samples over its own T steps."""

    def __init__(self, neuron: nn.Module, steps: int) -> None:
        super().__init__()
        self.neuron, self.steps = neuron, steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neuron(x.unflatten(0, (self.steps, -1))).flatten(0, 1)

    def reset(self) -> None:
        """As SpikingJelly's neurons have it."""
        self.neuron.reset()


class LIFMarker(nn.Module):
    """Stands for a neuron in a traced model: one call of ``neurocompile::lif`` (multi-step) or ``neurocompile::step``.

    A threshold for each channel becomes 1, and the current is divided by it: ``(v - v_reset) / (v_threshold - v_reset)``
    obeys the same equations.

    Args:
        neuron: a neuron from :func:`find_neurons`.
        path: its module path, which names the ONNX node.
        rows: T, if its input's leading axis is T times the batch, for whatever reason; 0 if it is as its mode says.
    """

    def __init__(self, neuron: nn.Module, path: str, rows: int = 0) -> None:
        super().__init__()
        family = _base(type(neuron)).__name__
        if family in LEAKY:
            tau, decay_input = float(neuron.tau), bool(neuron.decay_input)
        elif family in PARAMETRIC:
            tau, decay_input = 1.0 / float(neuron.w.detach().sigmoid()), bool(neuron.decay_input)
        else:
            tau, decay_input = IF_TAU, False
        v_reset = 0.0 if neuron.v_reset is None else float(neuron.v_reset)
        v_threshold = neuron.v_threshold
        factor = None
        if isinstance(v_threshold, torch.Tensor) and v_threshold.numel() > 1:
            factor = 1.0 / (v_threshold.detach().float().cpu() - v_reset)
            if not bool((factor > 0).all()):
                raise NeurocompileError("NC1009", f"neuron '{path}' has thresholds that are not above v_reset {v_reset}")
            v_threshold, v_reset = 1.0, 0.0
        self.register_buffer("factor", factor)
        self.called = self.over = False
        self.single, self.rows = is_single_step(neuron), rows
        self.arguments = (path, tau, float(v_threshold), v_reset, decay_input, neuron.v_reset is None)
        finite = (float(v_threshold), v_reset) if family in NOT_LEAKY else (tau, float(v_threshold), v_reset)
        if not all(math.isfinite(value) for value in finite):
            raise NeurocompileError("NC1004", f"neuron '{path}' has tau {tau}, v_threshold {v_threshold}, v_reset {v_reset}")

    def reset(self) -> None:
        """A reset before the first call is what every sample begins with; one after it ends the forward."""
        self.over = self.called

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.over:
            raise NeurocompileError(
                "NC1013", f"neuron '{self.arguments[0]}' is reset in the midst of a forward, and called again: reset it before"
            )
        self.called = True
        x = x if self.factor is None else x * self.factor
        if self.rows:
            return torch.ops.neurocompile.lif(x.unflatten(0, (self.rows, -1)), *self.arguments).flatten(0, 1)
        if self.single:
            return torch.ops.neurocompile.step(x, *self.arguments, 0)
        return torch.ops.neurocompile.lif(x, *self.arguments)
