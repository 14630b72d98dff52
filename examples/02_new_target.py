"""A target of your own: Loihi 2's numbers with cores of half the size, and what that costs a
trained QKFormer.

    uv run --no-dev --extra plot python examples/02_new_target.py [--output FOLDER]

Writes the target's file (docs/new_target.md explains every field), compiles the shipped model for
it and for Loihi 2, prints cores and packets side by side, draws the cores of both, and shows what
an error looks like when the model does not fit.
"""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import yaml

import neurocompile
from neurocompile.report.core_grid import draw_core_grid
from neurocompile.report.figure import save_figure

ZOO = Path(__file__).resolve().parents[1] / "models" / "zoo" / "qkformer_digits"


def write_target(path: Path) -> None:
    """Loihi 2 with half of every capacity; each changed number says that it was assumed, and by
    whom.
    """
    content = yaml.safe_load(files("neurocompile.hw_targets").joinpath("loihi2.yaml").read_text())
    content["name"], content["description"] = (
        "half_loihi2",
        "Loihi 2 with cores of half the size; no such hardware exists",
    )
    for name in ("neurons", "synaptic_memory_words", "axon_in", "axon_map", "axon_memory", "total"):
        content["core"][name] = {
            "value": content["core"][name]["value"] // 2,
            "source": "examples/02_new_target.py",
            "status": "assumed",
        }
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def main() -> int:
    """Exit code 1 if the small cores do not take more of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path("out"), help="folder for the target, and for the plots"
    )
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    own = folder / "half_loihi2.yaml"
    write_target(own)

    cores = []
    for target in ("loihi2", own):
        program = neurocompile.compile(ZOO / "qkformer.onnx", target=target, T=4)
        mapping = program.mapping
        cores.append(mapping.cores_used)
        print(
            f"{mapping.target:<12} {mapping.cores_used:>3} cores (at least {mapping.lower_bound}), "
            f"{mapping.traffic.packets:,.0f} packets a step between cores"
        )
        if find_spec("matplotlib") is None:
            continue  # the extra plot is not installed
        save_figure(draw_core_grid(program), folder / f"cores_{mapping.target}.png")
        print(f"             look at {folder / f'cores_{mapping.target}.png'}")

    try:
        neurocompile.compile(
            ZOO / "qkformer.onnx", target=own, T=4, max_cores=cores[0], fold="none"
        )
    except neurocompile.NeurocompileError as error:
        print(f"with no more cores than Loihi 2 needs, unrolled:\n{error}")
    folded = neurocompile.compile(ZOO / "qkformer.onnx", target=own, T=4, max_cores=cores[0])
    fold = folded.fold
    print(
        f"folded in time {fold.fold}: {folded.mapping.cores_used} cores, {fold.steps} steps a sample"
    )
    return 0 if cores[1] > cores[0] else 1


if __name__ == "__main__":
    sys.exit(main())
