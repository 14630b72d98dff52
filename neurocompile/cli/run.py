"""``neurocompile run``: an artifact on samples."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import (
    Artifact,
    Backend,
    Device,
    Json,
    MaybeInput,
    Output,
    Samples,
    Sentences,
    check_output,
    command,
)

if TYPE_CHECKING:
    from neurocompile.run_result import RunResult

_SHOWN = 40
"""Predictions shown as text."""


@command
def run(
    artifact: Artifact,
    samples_file: MaybeInput = None,
    text: Sentences = None,
    backend: Backend = "emulator",
    device: Device = "cpu",
    samples: Samples = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT.npz", help="Write logits, predictions, rates by layer."
        ),
    ] = None,
    rasters: Annotated[
        bool, typer.Option("--rasters", help="Write every spike of every layer to OUT.npz too.")
    ] = False,
    json_output: Json = False,
) -> Output:
    """Run samples or sentences: predictions, accuracy, spikes."""
    if (samples_file is None) == (not text):
        raise typer.BadParameter("give samples or sentences", param_hint="--input or --text")
    if rasters and output is None:
        raise typer.BadParameter("rasters are written to -o OUT.npz", param_hint="--rasters")
    if output is not None:
        if output.suffix.lower() != ".npz":
            raise typer.BadParameter(f"'{output}' does not end in .npz", param_hint="-o")
        check_output(output, artifact, *[f for f in (samples_file,) if f is not None])

    from neurocompile.artifact.store import load_program
    from neurocompile.data import load_samples

    program = load_program(artifact)
    x: Any = text
    labels = None
    if samples_file is not None:
        data = load_samples(samples_file, program.input_shape, samples, program.frames)
        x, labels = data.x, data.y
    start = time.perf_counter()
    result = program.run(x, backend, device=device, rasters=rasters, progress=True)
    seconds = time.perf_counter() - start
    if output is not None:
        result.save(output)
    labelled = labels is not None and len(result.predictions) > 0
    found = _data(result, result.accuracy(labels) if labelled else None, seconds)
    found["output"] = None if output is None else str(output)
    return Output(found, _text(found, samples_file is not None))


def _data(result: RunResult, accuracy: float | None, seconds: float) -> dict[str, Any]:
    count = len(result.logits)
    return {
        "backend": result.backend,
        "banner": result.banner,
        "samples": count,
        "seconds": seconds,
        "accuracy": accuracy,
        "outside": result.outside,
        "predictions": result.predictions.tolist() if len(result.predictions) else None,
        "output_shape": list(result.logits.shape[1:]),
        "outputs": None if len(result.predictions) else result.logits.tolist(),
        "heads": _heads(result) if len(result.outputs) > 1 else [],
        "spikes": sum(result.spikes.values()),
        "layers": result.layers,
    }


def _heads(result: RunResult) -> list[dict[str, Any]]:
    """Every output by name, with the predictions of what is a classification."""
    from neurocompile.run_result import classes_of

    found = []
    for name, values in result.outputs.items():
        classes = classes_of(values)
        found.append(
            {
                "name": name,
                "shape": list(values.shape[1:]),
                "predictions": classes.tolist() if len(classes) else None,
                "values": values.tolist(),
            }
        )
    return found


def _text(found: dict[str, Any], from_file: bool) -> Iterator[Any]:
    from neurocompile.cli.tables import table

    count, predictions = found["samples"], found["predictions"]
    yield f"{found['banner']}: {count:,} samples in {found['seconds']:.2f} s\n"
    if predictions is None:
        yield f"outputs      {[count, *found['output_shape']]}, samples first: --json lists them\n"
    else:
        yield from _predictions(found["accuracy"], predictions, from_file)
    if found["heads"]:
        yield "outputs (samples first; --json lists their values)\n"
        shown = [
            (h["name"], str([count, *h["shape"]]), "classes" if h["predictions"] else "")
            for h in found["heads"]
        ]
        yield table(("output", "shape", ""), shown)
        yield ""
    if not found["layers"]:
        yield "spikes of layers are not read back on this backend"
        yield from _written(found)
        return
    rows = [
        (r["layer"], f"{r['spikes']:,}", f"{r['per_inference']:,.1f}", f"{r['rate']:.4f}")
        for r in found["layers"]
    ]
    total = ("all", f"{found['spikes']:,}", f"{found['spikes'] / count:,.1f}", "")
    yield "spikes (rate: per neuron and step)\n"
    yield table(("layer", ">total", ">per inference", ">rate"), [*rows, total])
    yield from _written(found)


def _written(found: dict[str, Any]) -> Iterator[str]:
    if found["output"] is not None:
        yield f"wrote {found['output']}"


def _predictions(accuracy: float | None, predictions: list[int], from_file: bool) -> Iterator[str]:
    count = len(predictions)
    shown = " ".join(map(str, predictions[:_SHOWN]))
    rest = f" ... ({count - _SHOWN:,} more: --json lists all)" if count > _SHOWN else ""
    yield f"predictions  {shown}{rest}"
    if not from_file:
        yield ""
    elif accuracy is None:
        yield "accuracy     unknown: the file has no 'y'\n"
    else:
        yield f"accuracy     {accuracy:.2%}\n"
