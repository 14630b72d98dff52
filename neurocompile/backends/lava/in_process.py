"""Run Lava's own fixed-point ProcessModels in this process, without Lava's runtime. The default
Lava backend.

Lava's runtime starts one operating-system process for each process of the network and synchronizes
all of them in every step: 65-75 % of its time goes there, it needs ten file descriptors a process,
and most failures hang it. The models themselves are plain Python objects: a ``PyProcessBuilder``
makes them, given ports. Here the ports are queues in this process. Running the models in
topological order always finds their input ready, so nothing blocks and no scheduler is needed. A
recurrent connection would have to send before its source has run: Lava's connections send first, in
each step, what they computed in the step before, so it runs last and hands that over at once, for
the next step. Results are those of the runtime, element for element (tests compare them).

Builders are made directly rather than by ``Process.compile``, which executes every module beside a
Process class again (26-35 ms a process) and fails with RecursionError beyond some 490 layers. The
models are those that ``compile`` selects under ``Loihi2SimCfg(select_tag="fixed_pt")`` (a test
compares).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from neurocompile.backends.base import Trace
from neurocompile.backends.encoding import check_integers
from neurocompile.backends.lava.compat import require_lava
from neurocompile.backends.lava.network import Network, build, total_steps
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.windows import by_sample, host_rounds, rounds

__all__ = ["InProcessExecutor", "check_record"]


class InProcessExecutor:
    """Executor of a circuit; see :class:`neurocompile.backends.base.Executor`."""

    def __init__(self, circuit: CircuitGraph) -> None:
        require_lava()
        self.circuit = circuit
        self.network: Network = build(circuit, fast=True)

    def __enter__(self) -> InProcessExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.network = Network(self.circuit)

    def run(
        self,
        x: np.ndarray,
        record: Collection[str] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Trace:
        """Run the samples; ``progress(step, steps)`` is called after each step. Models are built
        anew in each call.
        """
        circuit = self.circuit
        x = check_integers(circuit, x)
        names = check_record(circuit, record)
        count = rounds(circuit, len(x))
        trace = {
            n: np.zeros((count, circuit.steps, *circuit.population[n].shape), np.int32)
            for n in names
        }
        models, sends = _instantiate(self.network)
        for source in circuit.inputs:
            model = models[self.network.population[source.name]]
            own = (circuit.steps,) if source.stepwise else ()
            shape = self.network.population[source.name].s_out.shape
            model.samples = host_rounds(circuit, source, x).reshape(count, *own, *shape)
        taps = {self.network.population[n]: (circuit.population[n], trace[n]) for n in names}
        plan = [(models[p], sends[p], *taps.get(p, (None, None))) for p in self.network.processes]
        for _, send, population, _ in plan:
            send.keep = population is not None
        loops = [
            (models[p], sends[p]) for p in self.network.processes if p in self.network.recurrent
        ]
        for model, send in loops:
            send.ahead = True
            send.hand_over(_next(model))
        steps = total_steps(circuit, len(x))
        for step in range(steps):
            for model, send, population, values in plan:
                model.time_step = step + 1
                model.run_spk()
                if population is not None:
                    k, t = divmod(step - population.depth, circuit.period)
                    if t < circuit.steps and 0 <= k < count:
                        values[k, t] = send.last.reshape(population.shape)
            for model, send in loops:
                send.hand_over(_next(model))
            if progress is not None:
                progress(step + 1, steps)
        return {name: by_sample(circuit, values) for name, values in trace.items()}


def check_record(circuit: CircuitGraph, record: Collection[str] | None) -> list[str]:
    """Names to record, in the circuit's order; KeyError for one that the circuit does not have."""
    wanted = set(circuit.population if record is None else record)
    if unknown := wanted - set(circuit.population):
        raise KeyError(f"circuit '{circuit.name}' has no population {sorted(unknown)}")
    return [p.name for p in circuit.populations if p.name in wanted]


def fixed_point_models() -> dict[type, type]:
    """Lava's fixed-point model of each Process class that :func:`build` uses."""
    from lava.proc.conv import models as conv
    from lava.proc.dense import models as dense
    from lava.proc.graded import models as graded
    from lava.proc.lif import models as lif
    from lava.proc.sparse import models as sparse

    from neurocompile.backends.lava.processes import host

    classes = (
        lif.PyLifModelBitAcc,
        lif.PyLifResetModelBitAcc,
        graded.PyGradedVecModelFixed,
        graded.PyGradedReluVecModelFixed,
        dense.PyDenseModelBitAcc,
        dense.PyDelayDenseModelBitAcc,
        sparse.PySparseModelBitAcc,
        sparse.PyDelaySparseModelBitAcc,
        conv.PyConvModelFixed,
        host.PySourceModel,
    )
    return {model.implements_process: model for model in classes}


