"""``neurocompile check``: does a model compile, and if not, every reason with its place and what is
supported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from neurocompile.cli.common import Json, Output, command
from neurocompile.cli.model_options import Calibration, Model, source_of, with_options
from neurocompile.options import BuildOptions

if TYPE_CHECKING:
    from neurocompile.check import CheckResult


@command
@with_options("model")
def check(
    model: Model, options: BuildOptions, calibration: Calibration = None, json_output: Json = False
) -> Output:
    """Say whether a model compiles, and if not, why: no mapping, nothing is written. Exit code 1 if
    it does not.
    """
    from neurocompile.check import check_model

    source, example, _ = source_of(model)
    found = check_model(source, example, calibration=calibration, options=options)
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
