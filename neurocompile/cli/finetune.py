"""``neurocompile finetune``: a model trained further with its weights rounded as they compile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from neurocompile.advice import warn
from neurocompile.cli.common import Json, Output, check_output, command
from neurocompile.cli.model_options import Model, source_of, with_options
from neurocompile.errors import NeurocompileError
from neurocompile.options import BuildOptions

_MOST = 512
"""Samples of the statistics that the file keeps."""


@command
@with_options("model")
def finetune(
    model: Model,
    options: BuildOptions,
    data: Annotated[
        Path, typer.Option(metavar="X.npz", help="'x' to train on, float32, and 'y' if known.")
    ],
    bits: Annotated[int, typer.Option(min=2, max=8, metavar="B", help="Of the weights.")] = 4,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT.onnx",
            help="By default the model's name + -Bbit.onnx, here.",
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            metavar="Y.npz", help="Other samples, 'x' and 'y', to count before and after."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, metavar="N", help="Passes over the samples.")] = 10,
    lr: Annotated[float, typer.Option(metavar="R", help="Highest learning rate of Adam.")] = 5e-4,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Samples a step.")] = 64,
    device: Annotated[str, typer.Option(metavar="cpu|cuda", help="To train on.")] = "cpu",
    json_output: Json = False,
) -> Output:
    """Train a model further with its weights rounded to few bits, and write it as ONNX.

    The unrounded model is the teacher; classes 'y' help where they are known. What is written lies on
    the compiler's grid: `neurocompile build OUT.onnx --weight-bits B` keeps every weight.
    """
    if output is not None:
        output = check_output(output, Path(model), data)
    source, example, name = source_of(model)
    output = output or check_output(Path(f"{name}-{bits}bit.onnx"), Path(model), data)

    from neurocompile.data import load_samples
    from neurocompile.qat.outcome import gain_of, write
    from neurocompile.qat.training import finetune as trained

    found = trained(
        source,
        example,
        data=data,
        bits=bits,
        epochs=epochs,
        learning_rate=lr,
        batch=batch,
        device=device,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
        options=options,
    )
    shape = found.model.graph.input.sample_shape
    gain = None
    if test is not None:
        samples = load_samples(test, shape)
        if samples.y is None:
            raise NeurocompileError(
                "NC1012", f"'{test}' has no 'y' to count correct predictions by"
            )
        gain = gain_of(found.model, samples.x, samples.y)
    differs = write(found.model, output, load_samples(data, shape, _MOST).x)
    if differs is not None:
        warn(
            f"'{output}' compiles to other spikes than were trained, first in layer '{differs}': its "
            "fields do not hold the trained grid; count with the compiled model"
        )
    facts: dict[str, Any] = {
        "output": str(output),
        "bits": bits,
        "losses": list(found.losses),
        "kept": differs is None,
        "correct": None if gain is None else asdict(gain),
    }
    return Output(facts, _text(facts))


def _text(facts: dict[str, Any]) -> Iterator[Any]:
    from neurocompile.cli.tables import table

    bits, found = facts["bits"], facts["correct"]
    if found is not None:
        total = found["samples"]
        rows = [
            ("as it came, unrounded", found["float"]),
            (f"compiled to {bits} bits", found["rounded"]),
            (f"fine-tuned, compiled to {bits} bits", found["finetuned"]),
        ]
        yield table(
            ("model", f">correct of {total:,}", ">"),
            [(what, f"{n:,}", f"{n / total:.2%}") for what, n in rows],
        )
    yield f"loss {facts['losses'][0]:.4f} -> {facts['losses'][-1]:.4f} in {len(facts['losses'])} epochs"
    yield f"wrote {facts['output']}; compile it with --weight-bits {bits}"
