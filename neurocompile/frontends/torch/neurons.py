"""SpikingJelly's neurons in a model, and the marker that stands for one while the model is traced.

Neurons are known by class name, so that this module needs no particular version of SpikingJelly,
nor SpikingJelly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.frontends.onnx.lif import IF_TAU
from neurocompile.frontends.torch.membranes import is_membrane, potential

__all__ = [
    "LIF_MARKERS",
    "STEP_MARKERS",
    "LIFMarker",
    "PerSample",
    "find_neurons",
    "is_single_step",
    "path_of",
    "reset",
]

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


SETTINGS = ("step_mode", "tau", "v_threshold", "v_reset", "decay_input", "detach_reset", "backend")


_PARAMETERS = "float v_threshold, float v_reset, bool decay_input, bool soft_reset"
_ARGUMENTS = {
    "lif": f"Tensor x, str path, float tau, {_PARAMETERS}",
    "step": f"Tensor x, str path, float tau, {_PARAMETERS}, SymInt index",
    "channel_lif": f"Tensor x, Tensor tau, str path, {_PARAMETERS}",
    "channel_step": f"Tensor x, Tensor tau, str path, {_PARAMETERS}, SymInt index",
}
"""Of the markers' operators: over all steps or one step, with one tau or one a channel."""


def _no_kernel(*arguments: Any) -> torch.Tensor:
    raise NotImplementedError(
        "neurocompile's operators stand for neurons while a model is traced, and have no kernel"
    )


def _like_x(x: torch.Tensor, *arguments: Any) -> torch.Tensor:
    return torch.empty_like(x)


for _name, _arguments in _ARGUMENTS.items():
    torch.library.custom_op(
        f"neurocompile::{_name}", _no_kernel, mutates_args=(), schema=f"({_arguments}) -> Tensor"
    ).register_fake(_like_x)

LIF_MARKERS = frozenset(
    {torch.ops.neurocompile.lif.default, torch.ops.neurocompile.channel_lif.default}
)
STEP_MARKERS = frozenset(
    {torch.ops.neurocompile.step.default, torch.ops.neurocompile.channel_step.default}
)


def path_of(arguments: tuple[Any, ...]) -> str:
    """The module path among the arguments of a marker's call."""
    return next(a for a in arguments if isinstance(a, str))


