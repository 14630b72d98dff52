"""A program whose sample comes in parts, each read when it is made: the tokens of a text, frames of a
camera. State is kept from part to part, so the parts give what the whole sample gives.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from neurocompile.backends.encoding import decode_steps, encode
from neurocompile.backends.stream import Stream
from neurocompile.errors import NeurocompileError
from neurocompile.guard import guarded
from neurocompile.ir.circuit import CircuitGraph

__all__ = ["ProgramStream"]


class Program(Protocol):
    """What a :class:`~neurocompile.program.Program` is here."""

    @property
    def circuit(self) -> CircuitGraph: ...

    @property
    def main(self) -> str: ...

    def outputs(self, cut: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]: ...


class ProgramStream:
    """One sample of a program on the emulator, step by step.

    Raises:
        NeurocompileError: NC1006 for a program that is folded, whose input is one for all steps, or
            that gives its outputs as means over the whole sample.
    """

    def __init__(self, program: Program) -> None:
        if not program.circuit.readouts[0].per_step:
            raise NeurocompileError(
                "NC1006", "the program's outputs are means over a whole sample: run it with run()"
            )
        self._program = program
        self._stream = Stream(program.circuit)
        self._views = {v.layer: v.src for v in program.circuit.views}
        self.spikes = dict.fromkeys(self._views, 0)
        """Of each layer, so far."""

    @property
    def done(self) -> int:
        """Steps that were made."""
        return self._stream.done

    @property
    def left(self) -> int:
        """Steps that the sample has left."""
        return self._program.circuit.steps - self.done

    @guarded
    def run(self, x: np.ndarray) -> np.ndarray:
        """The program's main output at each of the next steps, float64 (steps, ...).

        Args:
            x: float32 (steps, *shape of one), a part of a sample.

        Raises:
            NeurocompileError: NC1006 for values of another shape, or more steps than are left.
        """
        circuit, x = self._program.circuit, np.asarray(x, np.float32)
        whole = np.zeros((1, circuit.steps, *self._shape(x)), np.float32)
        if len(x) <= self.left:
            whole[0, : len(x)] = x
            brought = encode(circuit, whole)[0, : len(x)]
        else:  # more than there are: refused below
            brought = np.zeros((len(x), *circuit.input_shape[1:]), np.int32)
        readout = circuit.readouts[0].src
        found = self._stream.run(brought, {readout, *self._views.values()})
        for layer, source in self._views.items():
            self.spikes[layer] += int(np.count_nonzero(found[source]))
        sent = found[readout]
        steps = np.zeros((1, circuit.steps, *sent.shape[1:]), sent.dtype)
        steps[0, : len(sent)] = sent
        values: Any = self._program.outputs(decode_steps(circuit, {readout: steps}))[1]
        made: np.ndarray = values[self._program.main][0, : len(sent)]
        return made

    def _shape(self, x: np.ndarray) -> tuple[int, ...]:
        """Of a step, of the model's own axes."""
        host = self._program.circuit.inputs[0]
        shape = self._program.circuit.input_shape[1:]
        if host.source_axes:
            shape = tuple(shape[host.source_axes.index(i)] for i in range(len(shape)))
        if x.shape[1:] != shape:
            raise NeurocompileError(
                "NC1006",
                f"a part of a sample is (steps, {', '.join(map(str, shape))}), got {x.shape}",
            )
        return shape
