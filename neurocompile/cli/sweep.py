"""``neurocompile sweep``: one model built for many T, bits, folds and targets."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from neurocompile.cli.common import Device, Json, Output, Samples, check_output, command
from neurocompile.cli.model_options import Calibration, Model, source_of, with_options
from neurocompile.options import BuildOptions

if TYPE_CHECKING:
    from neurocompile.sweeping.sweep import Found, Sweep


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in _listed(text)]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not numbers such as 1,2,4", param_hint=option
        ) from None


@command
@with_options("model", but=("target", "T", "weight_bits"))
def sweep(
    model: Model,
    options: BuildOptions,
    data: Annotated[
        Path, typer.Option(metavar="X.npz", help="'x' (samples first), and 'y' if known.")
    ],
    timesteps: Annotated[
        str | None, typer.Option("--T", metavar="N,N", help="By default the model's own.")
    ] = None,
    bits: Annotated[
        str | None, typer.Option(metavar="B,B", help="Of the weights; by default the target's.")
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option("--fold", metavar="F,F", help="none, auto (the default), or RxC (1x32)."),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option("--target", metavar="NAME,NAME", help="Of 'targets', or YAML files."),
    ] = None,
    calibration: Calibration = None,
    samples: Samples = None,
    counted: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Samples whose packets are counted on each mapping; 0: modelled from rates.",
        ),
    ] = 4,
    profile: Annotated[
        str, typer.Option(metavar="NAME,NAME", help="Of energy, as 'energy' takes them.")
    ] = "davies2018",
    evaluate: Annotated[
        bool, typer.Option("--evaluate/--no-evaluate", help="Accuracy and spikes.")
    ] = True,
    place: Annotated[
        bool, typer.Option("--place/--no-place", help="Cores, steps, packets and energy.")
    ] = True,
    device: Device = "cpu",
    jobs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes, by default one a processor.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="local|tcp://HOST:PORT|slurm",
            help="Workers of dask, --jobs of them (extra: cluster).",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of placement.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR",
            help="Folder of records, one file a result: the same command goes on from there.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="P.png|P.svg", help="Picture of the fronts (extra: plot)."),
    ] = None,
    json_output: Json = False,
) -> Output:
    """Build a model for every T, bits, fold and target of a list, and compare what each costs.

    Accuracy and spikes are exact: of the integers, on every sample. Cores, steps, packets and energy
    are of the mapped program. With --out a killed sweep goes on where it was.
    """
    from neurocompile.sweeping.sweep import sweep as run

    if plot is not None:
        check_output(plot, data, calibration)
    source, example, _ = source_of(model)
    chips = None if targets is None else _listed(targets)
    found = run(
        source,
        example,
        data=data,
        timesteps=None if timesteps is None else _numbers("--T", timesteps),
        bits=None if bits is None else _numbers("--bits", bits),
        folds=None if folds is None else _listed(folds),
        targets=chips,
        calibration=calibration,
        samples=samples,
        counted=counted,
        profiles=_listed(profile),
        evaluate=evaluate,
        place=place,
        device=device,
        jobs=jobs,
        cluster=cluster,
        out=out,
        progress=_Shown(),
        options=msgspec.structs.replace(options, seed=seed, target=chips[0] if chips else "loihi2"),
    )
    picture = None if plot is None else _picture(found, plot)
    return Output(_data(found, picture), _text(found, picture))


def _picture(found: Sweep, path: Path) -> Path:
    from neurocompile.report.figure import save_figure
    from neurocompile.sweeping.pareto import draw

    save_figure(draw(found), path)
    return path


class _Shown:
    """A line on stderr that says how far it is and how long the rest will take."""

    def __init__(self) -> None:
        self._start, self._shown = time.monotonic(), sys.stderr.isatty()

    def __call__(self, label: str, done: int, total: int) -> None:
        if not self._shown:
            return
        spent = time.monotonic() - self._start
        left = spent / done * (total - done)
        end = "\n" if done == total else "\r"
        print(
            f"\x1b[2K  {done:,} of {total:,}, about {left:,.0f} s left: {label}",
            end=end,
            file=sys.stderr,
            flush=True,
        )


def _data(found: Sweep, picture: Path | None) -> dict[str, Any]:
    from neurocompile.sweeping.pareto import front

    return {
        "settings": found.settings,
        "folder": None if found.folder is None else str(found.folder),
        "picture": picture,
        "points": [_point(one) for one in found],
        "front": [one.point.name for one in front(found)],
    }


def _point(one: Found) -> dict[str, Any]:
    at, evaluation = one.point.integers, one.evaluation
    return {
        "target": at.target,
        "T": at.T,
        "bits": at.bits,
        "fold": one.point.fold,
        "accuracy": None if evaluation is None else evaluation.accuracy,
        "spikes_a_sample": None if evaluation is None else evaluation.spikes_a_sample,
        "evaluation": evaluation,
        "placement": one.placement,
    }


def _text(found: Sweep, picture: Path | None) -> Iterator[Any]:
    from neurocompile.cli.tables import table
    from neurocompile.sweeping.pareto import front

    settings = found.settings
    yield f"{settings.model}: {len(found):,} points on {settings.samples:,} samples; bit-exact on the CPU or a GPU, NOT hardware\n"
    columns = (
        "target",
        ">T",
        ">bits",
        "fold",
        ">accuracy",
        ">spikes",
        ">cores",
        ">steps",
        ">packets",
        ">energy, uJ",
    )
    yield table(columns, [_row(one) for one in found])
    yield ""
    yield (
        "spikes: of the model's layers, a sample. energy: dynamic, modelled with the constants of "
        + settings.profiles[0]
    )
    problems: dict[tuple[str, str], str] = {}
    for one in found:
        for record in (one.evaluation, one.placement):
            if record is not None and record.problem is not None:
                problems.setdefault((record.problem.code, record.problem.message), one.point.name)
    for (code, message), name in problems.items():
        yield f"{name}: {code} {message.splitlines()[0]}"
    best = [one.point.name for one in front(found)]
    if best:
        yield f"beaten by none in error, cores, steps and energy: {', '.join(best)}"
    if picture is not None:
        yield f"wrote {picture}"
    if found.folder is not None:
        yield f"records in {found.folder}"


def _row(one: Found) -> tuple[Any, ...]:
    at, e, p = one.point.integers, one.evaluation, one.placement
    fold = one.point.fold
    if p is not None and p.fold not in ("", fold):
        fold = f"{fold}: {p.fold}"
    seen = ("", "") if e is None else ("", f"{e.spikes_a_sample:,.0f}")
    if e is not None and e.problem is not None:
        seen = (e.problem.code, "")
    elif e is not None and e.accuracy is not None:
        seen = (f"{e.accuracy:.2%}", seen[1])
    if p is None:
        costs: tuple[Any, ...] = ("", "", "", "")
    elif p.problem is not None:
        costs = (p.problem.code, "", "", "")
    else:
        joules = next(iter(p.energy_pj.values()), None)
        energy = "" if joules is None else f"{joules / 1e6:,.1f}"
        costs = (f"{p.cores:,}", f"{p.steps:,}", f"{p.packets:,.0f}", energy)
    return (at.target, at.T, at.bits, fold, *seen, *costs)
