"""``neurocompile doctor``: what this machine can do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from neurocompile.cli.common import Json, Output, command

if TYPE_CHECKING:
    from neurocompile.doctor import Check


@command
def doctor(json_output: Json = False) -> Output:
    """Check this machine: libraries, Lava, GPU.

    Each line says OK, absent (with the way to get it) or problem (with the way out). Exit code 1 on
    a problem.
    """
    from neurocompile.doctor import diagnose

    checks = diagnose()
    healthy = all(check.status != "problem" for check in checks)
    return Output(
        {"ok": healthy, "checks": [asdict(check) for check in checks]},
        _text(checks),
        0 if healthy else 1,
    )


def _text(checks: list[Check]) -> Iterator[Any]:
    width = max(len(check.name) for check in checks)
    for check in checks:
        yield f"{check.status:<7}  {check.name:<{width}}  {check.found}"
        if check.advice:
            yield f"{'':<7}  {'':<{width}}  -> {check.advice}"
