"""The order experiment at length: ``python tools/nightly_order.py [--every N] [NAME ...]``.

Every pass left out, every pair swapped, every pass at every other place: of the small graphs of
``tests/passes/order_cases.py`` and of the trained digits models that ship. Prints how many orders
keep the meaning and how many are refused; exit code 1 if one is silently wrong or crashes. ``--every
N`` takes each Nth order, NAMEs those graphs alone.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from importlib import resources
from itertools import islice
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "passes"))

from order_cases import GRAPHS, Experiment, small  # noqa: E402

from neurocompile.frontends.onnx.frontend import import_model  # noqa: E402

MODELS = (
    "qkformer_digits/qkformer",
    "digits/spikformer",
    "digits/spiking_resformer",
    "digits/meta_spikeformer",
    "digits/spike_driven_transformer",
)


def trained(name: str) -> Experiment:
    """One of the models, on four images of its test set."""
    zoo = resources.files("neurocompile.models") / "zoo"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, imported = import_model(str(zoo / f"{name}.onnx"))
    graph = imported.graph
    images = np.load(str(zoo / "qkformer_digits" / "test.npz"))["x"]
    x = np.asarray(images, np.float32)[:4]
    larger = graph.input.shape[-1] // x.shape[-1]  # some models take enlarged digits
    x = x.repeat(larger, axis=-2).repeat(larger, axis=-1).reshape(-1, *graph.input.shape)
    return Experiment.of(graph, x)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    faults = 0
    makers = [(make.__name__, lambda make=make: small(make)) for make in GRAPHS]
    makers += [(name, lambda name=name: trained(name)) for name in MODELS]
    for name, make in makers:
        if given.names and name.rpartition("/")[2] not in given.names:
            continue
        experiment = make()
        found: Counter[str] = Counter([experiment.verdict(experiment.passes)])
        if found["same"] != 1:
            print(f"  {name} as shipped: {found}", flush=True)
            faults += 1
        for variant, order in islice(experiment.variants(), 0, None, given.every):
            verdict = experiment.verdict(order)
            found[verdict] += 1
            if not verdict.startswith(("same", "refused")):
                print(f"  {name}, {variant}: {verdict}", flush=True)
                faults += 1
        print(f"{name}: {dict(found)}", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
