"""The context in which authors' files find the SpikingJelly that they were written for.

Published models import ``spikingjelly.clock_driven``, which is gone from SpikingJelly 2, and give
their neurons ``backend='cupy'``, which SpikingJelly 2 has no argument for and 0.0.0.0.14 refuses
without CuPy. Both name the same equations: backends differ in speed alone, and ``clock_driven`` is
what ``activation_based`` was called before 0.0.0.0.13.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from types import ModuleType
from typing import Any

from neurocompile.compat.clock_driven import stand_in
from neurocompile.errors import NeurocompileError

__all__ = ["spikingjelly"]

_GPU_ONLY = ("cupy_fp32_inference", "lava_s_cale")
"""Arguments of ``clock_driven`` that choose a backend's kernel, and no equation."""


@contextmanager
def spikingjelly() -> Iterator[None]:
    """Inside of the block, authors' files import and make their models without a change::

        with neurocompile.compat.spikingjelly():
            from model import QKFormer       # imports spikingjelly.clock_driven
            net = QKFormer(T=4)              # makes MultiStepLIFNode(..., backend='cupy')
        program = neurocompile.compile(net, images)

    What changes, in this process and until the block ends:

    * ``spikingjelly.clock_driven`` and its modules import where SpikingJelly has none, made of
      ``activation_based``; ``MultiStepX`` is ``X`` in multi-step mode.
    * neurons take ``backend='cupy'`` (and ``'triton'``, ``'lava'``) where that backend is absent,
      and run on torch; ``cupy_fp32_inference`` and ``lava_s_cale`` likewise.
    * ``functional.set_backend(net, 'cupy')`` leaves neurons on torch instead of failing.

    Models that were made inside go on working outside. Blocks may nest.

    Raises:
        NeurocompileError: NC4001 if SpikingJelly cannot be imported.
    """
    try:
        import spikingjelly.activation_based
        from spikingjelly.activation_based import functional, neuron
    except ImportError as error:
        raise NeurocompileError(
            "NC4001",
            f"models of authors need the package {error.name}: pip install 'neurocompile[torch]'",
        ) from error
    with ExitStack() as stack:
        modules = [neuron]
        if importlib.util.find_spec("spikingjelly.clock_driven") is None:
            stack.enter_context(stand_in(spikingjelly.activation_based))
        else:
            modules.append(importlib.import_module("spikingjelly.clock_driven.neuron"))
        if importlib.util.find_spec("cupy") is None:
            for kind in dict.fromkeys(k for module in modules for k in _neurons(module)):
                stack.enter_context(_attribute(kind, "__init__", _on_torch(kind.__init__)))
            stack.enter_context(_attribute(functional, "set_backend", _stay_on_torch))
        yield


def _neurons(module: ModuleType) -> list[Any]:
    """The module's own neuron classes that have a constructor of their own."""
    return [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind)
        and kind.__module__.startswith(module.__name__)
        and (hasattr(kind, "neuronal_reset") or hasattr(kind, "single_step_forward"))
        and "__init__" in vars(kind)
    ]


def _on_torch(original: Callable[..., None]) -> Callable[..., None]:
    """The constructor ``original``, made to take any backend and to make a neuron on torch."""
    names = list(inspect.signature(original).parameters)[1:]  # without self
    has_backend = "backend" in names
    # Where 0.0.0.0.14 has the argument: behind the step mode.
    before = "backend" if has_backend else "step_mode"
    place = names.index(before) + (not has_backend) if before in names else None

    @wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if place is not None and len(args) > place and isinstance(args[place], str):
            args = (*args[:place], *["torch"] * has_backend, *args[place + 1 :])
        if kwargs.pop("backend", None) is not None and has_backend:
            kwargs["backend"] = "torch"
        for name in _GPU_ONLY:
            kwargs.pop(name, None)
        original(self, *args, **kwargs)

    return __init__


def _stay_on_torch(net: Any, backend: str, *args: Any, **kwargs: Any) -> None:
    """``functional.set_backend`` where torch is the only backend."""


@contextmanager
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """``owner.name`` is ``value`` inside of the block."""
    missing = object()
    before = vars(owner).get(name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
