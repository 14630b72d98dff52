"""``neurocompile opt``: chosen passes over a graph, to see what each does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import Json, Output, command
from neurocompile.cli.model_options import Calibration, source_of, with_options
from neurocompile.errors import NeurocompileError, argument
from neurocompile.options import BuildOptions

if TYPE_CHECKING:
    from neurocompile.calibration import Calibration as Statistics
    from neurocompile.dumps import Graph
    from neurocompile.targets.schema import Target

_T = 4
"""Of a graph from a file, which does not say how many steps a sample has."""


@command
@with_options("model")
def opt(
    graph: Annotated[
        str,
        typer.Argument(
            metavar="GRAPH",
            help="The .txt of a graph (build --dump writes them), or a MODEL as of build.",
            show_default=False,
        ),
    ],
    options: BuildOptions,
    passes: Annotated[
        str | None,
        typer.Option(metavar="A,B,..", help="Passes in order; by default all that are left."),
    ] = None,
    print_after_all: Annotated[
        bool, typer.Option("--print-after-all", help="Print the graph after each pass.")
    ] = False,
    dump: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write text and tensors after each pass there."),
    ] = None,
    calibration: Calibration = None,
    json_output: Json = False,
) -> Output:
    """Run passes over a graph and print what comes out. A wrong order is refused by name."""
    from neurocompile.dumps import write_graph
    from neurocompile.pass_order import all_passes, chosen_passes, passes_left

    current, settled, target, statistics = _opened(graph, options, calibration)
    known = all_passes(settled, target, statistics)
    if passes is None:
        chosen = passes_left(current, known)
    else:
        chosen = chosen_passes([name for name in passes.split(",") if name], known)
    if dump is not None:
        write_graph(current, dump, "0")
    after: list[tuple[str, str]] = []
    for i, one in enumerate(chosen, 1):
        current = one(current)
        after.append((one.name, current.text()))
        if dump is not None:
            write_graph(current, dump, f"{i}-{one.name}")
    data: dict[str, Any] = {"passes": [name for name, _ in after], "graph": current.text()}
    if print_after_all:
        data["after"] = [{"pass": name, "graph": text} for name, text in after]
    return Output(data, _text(after, current, print_after_all))


def _text(after: list[tuple[str, str]], graph: Graph, every: bool) -> Iterator[Any]:
    if every:
        for name, text in after:
            yield f"; after {name}\n{text}"
    else:
        yield graph.text()


def _opened(
    graph: str, options: BuildOptions, calibration: Path | None
) -> tuple[Graph, BuildOptions, Target, Statistics]:
    """(graph, settled options, target, statistics) of a dumped graph or of a model."""
    from neurocompile.build_steps import statistics_of
    from neurocompile.frontends.door import open_model
    from neurocompile.targets import load_target

    if options.rounding != "nearest":
        raise NeurocompileError(
            "NC1015",
            f"passes one by one know no {argument('rounding', options.rounding)}; a build does",
        )
    target = load_target(options.target)
    if graph.endswith(".txt"):
        return _read(Path(graph), options, target, calibration)
    source, example, _ = source_of(graph)
    model = open_model(source, example, options, calibration=calibration)
    settled = model.options.settled(model.options.steps, target)
    return model.graph, settled, target, statistics_of(model, model.graph)


def _read(
    path: Path, options: BuildOptions, target: Target, calibration: Path | None
) -> tuple[Graph, BuildOptions, Target, Statistics]:
    from neurocompile.calibration import calibrate_on, calibration_from_weights
    from neurocompile.data import load_samples
    from neurocompile.dumps import read_graph
    from neurocompile.ir.spiking import SpikingGraph

    found = read_graph(path)
    if isinstance(found, SpikingGraph):
        T = options.T or found.input.steps or found.exported_T or _T
        found.input.check_steps(T)
    else:
        T = found.steps
    settled = options.settled(T, target)
    statistics = calibration_from_weights(T)
    if calibration is not None and isinstance(found, SpikingGraph) and found.stage != "quantized":
        statistics = calibrate_on(found, load_samples(calibration, found.input.sample_shape).x, T)
    return found, settled, target, statistics
