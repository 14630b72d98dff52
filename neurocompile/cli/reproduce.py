"""``neurocompile reproduce``: the paper's experiments, run again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import Device, Json, Output, Samples, command
from neurocompile.cli.model_options import Calibration
from neurocompile.errors import NeurocompileError

if TYPE_CHECKING:
    from neurocompile.theory.experiments.result import Result


class Experiment(str, Enum):
    """What to run."""

    table2 = "table2"
    table3 = "table3"
    table4 = "table4"
    table5 = "table5"
    table6 = "table6"
    ablation = "ablation"
    circuits = "circuits"
    complexity = "complexity"
    statements = "statements"


@command
def reproduce(
    experiment: Annotated[
        Experiment,
        typer.Argument(show_default=False, help="Which of the paper's figures and tables."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="DIR", help="Write EXPERIMENT.json and the figure there."
        ),
    ] = None,
    figure_format: Annotated[
        str, typer.Option("--format", metavar="png|svg", help="Of the figure.")
    ] = "png",
    train: Annotated[
        bool,
        typer.Option("--train/--no-train", help="ablation: train one model a number of heads."),
    ] = True,
    epochs: Annotated[
        int, typer.Option(min=1, metavar="N", help="ablation: of each training.")
    ] = 30,
    seeds: Annotated[
        int, typer.Option(min=2, max=10_000, metavar="N", help="table2, table3: random inputs.")
    ] = 10,
    inputs: Annotated[
        int, typer.Option(min=2, max=100_000, metavar="N", help="circuits: random inputs.")
    ] = 200,
    longest: Annotated[
        int, typer.Option(min=8, max=4096, metavar="T", help="circuits: largest T.")
    ] = 4096,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="X.npz",
            help="table4, table6: 'x' and 'y', such as CIFAR-10's test images; or lines 'sentence, tab, class' "
            "(.tsv) for one text model, with training sentences as --calibration.",
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="table4, table6: the zoo's names, ONNX files or package.module:function; by default the "
            "models trained on CIFAR-10. table5: reference models, counted with random weights.",
        ),
    ] = None,
    calibration: Calibration = None,
    samples: Samples = None,
    device: Device = "cpu",
    train_seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="ablation: trainings of each kind.")
    ] = 1,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="ablation: train for each beta and threshold too.")
    ] = False,
    jobs: Annotated[
        int, typer.Option(min=1, metavar="N", help="ablation: trainings at a time.")
    ] = 1,
    json_output: Json = False,
) -> Output:
    """Run an experiment of the paper again, our numbers beside its.

    table2: error and spikes against T. table3: spikes needed for an error. table4: accuracy and
    spikes of trained models beside Theorem 10 (--data). table5: the paper's energies, its claim; with
    --models what architectures do, priced. table6: T predicted and measured, on digits or --data.
    ablation: neurons and heads. circuits: errors of the spiking circuits against T. complexity:
    Theorem 11 and PARITY. statements: all, with status.
    """
    from importlib.util import find_spec

    if figure_format not in ("png", "svg"):
        raise typer.BadParameter("choose png or svg", param_hint="--format")
    if out is not None and find_spec("matplotlib") is None:
        raise NeurocompileError(
            "NC4001", "figures need matplotlib: pip install 'neurocompile[plot]'"
        )
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NeurocompileError(
                "NC5005", f"cannot make the folder '{out}': {error.strerror}"
            ) from error
    if experiment is Experiment.table4 and data is None:
        raise typer.BadParameter("table4 needs trained models' data", param_hint="--data")
    named = None if models is None else tuple(m.strip() for m in models.split(",") if m.strip())
    if data is not None and experiment in (Experiment.table4, Experiment.table6):
        from neurocompile.theory.experiments import real_models

        task = real_models.Task(data, named or real_models.ZOO, calibration, samples, device, out)
        made = real_models.table4 if experiment is Experiment.table4 else real_models.table6_on
        result = made(task, progress=True)
    elif experiment is Experiment.ablation:
        from neurocompile.theory.experiments.ablation import ablation

        result = ablation(
            train, epochs=epochs, progress=True, seeds=train_seeds, retrain=retrain, jobs=jobs
        )
    elif experiment is Experiment.table5 and named:
        from neurocompile.theory.experiments.energy_task import table5_of

        result = table5_of(named, progress=True)
    else:
        result = _run(experiment, seeds, (inputs, longest))
    written = [] if out is None else _write(result, out, figure_format)
    told = {
        "experiment": result.name,
        "setting": result.setting,
        **result.data,
        "notes": list(result.notes),
        "tables": [
            {
                "title": t.title,
                "columns": [c.lstrip(">") for c in t.columns],
                "rows": [[_cell(c) for c in row] for row in t.rows],
            }
            for t in result.tables
        ],
        "files": [str(path) for path in written],
    }
    return Output(told, _text(result, written))


def _cell(value: object) -> object:
    """As the text shows it; numbers stay numbers."""
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)


def _run(experiment: Experiment, seeds: int, circuits: tuple[int, int]) -> Result:
    if experiment is Experiment.circuits:
        from neurocompile.theory.experiments.circuit_task import circuit_task

        return circuit_task(*circuits, progress=True)
    if experiment in (Experiment.table2, Experiment.table3):
        from neurocompile.theory.experiments import attention_task

        return (
            attention_task.table2 if experiment is Experiment.table2 else attention_task.table3
        )(seeds)
    if experiment is Experiment.table6:
        from neurocompile.theory.experiments.timestep_task import table6

        return table6(progress=True)
    if experiment is Experiment.complexity:
        from neurocompile.theory.experiments.complexity_task import complexity_task

        return complexity_task()
    from neurocompile.theory.experiments import claims

    return claims.table5() if experiment is Experiment.table5 else claims.statements()


def _write(result: Result, out: Path, kind: str) -> list[Path]:
    """The numbers as JSON, and the figure if there is one."""
    from neurocompile.files import write_output
    from neurocompile.report.figure import save_figure

    path = out / f"{result.name}.json"
    text = json.dumps({"setting": result.setting, **result.data}, indent=1) + "\n"
    write_output(path, text.encode())
    if result.draw is None:
        return [path]
    save_figure(result.draw(), out / f"{result.name}.{kind}")
    return [path, out / f"{result.name}.{kind}"]


def _text(result: Result, written: list[Path]) -> Iterator[Any]:
    from neurocompile.cli.tables import table

    yield f"{result.name}: {result.setting}"
    for one in result.tables:
        yield f"\n{one.title}\n"
        yield table(one.columns, one.rows)
    if result.notes:
        yield ""
    for note in result.notes:
        yield f"- {note}"
    for path in written:
        yield f"wrote {path}"
