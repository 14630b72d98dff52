"""``neurocompile deff``: the effective dimension of data."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import Json, Output, check_output, command, device_name

if TYPE_CHECKING:
    from neurocompile.theory.measure.effective_dimension import EffectiveDimension


class Dataset(str, Enum):
    """Data that the paper measured."""

    cifar10 = "cifar10"
    cifar100 = "cifar100"
    imagenet = "imagenet"
    sst2 = "sst2"


@command
def deff(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA.npz", help="'x' (samples first), or a .npy file.", show_default=False
        ),
    ],
    quantile: Annotated[float, typer.Option(metavar="Q", help="Share of the variance.")] = 0.95,
    dataset: Annotated[
        Dataset | None, typer.Option(help="Print the paper's number for it beside ours.")
    ] = None,
    subsamples: Annotated[int, typer.Option(metavar="N", help="Random subsamples.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the subsamples and of the sketch.")] = 0,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            metavar="DEVICE",
            callback=device_name,
            help="cuda, cuda:N (one GPU) or torch-cpu: float64 products by torch there.",
        ),
    ] = "cpu",
    picture: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the spectrum: a .png or .svg file."),
    ] = None,
    json_output: Json = False,
) -> Output:
    """Measure the effective dimension of data (Definition 3).

    The number of principal components that hold 95 % of the variance: of all samples, and mean and
    standard deviation over random subsamples of 80 %. Exact up to 4,096 numbers a sample, an upper
    bound from a randomized sketch beyond.
    """
    check_plot(picture, data)

    from neurocompile.theory.measure.deff import deff as measure
    from neurocompile.theory.measure.effective_dimension import PAPER_DIMENSIONS

    found = measure(data, quantile, subsamples=subsamples, seed=seed, device=device, progress=True)
    paper = PAPER_DIMENSIONS[dataset.value] if dataset else None
    if picture is not None:
        from neurocompile.report.figure import save_figure
        from neurocompile.theory.measure.spectrum_plot import draw_spectrum

        save_figure(draw_spectrum(found, data.name.replace("$", "\\$"), paper), picture)
    return Output(_data(found, paper, picture, data), _text(found, paper, picture, data))


def check_plot(picture: Path | None, *inputs: Path | None) -> None:
    """NC5005 or NC4001 before any work, if ``picture`` cannot be drawn."""
    if picture is None:
        return
    from importlib.util import find_spec

    from neurocompile.errors import NeurocompileError

    if picture.suffix.lower() not in (".png", ".svg"):
        raise typer.BadParameter(f"'{picture}' ends in neither .png nor .svg", param_hint="--plot")
    if find_spec("matplotlib") is None:
        raise NeurocompileError("NC4001", "plots need matplotlib: pip install 'neurocompile[plot]'")
    check_output(picture, *inputs)


def _data(
    found: EffectiveDimension, paper: float | None, picture: Path | None, data: Path
) -> dict[str, Any]:
    held = None if paper is None else found.spectrum.held(round(paper))
    return {
        "data": str(data),
        "quantile": found.quantile,
        "samples": found.samples,
        "width": found.width,
        "mean": found.mean,
        "std": found.std,
        "full": found.full,
        "curve": [list(point) for point in found.curve],
        "limited_by_samples": found.limited,
        "uncertainty": found.uncertainty,
        "subsamples": list(found.subsamples),
        "compression_ratio": found.ratio,
        "method": found.method,
        "exact": found.spectrum.exact,
        "kind": "measured",
        "paper": paper,
        "paper_kind": None if paper is None else "claim",
        "paper_holds": held,
        "plot": None if picture is None else str(picture),
    }


def _text(
    found: EffectiveDimension, paper: float | None, picture: Path | None, data: Path
) -> Iterator[Any]:
    from neurocompile.cli.tables import facts

    yield f"{data}: {found.samples:,} samples of {found.width:,} numbers\n"
    one = f"components that hold {found.quantile:.4g} of the variance"
    rows = [
        (
            "effective dimension",
            f"{found.mean:,.1f} +- {found.std:.1f}",
            f"measured; over {len(found.subsamples)} subsamples: "
            + " ".join(map(str, found.subsamples)),
        ),
        ("of all samples", f"{found.full:,}", one),
        (
            "of fewer samples",
            ", ".join(f"{k:,} of {n:,}" for n, k in found.curve[:-1]) or "too few to halve",
            f"the samples limit it: at least {found.full:,}"
            if found.limited
            else f"more samples would add about {found.growth:,}",
        ),
        ("numbers / dimension", f"{found.ratio:,.1f}", "the paper's compression ratio"),
        ("method", "exact" if found.spectrum.exact else "randomized", found.method),
    ]
    if paper is not None:
        share = found.spectrum.held(round(paper))
        rows.append(
            (
                "the paper's",
                f"{paper:g}",
                f"its claim; on these data so many components hold {share:.1%}",
            )
        )
    yield facts(rows)
    if picture is not None:
        yield f"\nwrote {picture}"
