"""The host's two processes: a source that streams samples, and a recorder that writes what it
receives to files.

Both exist because Lava's own are too slow or too small: ``RingBuffer`` needs the whole input
unrolled over time, and reading a sink's buffer back moves 30,000 to 45,000 values a second. Imports
Lava: import only after ``require_lava``.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

__all__ = ["Recorder", "Source", "make_recorder"]


class Source(AbstractProcess):
    """Sends sample k in the steps ``depth + k*period .. + steps - 1`` and zeros in between (steps
    count from 0).

    ``samples`` is (samples, *shape), the same in every step, or with ``stepwise`` (samples, steps,
    *shape).
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        depth: int,
        steps: int,
        period: int,
        stepwise: bool = False,
        samples: np.ndarray | None = None,
        name: str | None = None,
    ) -> None:
        empty = np.zeros((0, *shape), np.int32)
        samples = empty if samples is None else samples
        super().__init__(
            shape=shape,
            depth=depth,
            steps=steps,
            period=period,
            stepwise=stepwise,
            samples=samples,
            name=name,
        )
        self.s_out = OutPort(shape=shape)


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySourceModel(PyLoihiProcessModel):
    """See :class:`Source`. ``samples`` may be set before the first step."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.samples = proc_params["samples"]
        self.depth, self.steps, self.period = (proc_params[k] for k in ("depth", "steps", "period"))
        self.stepwise = proc_params["stepwise"]
        self.silence = np.zeros(proc_params["shape"], np.int32)

    def run_spk(self) -> None:
        k, t = divmod(self.time_step - 1 - self.depth, self.period)
        if not (0 <= k < len(self.samples) and t < self.steps):
            self.s_out.send(self.silence)
        else:
            self.s_out.send(self.samples[k, t] if self.stepwise else self.samples[k])


class Recorder(AbstractProcess):
    """Base of a recorder; :func:`make_recorder` makes one with a port for each recorded population."""

    def __init__(
        self,
        *,
        shapes: list[tuple[int, ...]],
        depths: list[int],
        files: list[str],
        steps: int,
        period: int,
        name: str | None = None,
    ) -> None:
        super().__init__(depths=depths, files=files, steps=steps, period=period, name=name)
        for i, shape in enumerate(shapes):
            setattr(self, f"in_{i}", InPort(shape=shape))


class AbstractRecorderModel(PyLoihiProcessModel):
    """Writes what port i receives at step ``depth + k*period + t`` to element [k, t] of the .npy
    file i.
    """

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.depths, self.steps, self.period = (
            proc_params[k] for k in ("depths", "steps", "period")
        )
        self.traces = [
            np.load(file, mmap_mode="r+", allow_pickle=False) for file in proc_params["files"]
        ]

    def run_spk(self) -> None:
        for i, (depth, trace) in enumerate(zip(self.depths, self.traces)):
            data = getattr(self, f"in_{i}").recv()
            k, t = divmod(self.time_step - 1 - depth, self.period)
            if 0 <= k < len(trace) and t < self.steps:
                trace[k, t] = data.reshape(trace.shape[2:])


def make_recorder(ports: int) -> type[Recorder]:
    """A Recorder class with ports ``in_0 .. in_{ports-1}``, placed in this module, where Lava looks
    for models.
    """
    process = type(f"Recorder{ports}", (Recorder,), {"__module__": __name__})
    types = {
        f"in_{i}": LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24) for i in range(ports)
    }
    model = type(
        f"PyRecorder{ports}Model", (AbstractRecorderModel,), {"__module__": __name__, **types}
    )
    model = tag("fixed_pt")(requires(CPU)(implements(proc=process, protocol=LoihiProtocol)(model)))
    for cls in (process, model):
        setattr(sys.modules[__name__], cls.__name__, cls)
    return process
