"""Run .net files by lava-dl's own netx on Lava's runtime, in an environment that has both (tools/
lava_dl_env.py makes one): ``python netx_oracle.py FOLDER`` runs each NAME.net on NAME.x.npz, and writes
NAME.out.npz.

NAME.x.npz has ``x``, int (samples, steps, *shape as the file has it) of spikes, or (samples, *shape) of
biases of an input block with neurons, and ``steps``. NAME.out.npz gets the spikes of every layer,
``layer0``, ... (samples, steps, *shape), and the membranes of the last behind the last step, ``v``.
Each sample runs in a network of its own, from rest; layer i is i steps behind the input.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
from lava.lib.dl.netx.hdf5 import Network
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc import io


def run(path: str, x: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """One sample."""
    driven = _has_input_neurons(path)
    # a synapse in front of the first neurons takes a step of its own
    first = 0 if driven else 1
    # each layer is reset once, when the sample reaches it: until then biases alone drive it
    net = Network(
        net_config=path,
        num_layers=_without_average(path),
        reset_interval=1 << 20,
        reset_offset=first,
    )
    count = steps + len(net.layers) - 1 + first
    sinks = []
    for layer in net.layers:
        sink = io.sink.RingBuffer(shape=layer.neuron.s_out.shape, buffer=count)
        layer.neuron.s_out.connect(sink.a_in)
        sinks.append(sink)
    if driven:
        net.layers[0].neuron.bias_mant.init = x.T.astype(np.int32)
    else:
        data = np.moveaxis(x, 0, -1)
        flat = len(net.inp.shape) == 1
        data = data.reshape(-1, data.shape[-1]) if flat else data.transpose(2, 1, 0, 3)
        padded = np.zeros((*data.shape[:-1], count), np.int32)
        padded[..., : data.shape[-1]] = data
        source = io.source.RingBuffer(data=padded)
        source.s_out.connect(net.inp)
    net.run(condition=RunSteps(num_steps=count), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    found = {}
    for i, sink in enumerate(sinks):
        spikes = sink.data.get()[..., i + first : i + first + steps]
        found[f"layer{i}"] = np.moveaxis(spikes, -1, 0).swapaxes(1, -1).astype(np.uint8)
    found["v"] = net.layers[-1].neuron.v.get().T
    net.stop()
    return found


def _without_average(path: str) -> int:
    """Blocks that netx reads: it has no average."""
    with h5py.File(path, "r") as file:
        kinds = [file[f"layer/{i}/type"][()] for i in range(len(file["layer"]))]
    return sum(np.ravel(kind)[0] != b"average" for kind in kinds)


def _has_input_neurons(path: str) -> bool:
    with h5py.File(path, "r") as file:
        return "neuron" in file["layer/0"] and np.ravel(file["layer/0/type"][()])[0] == b"input"


def main() -> None:
    for path in sorted(Path(sys.argv[1]).glob("*.net")):
        with np.load(path.with_suffix(".x.npz")) as file:
            x, steps = file["x"], int(file["steps"])
        runs = [run(str(path), sample, steps) for sample in x]
        found = {k: np.stack([r[k] for r in runs]) for k in runs[0]}
        np.savez(path.with_suffix(".out.npz"), **found)


if __name__ == "__main__":
    main()