def find_neurons(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every neuron of ``model`` with its module path; one that is registered under several paths
    comes with each.

    The path of a neuron inside of a :class:`PerSample` is that of the whole.

    Raises:
        NeurocompileError: NC1013 for a neuron of a kind or in a mode that has no marker.
    """
    neurons: list[tuple[str, nn.Module]] = []
    problems: list[str] = []
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    wholes = {
        f"{path}.neuron": path for path, module in modules.items() if isinstance(module, PerSample)
    }
    for path, module in modules.items():
        if _is_neuron(type(module)):
            problems += _problems(path, module)
            neurons.append((wholes.get(path, path), module))
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
    if is_membrane(kind):
        return False
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
        return [
            f"neuron '{path}' is a {kind}, whose dynamics are its own; supported are {', '.join(sorted(SUPPORTED))}"
        ]
    if not getattr(getattr(neuron, "surrogate_function", None), "spiking", True):
        return [f"neuron '{path}' ({kind}) has a surrogate with spiking=False: no spikes"]
    return []


def reset(model: nn.Module) -> None:
    """Forget what neurons, and what else of SpikingJelly has a memory, keep of earlier calls."""
    for module in model.modules():
        if callable(getattr(module, "reset", None)) and any(
            hasattr(module, name) for name in ("v_threshold", "_memories")
        ):
            module.reset()


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


class _Call:
    """The current (T, B, ...) of a neuron's last call: no attribute of the module, which torch would
    take for a buffer.
    """

    current: torch.Tensor | None = None


class LIFMarker(nn.Module):
    """Stands for a neuron in a traced model: one call of ``neurocompile::lif`` (multi-step) or
    ``neurocompile::step``.

    Where channels have thresholds or resets of their own, the threshold becomes 1 and the reset 0,
    and the current is divided by their difference: ``(v - v_reset) / (v_threshold - v_reset)``
    obeys the same equations. A tau for each channel is a second operand.

    Args:
        neuron: a neuron from :func:`find_neurons`.
        path: its module path, which names the ONNX node.
        rows: T, if its input's leading axis is T times the batch, for whatever reason; 0 if it is
            as its mode says.
        unrolled: one call of ``neurocompile::step`` for each step, in either mode.
    """

    def __init__(self, neuron: nn.Module, path: str, rows: int = 0, unrolled: bool = False) -> None:
        super().__init__()
        base, soft = _base(type(neuron)), neuron.v_reset is None
        assert base is not None, "find_neurons gives supported ones"
        family = base.__name__
        if family in PARAMETRIC:
            tau = 1.0 / _vector(neuron.w.detach().float().sigmoid())
        else:
            tau = _vector(neuron.tau if family in LEAKY else IF_TAU)
        decay_input = bool(neuron.decay_input) if family not in NOT_LEAKY else False
        reset, threshold = _vector(0.0 if soft else neuron.v_reset), _vector(neuron.v_threshold)
        for name, value in (("tau", tau), ("v_threshold", threshold), ("v_reset", reset)):
            if not bool(value.isfinite().all()) and not (name == "tau" and family in NOT_LEAKY):
                raise NeurocompileError("NC1004", f"neuron '{path}' has {name} {_shown(value)}")
        factor = None
        if threshold.numel() > 1 or reset.numel() > 1:
            factor = (1.0 / (threshold - reset)).float()
            if not bool((factor > 0).all()):
                raise NeurocompileError(
                    "NC1009",
                    f"neuron '{path}' has thresholds that are not above v_reset {_shown(reset)}",
                )
            threshold, reset = torch.ones(1), torch.zeros(1)
        self.register_buffer("factor", factor)
        self.register_buffer("taus", tau.float() if tau.numel() > 1 else None)
        self.called = self.over = False
        self.last = _Call()
        self.settings = {name: getattr(neuron, name) for name in SETTINGS if hasattr(neuron, name)}
        self.single, self.rows, self.unrolled = is_single_step(neuron), rows, unrolled
        levels = (float(threshold), float(reset), decay_input, soft)
        self.arguments = (path, *levels) if tau.numel() > 1 else (path, float(tau), *levels)

    def __getattr__(self, name: str) -> Any:
        """What the model's forward may ask its neuron: how it is set, and what it holds behind its
        last step.
        """
        settings = self.__dict__.get("settings", {})
        last = self.__dict__.get("last")
        if name == "v" and last is not None and last.current is not None:
            return self._potential(last.current)
        return settings[name] if name in settings else super().__getattr__(name)

    def _potential(self, current: torch.Tensor) -> torch.Tensor:
        arguments = self.arguments[1:]
        tau, *levels = (self.taus, *arguments) if self.taus is not None else arguments
        return potential(current, tau, *levels)

    def reset(self) -> None:
        """A reset before the first call is what every sample begins with; one after it ends the
        forward.
        """
        self.over = self.called

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.over:
            raise NeurocompileError(
                "NC1013",
                f"neuron '{self.arguments[0]}' is reset in the midst of a forward, and called again: reset it before",
            )
        self.called = True
        if not self.single and self.factor is None:  # one call is all steps, and ``v`` may be asked
            self.last.current = x.unflatten(0, (self.rows, -1)) if self.rows else x
        x = x if self.factor is None else x * self.factor
        ops = torch.ops.neurocompile
        arguments = self.arguments if self.taus is None else (self.taus, *self.arguments)
        lif, step = (
            (ops.lif, ops.step) if self.taus is None else (ops.channel_lif, ops.channel_step)
        )
        if self.unrolled and not self.single:
            steps = x.unflatten(0, (self.rows, -1)) if self.rows else x
            spikes = torch.stack([step(one, *arguments, 0) for one in steps])
            return spikes.flatten(0, 1) if self.rows else spikes
        if self.rows:
            return lif(x.unflatten(0, (self.rows, -1)), *arguments).flatten(0, 1)
        return step(x, *arguments, 0) if self.single else lif(x, *arguments)


def _vector(value: Any) -> torch.Tensor:
    """A number, or one for each channel, float64 on the CPU; equal ones are one."""
    array = torch.as_tensor(value).detach().cpu().double()
    return (
        array.reshape(-1)[:1]
        if array.numel() and bool((array == array.reshape(-1)[0]).all())
        else array
    )


def _shown(value: torch.Tensor) -> str:
    return (
        f"{float(value.reshape(-1)[0]):.6g}"
        if value.numel() == 1
        else f"of shape {list(value.shape)}, {value.tolist()}"[:80]
    )
