"""The child of :mod:`neurocompile.backends.lava.runtime`: reads a job from a folder, runs Lava,
writes traces.

Run as ``python -m neurocompile.backends.lava.child FOLDER`` in a session of its own. It ends its
whole process group when its standard input closes, which is when the parent dies without having
been able to, and itself when a worker of Lava dies, for which Lava would wait for ever.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np

from neurocompile.backends.lava import shared_memory
from neurocompile.backends.lava.compat import require_lava
from neurocompile.backends.lava.network import build, total_steps
from neurocompile.backends.lava.runtime import check_file_descriptors, process_count
from neurocompile.ir.circuit import CircuitGraph, HostInput
from neurocompile.ir.windows import rounds


def main(folder: str) -> None:
    """Do the job in ``folder``."""
    shared_memory.name_after(os.getpid())
    threading.Thread(target=_follow_parent, daemon=True).start()
    path = Path(folder)
    threading.Thread(target=_watch_workers, args=(path / "done",), daemon=True).start()
    with np.load(path / "tensors.npz", allow_pickle=False) as file:
        tensors = {name: file[name] for name in file.files}
    circuit = CircuitGraph.parse((path / "circuit.txt").read_text(encoding="utf-8"), tensors)
    x = np.load(path / "x.npy", allow_pickle=False)
    job = json.loads((path / "job.json").read_text(encoding="utf-8"))
    sys.setrecursionlimit(100_000)  # Lava's search for connected processes recurses once a process
    check_file_descriptors(process_count(circuit), apply=True)
    require_lava()
    _run(circuit, x, path, **job)


def _run(
    circuit: CircuitGraph,
    x: np.ndarray,
    path: Path,
    record: list[str],
    hardware: bool = False,
    latency: int = 0,
    probe: bool = False,
) -> None:
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg

    from neurocompile.backends.lava import hardware as loihi
    from neurocompile.backends.lava.processes.host import make_recorder

    network = build(
        circuit, samples=x, reset_latency=latency, adapt=loihi.input_adapter if hardware else None
    )
    files = [str(path / f"trace{i}.npy") for i in range(len(record))]
    recorded = [circuit.population[name] for name in record]
    for population, file in zip(recorded, files):
        shape = (rounds(circuit, len(x)), circuit.steps, *population.shape)
        np.lib.format.open_memmap(file, "w+", np.int32, shape)
    recorder = make_recorder(len(record))(
        shapes=[network.out[n].shape for n in record],
        depths=[p.depth + (0 if isinstance(p, HostInput) else latency) for p in recorded],
        files=files,
        steps=circuit.steps,
        period=circuit.period,
    )
    for i, population in enumerate(recorded):
        out = network.out[population.name]
        if hardware and not isinstance(population, HostInput):
            out = loihi.attach_output(out, population.spiking)
        out.connect(getattr(recorder, f"in_{i}"))
    condition = RunSteps(num_steps=total_steps(circuit, len(x)) + latency)
    if hardware:
        sources = [network.population[p.name] for p in circuit.inputs]
        loihi.run_on_loihi(
            recorder,
            condition,
            [p for p in network.processes if p not in sources],
            path / loihi.PROBES if probe else None,
        )
    else:
        options = {"use_watchdog": bool(os.environ.get("NEUROCOMPILE_LAVA_WATCHDOG"))}
        recorder.run(condition, Loihi2SimCfg(select_tag="fixed_pt"), options)
    (path / "done").touch()
    recorder.stop()


def _watch_workers(done: Path) -> None:
    """Give up as soon as a worker ends before its time: Lava would wait for it for ever."""
    workers: dict[int | None, multiprocessing.process.BaseProcess] = {}
    while not done.exists():
        workers.update((worker.pid, worker) for worker in multiprocessing.active_children())
        for worker in workers.values():
            if worker.exitcode:
                time.sleep(0.2)  # its traceback may still be on its way
                sys.stderr.write(
                    f"worker {worker.name} of Lava ended with exit status {worker.exitcode}\n"
                )
                sys.stderr.flush()
                os._exit(70)
        time.sleep(0.1)


def _follow_parent() -> None:
    """Wait until the parent's end of standard input closes, then end the group."""
    while os.read(0, 1):
        pass
    shared_memory.remove(os.getpid())
    os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1])
    sys.stdout.flush()
    os._exit(0)  # the interpreter's own exit can hang on Lava's threads
