"""``neurocompile generate``: text that a program writes, character by character."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from neurocompile.cli.common import Artifact, Backend, Device, Json, Output, command


@command
def generate(
    artifact: Artifact,
    prompt: Annotated[str, typer.Option(help="The text to go on with.")],
    characters: Annotated[int, typer.Option(help="How many to write.")] = 40,
    temperature: Annotated[
        float,
        typer.Option(help="0 takes the likeliest character; else drawn from softmax(logits / t)."),
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    backend: Backend = "emulator",
    device: Device = "cpu",
    json_output: Json = False,
) -> Output:
    """Let a program of characters go on with a text.

    Each character is chosen by a sample of its last T characters, from an empty state.
    """
    from neurocompile.artifact.store import load_program

    found = load_program(artifact).generate(
        prompt,
        characters,
        temperature=temperature,
        seed=seed,
        backend=backend,
        device=device,
        progress=True,
    )
    facts = dataclasses.asdict(found)
    line = (
        f"{characters:,} characters in {found.seconds:.1f} s, each by the last {found.window} at most: "
        f"perplexity {found.perplexity:.2f} by its own logits, {found.spikes:,} spikes"
    )
    return Output(facts, iter([f"{found.prompt}|{found.text}", "", line]))
