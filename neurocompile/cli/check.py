"""``neurocompile check``: does a model compile, and if not, every reason with its place and what is
supported.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurocompile.cli.common import Json, Output, command

if TYPE_CHECKING:
    from neurocompile.frontends.check import CheckResult


@command
def check(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An ONNX file, or package.module:function that returns (module, example input).",
            show_default=False,
        ),
    ],
    steps: Annotated[
        int,
        typer.Option("--T", min=1, max=1024, metavar="N", help="Simulation steps of one sample."),
    ] = 4,
    per_sample_lif: Annotated[
        bool,
        typer.Option(
            "--per-sample-lif", help="Run a LIF over time and batch for each sample alone."
        ),
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of several outputs: a name, or a number from 0."),
    ] = None,
    json_output: Json = False,
) -> Output:
    """Say whether a model compiles, and if not, why: no mapping, nothing is written. Exit code 1 if
    it does not.
    """
    from neurocompile.frontends.check import check_model
    from neurocompile.frontends.torch.module import is_factory, load_factory

    source: Any = Path(model)
    example = None
    if is_factory(model) and not source.exists():
        source, example = load_factory(model)
    chosen = int(head) if head is not None and head.isdecimal() else head
    found = check_model(source, example, T=steps, per_sample_lif=per_sample_lif, head=chosen)
    return Output(found, _text(found), 0 if found.compiles else 1)


def _text(found: CheckResult) -> Iterator[Any]:
    from neurocompile.cli.tables import table

    if found.compiles:
        yield f"compiles: {found.layers} spiking layers (cores are not counted: 'build' does)"
        return
    count = "1 reason" if len(found.reasons) == 1 else f"{len(found.reasons)} reasons"
    yield f"does not compile: {count}, found at {found.stage}\n"
    rows = [
        (
            r.code,
            f"{r.module or r.node}{f' ({r.kind})' if r.kind else ''}",
            r.operator,
            r.supported or r.why,
        )
        for r in found.reasons
    ]
    yield table(("code", "where", "operator", "what is supported, or why not"), rows)