class _Send:
    """The sending end of a channel, of the interface of Lava's CspSendPort.

    Casts to the channel's type once and hands the same array to all receivers, which never write to
    it. With ``ahead`` the receivers have had the data since the end of the step before
    (:meth:`hand_over`).
    """

    def __init__(self, name: str, shape: tuple[int, ...], d_type: Any) -> None:
        self.name, self.shape, self.d_type = name, shape, d_type
        self.queues: list[deque[np.ndarray]] = []
        self.keep = False
        self.last: np.ndarray | None = None
        self.ahead = False

    def hand_over(self, data: np.ndarray) -> None:
        """Give the receivers what the model will send at the start of the next step."""
        for queue in self.queues:
            queue.append(data.astype(self.d_type))

    def send(self, data: np.ndarray) -> None:
        if data.shape != self.shape:
            raise ValueError(f"{self.name} sends shape {data.shape}, not {self.shape}")
        if not self.ahead and (self.queues or self.keep):
            self.last = data.astype(self.d_type)
            for queue in self.queues:
                queue.append(self.last)


class _Recv:
    """The receiving end, of the interface of Lava's CspRecvPort."""

    def __init__(
        self, name: str, shape: tuple[int, ...], d_type: Any, queue: deque[np.ndarray]
    ) -> None:
        self.name, self.shape, self.d_type, self.queue = name, shape, d_type, queue
        self.recv = queue.popleft

    def probe(self) -> bool:
        return bool(self.queue)

    def peek(self) -> np.ndarray:
        return self.queue[0]


def _next(model: Any) -> np.ndarray:
    """What a connection's model sends at the start of its next step: of one with delays the first of
    the steps that it holds.
    """
    if hasattr(model, "a_buf"):  # Conv
        return model.a_buf
    return model.a_buff[:, 0] if hasattr(model, "get_delay_wgts_mat") else model.a_buff


def _instantiate(network: Network) -> tuple[dict[Any, Any], dict[Any, _Send]]:
    """Fresh models of all processes, connected by queues, and each process's only sending port."""
    from lava.magma.compiler.builders.py_builder import PyProcessBuilder
    from lava.magma.compiler.utils import PortInitializer, VarInitializer
    from lava.magma.core.process.ports.ports import create_port_id

    model_of = fixed_point_models()
    models: dict[Any, Any] = {}
    sends: dict[Any, _Send] = {}
    for process in network.processes:
        (out,) = process.out_ports
        sends[process] = _Send(
            out.name, out.shape, getattr(model_of[type(process)], out.name).d_type
        )
    for process in network.processes:
        model_class = model_of[type(process)]
        builder = PyProcessBuilder(model_class, process.id, process.proc_params)
        builder.set_variables([VarInitializer(v.name, v.shape, v.init, v.id) for v in process.vars])
        ports = [*process.in_ports, *process.out_ports]
        types = {p.name: getattr(model_class, p.name).d_type for p in ports}
        builder.set_py_ports(
            [
                PortInitializer(
                    p.name,
                    p.shape,
                    types[p.name],
                    type(p).__name__,
                    1,
                    p.get_incoming_transform_funcs(),
                )
                for p in ports
            ]
        )
        for port in process.in_ports:
            for source in port.get_src_ports():
                send = sends[source.process]
                send.queues.append(deque())
                recv = _Recv(port.name, port.shape, send.d_type, send.queues[-1])
                builder.set_csp_ports([recv])
                builder.add_csp_port_mapping(create_port_id(source.process.id, source.name), recv)
        builder.set_csp_ports([sends[process]])
        model = models[process] = builder.build()
        if hasattr(model, "get_delay_wgts_mat"):
            _remember_delay_matrix(model)
    return models, sends


def _remember_delay_matrix(model: Any) -> None:
    """Let a Delay model build its matrix by Lava's own function once: weights and delays never
    change here.
    """
    original = model.get_delay_wgts_mat
    found: list[Any] = []

    def once(*arguments: Any) -> Any:
        if not found:
            found.append(original(*arguments))
        return found[0]

    model.get_delay_wgts_mat = once
