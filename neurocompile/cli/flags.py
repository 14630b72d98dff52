"""Arguments that a message names, as this command line's flags.

The library writes arguments as Python has them, between backquotes (``errors.argument``):
```weight_bits=4```. Everything that a command prints passes here: ``--weight-bits 4``.
"""

from __future__ import annotations

import re

__all__ = ["FLAGS", "as_flags"]

FLAGS = {
    name: f"--{name.replace('_', '-')}"
    for name in (
        "T",
        "accuracy",
        "budget",
        "buffer",
        "calibration",
        "cluster",
        "data",
        "device",
        "digits",
        "discretize",
        "epsilon",
        "estimate_only",
        "fold",
        "force",
        "grids",
        "head",
        "jobs",
        "lr",
        "max_cores",
        "max_steps",
        "measured",
        "on_cores",
        "out",
        "parity",
        "passes",
        "per_sample_lif",
        "quantile",
        "radius",
        "rounding",
        "schema",
        "seed",
        "show",
        "sign",
        "target",
        "timings",
        "train",
        "weight_bits",
    )
}
"""Argument -> flag: each is an option of a command (a test)."""
_ARGUMENT = re.compile(r"`(\w+)(?:=(?:'([^'`]*)'|([^`]*)))?`")


def as_flags(text: str) -> str:
    """``text`` with the arguments that it names as flags; other words between backquotes stay."""
    return _ARGUMENT.sub(_flag, text)


def _flag(found: re.Match[str]) -> str:
    name, value = found[1], found[2] if found[2] is not None else found[3]
    if name not in FLAGS:
        return found[0]
    if value in ("True", "False"):
        return FLAGS[name] if value == "True" else f"--no-{FLAGS[name][2:]}"
    return FLAGS[name] if value is None else f"{FLAGS[name]} {value}"
