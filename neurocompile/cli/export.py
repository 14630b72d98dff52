"""``neurocompile export``: a program in a form that others read."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from neurocompile.cli.common import Artifact, Json, Output, check_output, command


class Form(str, Enum):
    """What is written."""

    cores = "cores"
    lava = "lava"
    nir = "nir"
    sanafe = "sanafe"


_SUFFIX = {Form.cores: "nci", Form.lava: "py", Form.nir: "nir"}


@command
def export(
    form: Annotated[
        Form,
        typer.Argument(
            help="cores: the tables of every core, one .nci file. lava: Python code for Lava, a .py and an .npz. "
            "nir: the network as a NIR file, .nir. sanafe: a folder for SANA-FE, of one sample."
        ),
    ],
    artifact: Artifact,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="By default the artifact's name + .nci, .py, .nir or -sanafe, here.",
        ),
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="sanafe: an .npz file with array x."),
    ] = None,
    sample: Annotated[int, typer.Option(min=0, help="sanafe: which sample of it.")] = 0,
    profile: Annotated[
        str, typer.Option(help="sanafe: energies and times of this profile.")
    ] = "davies2018",
    json_output: Json = False,
) -> Output:
    """Write a program for others to read."""
    from neurocompile.artifact.store import load_program
    from neurocompile.data import load_samples
    from neurocompile.errors import NeurocompileError

    data: dict[str, Any] = {"form": form.value}
    if form is Form.sanafe:
        folder = output or Path(f"{artifact.stem}-sanafe")
        if input_file is None:
            raise NeurocompileError("NC6002", "export sanafe needs the spikes of a sample: --input")
        program = load_program(artifact)
        x = load_samples(input_file, program.input_shape, steps=program.frames).x
        if sample >= len(x):
            raise NeurocompileError(
                "NC1006", f"'{input_file}' has {len(x):,} samples; --sample is {sample:,}"
            )
        written = program.export_sanafe(folder, x[sample], profile=profile)
        data |= written._asdict() | {"folder": str(folder), "output": str(folder)}
        told = (
            f"{written.groups:,} groups, {written.neurons:,} neurons, {written.synapses:,} synapses; "
            f"python {folder}/run.py"
        )
        return Output(data, [f"{artifact} -> {folder}: {told}"])
    output = check_output(output or Path(f"{artifact.stem}.{_SUFFIX[form]}"), artifact)
    program = load_program(artifact)
    if form is Form.lava:
        code, weights = program.export_lava(output)
        data |= {"output": str(code), "weights": str(weights), "bytes": weights.stat().st_size}
        return Output(data, [f"{artifact} -> {code} and {weights.name}; python {code} X.npz"])
    if form is Form.nir:
        from neurocompile.discretization import EXPORTED

        program.export_nir(output)
        data |= {"output": str(output), "bytes": output.stat().st_size, "discretize": EXPORTED}
        return Output(
            data,
            [f"{artifact} -> {output}; read it with --discretize {EXPORTED}, inputs as integers"],
        )
    program.save_images(output, progress=True)
    size, cores = output.stat().st_size, program.mapping.cores_used
    text = f"{artifact} -> {output}: images of {cores:,} cores, {size:,} bytes"
    return Output(data | {"output": str(output), "cores": cores, "bytes": size}, [text])
